"""The report on corrected labels: one HTML file, without scripts or external resources."""

import base64
import io
from collections import Counter

import numpy as np
from PIL import Image

from chainer_jo.report.curves import curves
from chainer_jo.report.escape import plain
from chainer_jo.report.label_table import summary
from chainer_jo.report.templates import template

NAME = 'report.html'
#: The most images in the report, so that the file stays small.
MOST_IMAGES = 400
FIRST_IMAGES = 24
#: A larger matrix would be unreadable, so with more classes the most common pairs are listed.
MOST_COLUMNS = 12
MOST_PAIRS = 40
MOST_LEFT_OUT = 200
CURVES = {
    'main/accuracy': 'training images, by the labels in use',
    'validation/main/accuracy': 'images held out, by the labels as given',
}


def page(table, classes, images, log, facts):
    """Returns the report as HTML.

    Args:
        table (list of dict): The rows of ``labels.csv``.
        classes (sequence of str): Names of the classes.
        images (callable): Maps the path of an image to its pixels, ``(channels, H, W)``, uint8.
        log (list of dict): A row for each epoch.
        facts (dict): ``folder``, ``command``, ``others`` (number of files that are not images),
            ``size`` (side of the square images, in pixels), ``threshold``, ``seconds`` of training,
            ``trial``, ``version`` and ``data``, the digest.
    """
    judged = [row for row in table if 'label_score' in row]
    issues = [row for row in judged if row['is_label_issue'] and not row['final_label']]
    issues.sort(key=lambda row: (float(row['label_score']), row['path']))
    by_class = {}
    for row in issues:
        by_class.setdefault(row['given_label'], []).append(row)
    # At least four images per class, as long as there is room: no class fills the report alone.
    each = max(4, (MOST_IMAGES - FIRST_IMAGES) // max(1, len(by_class)))
    room = MOST_IMAGES - min(FIRST_IMAGES, len(issues))
    sections = []
    for label, rows in sorted(by_class.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = rows[: min(each, room)]
        room -= len(shown)
        sections.append((label, len(rows), [_card(row, images) for row in shown]))
    pairs = Counter(
        (row['given_label'], row['corrected_label']) for row in judged if row['given_label']
    )
    changed = [(*pair, n) for pair, n in pairs.most_common() if pair[0] != pair[1]]
    # Answers may have emptied a class; its row shows where its images went.
    named = sorted({*classes, *(given for given, _ in pairs)})
    groups = {}
    for row in judged:
        if row['reason'].startswith('the same'):
            groups.setdefault(row['duplicate_group'], []).append(row)
    left_out = [row for row in table if 'label_score' not in row]
    return template('corrections.html').render(
        facts=facts,
        found=summary(table),
        finding=finding(table, classes),
        first=[_card(row, images) for row in issues[:FIRST_IMAGES]],
        sections=sections,
        matrix=_matrix(pairs, named) if len(named) <= MOST_COLUMNS else None,
        pairs=changed[:MOST_PAIRS],
        hidden_pairs=max(0, len(changed) - MOST_PAIRS),
        classes=named,
        groups=list(groups.values())[:MOST_PAIRS],
        hidden_groups=max(0, len(groups) - MOST_PAIRS),
        left_out=left_out[:MOST_LEFT_OUT],
        hidden=max(0, len(left_out) - MOST_LEFT_OUT),
        curves=curves(log, CURVES),
    )


def finding(table, classes):
    """Returns a sentence that sums up what was found.

    Args:
        table (list of dict): The rows of ``labels.csv``.
        classes (sequence of str): Names of the classes.
    """
    found = summary(table)
    share = 100 * found['issues'] / max(1, found['judged'])
    words = (
        f'{found["issues"]:,} of {found["judged"]:,} labels ({share:.1f} %) in {len(classes):,} '
        'classes are doubtful'
    )
    pairs = Counter(
        (row['given_label'], row['final_label'] or row['predicted_label'])
        for row in table
        if row.get('is_label_issue')
    )
    if pairs:
        (given, likely), count = pairs.most_common(1)[0]
        words += f', most often {plain(given, 40)} instead of {plain(likely, 40)} ({count:,})'
    if found['issues']:
        words += (
            f'; {found["changed"]:,} of them {"is" if found["changed"] == 1 else "are"} changed'
        )
    if found['conflicts']:
        words += f'; {_images(found["conflicts"])} present several times with different labels'
    if found['left_out']:
        words += f'; {_images(found["left_out"])} left out'
    return f'{words}.'


def _images(count):
    return '1 image is' if count == 1 else f'{count:,} images are'


def _card(row, images):
    return row | {'image': _data(images(row['path']))}


def _data(pixels):
    """Returns pixels, ``(channels, H, W)``, uint8, as a data URI."""
    array = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    # PNG is lossless, but too large for larger images.
    kind, options = ('PNG', {}) if array.shape[0] <= 32 else ('JPEG', {'quality': 80})
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, kind, **options)
    return f'data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}'


def _matrix(pairs, classes):
    return [(given, [pairs[given, corrected] for corrected in classes]) for given in classes]
