"""Makes the tables, figures and README of an output folder, from results and the paper's data."""

import contextlib
import functools
import json
from dataclasses import dataclass
from pathlib import Path

from chainer_jo import config, paper, store
from chainer_jo.errors import ConfigError
from chainer_jo.report import (
    fields,
    figures,
    folder_page,
    lines,
    markdown,
    paired,
    readme,
    reference,
    tables,
)
from chainer_jo.report.cells import cells, overrides
from chainer_jo.report.collect import Trials
from chainer_jo.report.readme import figure_name


@dataclass(frozen=True)
class Report:
    """A table made from the results of an output folder.

    Attributes:
        grid (dict): ``paper.grid`` with ``table``, ``preset``, ``titles`` and ``name``, the name of
            its files.
        cells (list of Cell): Trials by cell.
        rows (list of dict): The rows of ``report TABLE --json``.
        markdown (str): The table as text.
        unreadable (list of dict): ``path`` and ``problem`` of files that were not used.
        pairs (list of dict): See :func:`chainer_jo.report.paired.pairs`.
    """

    grid: dict
    cells: list
    rows: list
    markdown: str
    unreadable: list
    pairs: list = ()


def read(table, preset, out, trials=None):
    """Returns the Report of a table from ``out``, with the committed runs; writes nothing.

    Args:
        trials (Trials): Those in ``out``, if they have been read.

    Raises:
        ConfigError: There is no such table or preset.
    """
    trials, published = trials or Trials(out), paper.published()
    grid = readme.with_name(sheet(table, preset), trials.results)
    found = cells(grid, published, trials.results, standard)
    rows = tables.rows(grid, published, found)
    committed = reference.find(out, grid, published, standard, found)
    text = markdown.to_markdown(grid, rows, found, committed, readme.out_option(out, grid))
    pairs = paired.pairs(grid, found, trials.logs) if 'pairs' in grid else []
    if pairs:
        text = f'{text}\n{paired.to_markdown(grid, pairs)}'
    return Report(grid, found, rows, text, [*trials.unusable], pairs)


def write(table, preset, out, trials=None):
    """Writes ``<name>.md``, ``<name>.csv`` and the figures of every noise setting to ``out``.

    For a table with pairs, it also writes ``<name>-pairs.csv`` and ``<name>-pairs.png``. Figures of
    an earlier report whose trials are no longer there are deleted.

    Args:
        trials (Trials): Those in ``out``, if they have been read.

    Returns:
        Report: As :func:`read`; its ``unreadable`` also lists damaged logs, which the figures leave
        out.

    Raises:
        ConfigError: There is no such table or preset.
        WriteError: ``out`` cannot be written.
    """
    trials = trials or Trials(out)
    report = read(table, preset, out, trials)
    # Written after everything was read and formatted, so that an error leaves no partial report.
    store.make_folder(out)
    store.sweep(out)
    path = Path(out) / report.grid['name']
    store.write_text(f'{path}.md', report.markdown)
    store.write_text(f'{path}.csv', tables.to_csv(report.rows))
    for noise, rate in paper.columns(report.grid):
        drawn, others = lines.lines(report.grid, report.cells, noise, rate, trials.logs)
        for kind, shown, measures, draw in (
            ('curves', lines.last_stage(drawn), figures.FIGURE3, figures.figure3),
            ('labels', drawn, figures.LABELS, figures.label_figure),
        ):
            path = Path(out) / figure_name(report.grid, kind, noise, rate)
            points = figures.points(shown, measures)
            if points:
                store.write_text(f'{path}.csv', tables.to_csv(points, figures.COLUMNS))
                store.write_bytes(f'{path}.png', draw(report.grid, shown, points, others))
            else:
                _delete(path)
    _write_pairs(report, Path(out))
    report.unreadable.extend(trials.damaged_logs)
    return report


def _delete(path):
    for end in ('.csv', '.png'):
        Path(f'{path}{end}').unlink(missing_ok=True)


def _write_pairs(report, out):
    path = out / f'{report.grid["name"]}-pairs'
    if not report.pairs:
        _delete(path)
        return
    store.write_text(f'{path}.csv', tables.to_csv(report.pairs, paired.COLUMNS))
    summaries = paired.summaries(report.grid, report.pairs)
    store.write_bytes(f'{path}.png', figures.pairs_figure(report.grid, summaries))


def write_pages(out, trials=None):
    """Writes the page of an output folder, as Markdown and as HTML with the curves of every trial.

    The pages are ``<out>/README.md`` and ``<out>/report.html``. The folders of committed runs,
    ``results/reference/<name>``, share ``results/README.md`` and have no HTML. A page that was
    written by hand is left as it is.

    Args:
        trials (Trials): Those in ``out``, if they have been read.

    Returns:
        list of pathlib.Path: The pages written.

    Raises:
        WriteError: A page cannot be written.
    """
    out, trials = Path(out), trials or Trials(out)
    text = page_text(out, trials)
    if reference.is_reference(out):
        pages = [(out.parent.parent / 'README.md', readme.MARK, text)]
    else:
        html = folder_page.page(trials, text, command)
        pages = [
            (out / 'README.md', readme.MARK, text),
            (out / folder_page.NAME, folder_page.MARK, html),
        ]
    written = []
    for path, mark, content in pages:
        if not path.exists() or _is_made_here(path, mark):
            store.write_text(path, content)
            written.append(path)
    return written


def _is_made_here(path, mark):
    return path.is_file() and path.read_bytes().startswith(mark.encode())


def page_text(out, trials=None):
    """Returns the text of the page of an output folder; see :func:`write_pages`."""
    out = Path(out)
    committed = reference.is_reference(out)
    if committed:
        root, folders = out.parent.parent, map(Trials, out.parent.glob('*'))
    else:
        root, folders = out, [trials or Trials(out)]
    text = readme.text(root, folders, _sheets, paper.published(), standard, command)
    return text + (f'\n{fields.to_markdown()}' if committed else '')


def sheet(table, preset):
    """Returns ``paper.grid`` with ``table``, ``preset`` and ``titles`` added."""
    return paper.grid(table, preset) | {
        'table': table,
        'preset': preset,
        'titles': paper.methods(),
    }


def _sheets(preset):
    return [sheet(table, preset) for table in paper.tables()] if preset in paper.PRESETS else []


def command(values):
    """Returns the command that runs the trial with the configuration ``values`` (dict).

    Settings of an older version of the preset are among its overrides.
    """
    # Images of the user's own and presets of other versions have no standard.
    with contextlib.suppress(ConfigError):
        values = values | {'modified': overrides(values, standard(values))}
    return config.from_dict(values).command


def standard(values):
    """Returns the configuration that the current preset gives for the trial in ``values``.

    Overrides that no longer exist are left out, and then appear as a departure.
    """
    named = {name: values[name] for name in ('method', 'dataset', 'noise', 'preset', 'modified')}
    return _standard(json.dumps(named)) | {'seed': values['seed']}


# Cached, because the trials of a cell differ only in their seed, and every page asks again.
@functools.lru_cache(maxsize=1000)
def _standard(named):
    values = json.loads(named)
    noise = values['noise']
    names = values['method'], values['dataset'], noise['kind'], noise['rate'], 0
    labels = noise.get('labels')
    try:
        today = config.trial(
            *names, preset=values['preset'], overrides=values['modified'], labels=labels
        )
    except ConfigError:
        today = config.trial(*names, preset=values['preset'], labels=labels)
    return today.as_dict()
