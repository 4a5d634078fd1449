"""The page of results folders: what was run, tables and figures, and every trial."""

from collections import Counter
from pathlib import Path
from urllib.parse import quote

from chainer_jo import paper
from chainer_jo.report import difference, machines, made_by, markdown, paired, reference, tables
from chainer_jo.report.cells import cells
from chainer_jo.report.data_notes import data_note, data_title
from chainer_jo.report.escape import anchor, code, escaped
from chainer_jo.report.markdown import header, percent

MARK = '<!-- Made by python -m chainer_jo report. Delete this line to keep text of your own. -->'
HEAD = f"""{MARK}

# Results

This page is made from the `result.json` files in this folder. The commands of a table run all its
cells, and the command of a trial runs that trial; add `--out` and, for images that are not in the
package, `--data`, and for a net that starts from ImageNet weights, `--weights`. Accuracies are in
percent. The minutes of a trial are its training time; a first stage that trials share counts for
each of them.
"""


def text(root, folders, grids, published, standard, command):
    """Returns the page of output folders that contain trials.

    The text depends only on the files there, so that a test can generate and compare it.

    Args:
        root (path): Folder of the page; links are relative to it.
        folders (iterable of Trials): Those of output folders in ``root``, or of ``root`` itself.
        grids (callable): Maps a preset to its grids, in the order of the page; each is a dict as in
            ``cells.cells``.
        published (list of dict): ``paper.published()``.
        standard (callable): As in ``cells.cells``.
        command (callable): Maps a trial's configuration to the command that runs it.
    """
    overview, parts = [], []
    # Sorted, because a test compares the page byte for byte.
    for trials in sorted(folders, key=lambda trials: trials.out):
        out, shown = trials.out, set()
        for grid in _grids_of(out, trials.results, grids):
            found = cells(grid, published, trials.results, standard)
            results = [result for cell in found for result in cell.results]
            if results:
                overview.append(_overview_line(out, grid, found, results))
                parts += _table(root, trials, grid, published, found, standard, command)
                shown |= {result['trial'] for result in results}
        # Trials that fit no table are listed too.
        others = [result for result in trials.results if result['trial'] not in shown]
        parts += _others(out, others, command) + _machines(out, trials.results)
        parts += _unusable(root, out, trials.unusable)
    return '\n'.join([HEAD, *_overview(overview), *(parts or ['No trial has been run yet.\n'])])


def _grids_of(out, results, grids):
    """Returns the grids whose tables were written to the folder, or all if none was."""
    presets = sorted({result['config']['preset'] for result in results})
    found = [with_name(grid, results) for preset in presets for grid in grids(preset)]
    names = {path.stem for path in out.glob('*.md')}
    # A table without its preset's name was written when the folder had one preset.
    return [grid for grid in found if {grid['name'], grid['table']} & names] or found


def with_name(grid, results):
    """Returns the grid with ``name``, the name of its files and headings among some results.

    It is that of the table, with the preset if there are results of others too.
    """
    several = {result['config']['preset'] for result in results} - {grid['preset']}
    return grid | {'name': f'{grid["table"]}-{grid["preset"]}' if several else grid['table']}


def _overview(lines):
    if not lines:
        return []
    titles = ['results', 'data', 'run on', 'precision', 'trials', 'command']
    return ['## What was run\n', *header(titles), *lines, '']


def _overview_line(out, grid, found, trials):
    counts = sorted({len(cell.results) for cell in found if cell.results})
    each = str(counts[0]) if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'
    commands = made_by.commands(grid, found, out_option(out, grid))
    title = _title(out, grid)
    texts = [
        f'[{title}](#{quote(anchor(title))})',
        _listed(escaped(data_title(result['data'])) for result in trials),
        _listed(escaped(machines.place(result)) for result in trials),
        machines.precisions(trials),
        f'{len(trials)} ({each} per cell)',
        '<br>'.join(code(line, longest=2000) for line in commands),
    ]
    return f'| {" | ".join(texts)} |'


def _listed(texts):
    return '<br>'.join(dict.fromkeys(texts))


def _title(out, grid):
    return f'{escaped(out.name)}: {grid["name"]}'


def out_option(out, grid):
    """Returns the value of ``--out`` in the command of a table, or ``None`` if it needs none.

    The commands of committed runs write to the user's folder of the same name.
    """
    out = Path(out)
    place = Path(out.parent.parent.name) / out.name if reference.is_reference(out) else out
    usual = Path('results') / paper.folder(grid['table'], grid['preset'])
    return None if place == usual else str(place)


def _table(root, trials, grid, published, found, standard, command):
    out = trials.out
    rows = tables.rows(grid, published, found)
    committed = reference.find(out, grid, published, standard, found)
    parts = [
        f'## {_title(out, grid)}\n',
        markdown.to_markdown(grid, rows, found, committed, out_option(out, grid)),
    ]
    if 'pairs' in grid:
        parts += [paired.to_markdown(grid, paired.pairs(grid, found, trials.logs))]
    if grid['compare'] != 'none':
        parts.append(difference.to_markdown(grid, difference.differences(grid, rows)))
    parts += _figures(root, out, grid)
    parts.append('<details><summary>Trials and commands</summary>\n')
    results = [result for cell in found for result in cell.results]
    return [*parts, *_trial_table(results, command), '\n</details>\n']


def _figures(root, out, grid):
    """Yields the figures in the folder, each with a link to its numbers."""
    names = [
        figure_name(grid, kind, noise, rate)
        for noise, rate in paper.columns(grid)
        for kind in ('curves', 'labels')
    ]
    for name in [f'{grid["name"]}-pairs', *names]:
        if (out / f'{name}.png').exists():
            link = quote(str(out.relative_to(root) / name))
            yield f'![{name}]({link}.png)\n\n[Numbers]({link}.csv)\n'


def figure_name(grid, kind, noise, rate):
    """Returns a figure's file name without extension, such as ``table2-curves-symmetric-0.7``."""
    name = f'{grid["name"]}-{kind}-{noise.replace(":", "-")}'
    return name if rate is None else f'{name}-{rate:g}'


def _others(out, results, command):
    if not results:
        return []
    notes = dict.fromkeys(map(data_note, results))
    heading = f'## {escaped(out.name)}: trials outside the tables\n'
    return [heading, *(f'{note}\n' for note in notes), *_trial_table(results, command), '']


def _trial_table(results, command):
    """Returns a table with one line per trial; columns without any value are left out."""
    columns = [column for column in _COLUMNS if any(column[1](result) for result in results)]
    titles = ['trial', *(title for title, _ in columns), 'epochs', 'minutes', 'command']
    return header(titles) + [_trial_line(result, columns, command) for result in results]


_COLUMNS = (
    ('best', lambda result: percent(result['best']['test_accuracy'])),
    ('last', lambda result: percent(result['last']['test_accuracy'])),
    ('labels', lambda result: percent(result['label_accuracy'])),
    ('wrong at first', lambda result: percent(result['noise']['wrong'])),
)


def _trial_line(result, columns, command):
    texts = [
        code(result['trial']),
        *(value(result) for _, value in columns),
        f'{result["epochs"]}',
        f'{_seconds(result) / 60:.1f}',
        code(command(result['config']), longest=2000),
    ]
    return f'| {" | ".join(texts)} |'


def _seconds(result):
    """Returns the training time; it includes a first stage that another trial has trained."""
    times = result['times']
    # Results of older versions have only the time that the trial itself took.
    return times.get('training_seconds', times['seconds'])


def _machines(out, results):
    """Returns a table of machines and versions, with the number of trials on each."""
    kinds = Counter(
        (
            escaped(machines.place(result)),
            *(escaped(str(result['environment'].get(key, ''))) for key in machines.VERSIONS),
        )
        for result in results
    )
    if not kinds:
        return []
    titles = ['trials', 'run on', *machines.VERSIONS]
    lines = [f'### Machines of {escaped(out.name)}\n', *header(titles)]
    lines += [f'| {kinds[kind]} | {" | ".join(kind)} |' for kind in sorted(kinds)]
    return [*lines, '']


def _unusable(root, out, unusable):
    """Returns the list of files that were not used, with paths relative to the page."""
    if not unusable:
        return []
    # The path of the repository is private, and differs between machines.
    prefix = f'{root}/'
    lines = [
        f'- {code(item["path"].removeprefix(prefix), longest=1000)}: {escaped(item["problem"])}'
        for item in unusable
    ]
    return [f'### Not readable in {escaped(out.name)}, not used\n', *lines, '']
