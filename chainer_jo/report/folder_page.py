"""The HTML page of a results folder: its tables and figures, and the curves of every trial."""

import base64
import json
from urllib.parse import unquote

import numpy as np
from markdown_it import MarkdownIt
from markupsafe import Markup

from chainer_jo import store
from chainer_jo.datasets.label_files import load_noise
from chainer_jo.errors import ChainerJoError
from chainer_jo.report.curves import curves
from chainer_jo.report.escape import anchor
from chainer_jo.report.markdown import percent
from chainer_jo.report.templates import template

NAME = 'report.html'
MARK = """<!DOCTYPE html>
<!-- Made by python -m chainer_jo report. Delete this line to keep a page of your own. -->"""
CURVES = {
    'test/main/accuracy': 'test accuracy',
    'validation/main/accuracy': 'validation accuracy',
    'label_accuracy': 'share of correct labels',
}
#: A larger matrix would be unreadable.
MOST_CLASSES = 20


def page(trials, text, command):
    """Returns the page as HTML.

    Args:
        trials (Trials): Those of the folder.
        text (str): The Markdown page of the folder, with links to figures in it.
        command (callable): Maps a trial's configuration to the command that runs it.
    """
    out = trials.out
    shown = [
        _trial(out, result, trials.logs.get(result['trial'], []), command)
        for result in trials.results
    ]
    return template('folder_page.html').render(
        mark=Markup(MARK),
        name=out.name,
        # Markup: text from results has already been escaped in the Markdown.
        tables=Markup(_markdown(out).render(text)),
        trials=shown,
        without_labels=sum(not trial['confusion'] for trial in shown),
    )


def _trial(out, result, log, command):
    accuracies = ', '.join(
        f'{which} {percent(result[which]["test_accuracy"]) or "unknown"}'
        for which in ('best', 'last')
    )
    return {
        'id': result['trial'],
        'accuracies': f'Test accuracy in percent: {accuracies}; epochs: {result["epochs"]}.',
        'curves': curves(log, CURVES),
        'command': command(result['config']),
        'settings': json.dumps(result['config'], indent=2, ensure_ascii=True),
        'confusion': _confusion(out / 'runs' / result['trial'], result),
    }


def _confusion(folder, result):
    """Returns titles and confusion matrices, true class by label, before and after training."""
    try:
        noisy, true, _ = load_noise(folder / 'noisy_labels.arrays')
        y = store.read_arrays(folder / 'labels.arrays')['y']
    except (ChainerJoError, OSError, KeyError):
        # The page is shown without them: these files need not be kept.
        return []
    digests = result['noise']['digest'], result.get('digests', {}).get('labels')
    if true is None or (store.digest(noisy), store.digest(y)) != digests:
        # No true labels are known, or the files are not this result's.
        return []
    if true.shape != noisy.shape or true.dtype.kind not in 'iu' or true.min(initial=0) < 0:
        return []
    corrected = y.argmax(axis=1)
    n_class = int(max(true.max(), noisy.max(), corrected.max())) + 1
    if n_class > MOST_CLASSES:
        return []
    return [
        (title, _counts(true, labels, n_class))
        for title, labels in (
            ('Labels before training', noisy),
            ('Labels after training', corrected),
        )
    ]


def _counts(true, labels, n_class):
    counts = np.zeros((n_class, n_class), int)
    np.add.at(counts, (true, labels), 1)
    return counts.tolist()


def _markdown(out):
    # Raw HTML is allowed because it comes only from this package; text from results is escaped.
    markdown = MarkdownIt('commonmark', {'html': True}).enable('table')

    def table_open(tokens, i, *_):
        return '<div class="wide" tabindex="0" role="region" aria-label="Table"><table>'

    def image(tokens, i, *_):
        token, path = tokens[i], out / unquote(tokens[i].attrs['src'])
        alt = f'Figure {token.content}; its numbers are in the CSV file next to it'
        if not path.is_file():
            return f'({alt})'
        picture = base64.b64encode(path.read_bytes()).decode()
        return f'<img alt="{alt}" loading="lazy" src="data:image/png;base64,{picture}">'

    rules = {
        'table_open': table_open,
        'table_close': lambda *_: '</table></div>',
        'th_open': lambda *_: '<th scope="col">',
        'image': image,
    }
    markdown.renderer.rules |= rules
    markdown.core.ruler.push('anchors', _anchors)
    return markdown


def _anchors(state):
    """Gives headings the same anchors as GitHub does, since the page links to these."""
    for opened, inline in zip(state.tokens, state.tokens[1:], strict=False):
        if opened.type == 'heading_open':
            opened.attrSet('id', anchor(inline.content))
