"""``results/README.md``: every finished trial under ``results/``, made again by ``report``."""

from collections import Counter
from pathlib import Path

from chainer_jo import paper
from chainer_jo.report import difference, markdown, tables
from chainer_jo.report.cells import cells
from chainer_jo.report.collect import collect, unreadable
from chainer_jo.report.markdown import data_note, header, percent

HEAD = """# Results

Made by `python -m chainer_jo report all` from the `result.json` files in this folder; not edited by
hand. Every number belongs to trials that are listed with their commands; `--out` and, for images
that are not in the package, `--data` come on top. Accuracies are in percent.
"""
ENVIRONMENT = ('device', 'backend', 'machine', 'cores', 'chainer', 'numpy', 'python', 'version')


def text(root, grids, published, standard, command):
    """Returns ``README.md`` for the output folders ``<root>/*/`` that hold trials.

    The text depends on the files there and on nothing else, so that it can be made again and
    compared.

    Args:
        root (path): Folder of output folders, such as ``results``.
        grids (callable): Maps a preset to its grids, in the order of the page; each a dict as
            ``cells.cells`` takes it.
        published (list of dict): ``paper.published()``.
        standard (callable): As in ``cells.cells``.
        command (callable): Maps a trial's configuration to the command that runs it.
    """
    parts = [HEAD]
    for out in sorted(path for path in Path(root).glob('*') if path.is_dir()):
        results, damaged = collect(out), unreadable(out)
        if results or damaged:
            parts.append(f'## {out.name}\n')
            parts += _tables(out, results, grids, published, standard, command)
            parts += _machines(results)
            parts += _damaged(out, damaged)
    return '\n'.join(parts if len(parts) > 1 else [HEAD, 'No trial has been run yet.\n'])


def _tables(out, results, grids, published, standard, command):
    parts, shown = [], set()
    for preset in sorted({result['config']['preset'] for result in results}):
        for grid in grids(preset):
            found = cells(grid, published, results, standard)
            trials = [result for cell in found for result in cell.results]
            if trials:
                parts += _table(out, grid, published, found, trials, command)
                shown |= {result['trial'] for result in trials}
    others = [result for result in results if result['trial'] not in shown]
    return parts + _others(others, command)


def _table(out, grid, published, found, trials, command):
    rows = tables.rows(grid, published, found)
    parts = [f'### {grid["table"]}\n', markdown.to_markdown(grid, rows, found)]
    if grid['preset'] == 'paper':
        parts.append(difference.to_markdown(grid, difference.differences(grid, rows)))
    parts += _figures(out, grid)
    parts.append('<details><summary>Trials and commands</summary>\n')
    parts += [*_trial_table(trials, command), '\n</details>\n']
    return parts


def _figures(out, grid):
    """The pictures that lie in the folder, each with its numbers."""
    for noise, rate in paper.columns(grid):
        for kind in ('figure3', 'labels'):
            name = figure_name(kind, noise, rate)
            if (out / f'{name}.png').exists():
                yield f'![{name}]({out.name}/{name}.png)\n\n[Numbers]({out.name}/{name}.csv)\n'


def figure_name(kind, noise, rate):
    """Returns a figure's file name without its ending, such as ``figure3-symmetric-0.7``."""
    return f'{kind}-{noise}' + ('' if rate is None else f'-{rate:g}')


def _others(results, command):
    if not results:
        return []
    notes = dict.fromkeys(data_note(result) for result in results)
    lines = ['### Trials outside the tables\n', *(f'{note}\n' for note in notes)]
    return [*lines, *_trial_table(results, command), '']


def _trial_table(results, command):
    titles = ['trial', 'best', 'last', 'labels', 'wrong at first', 'epochs', 'minutes', 'command']
    return header(titles) + [_trial_line(result, command) for result in results]


def _trial_line(result, command):
    texts = [
        f'`{result["trial"]}`',
        percent(result['best']['test_accuracy']),
        percent(result['last']['test_accuracy']),
        percent(result['label_accuracy']),
        percent(result['noise']['wrong']),
        f'{result["epochs"]}',
        f'{result["times"]["seconds"] / 60:.1f}',
        f'`{command(result["config"])}`',
    ]
    return f'| {" | ".join(texts)} |'


def _machines(results):
    """How many trials ran where, and on what versions."""
    kinds = Counter(
        tuple(str(result['environment'].get(key, '')) for key in ENVIRONMENT) for result in results
    )
    if not kinds:
        return []
    lines = ['### Machines\n', *header(['trials', *ENVIRONMENT])]
    lines += [f'| {kinds[kind]} | {" | ".join(kind)} |' for kind in sorted(kinds)]
    return [*lines, '']


def _damaged(out, damaged):
    if not damaged:
        return []
    paths = ((Path(item['path']).relative_to(out.parent), item['problem']) for item in damaged)
    return ['### Not readable, not used\n', *(f'- `{path}`: {why}' for path, why in paths), '']
