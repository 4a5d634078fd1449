"""The commands under a table, which run exactly its cells."""

import shlex
from collections import Counter

from chainer_jo import datasets, paper


def commands(grid, cells=(), out=None):
    """Returns the commands that run a table, or those of its cells that have results.

    Args:
        grid (dict): The table under its preset.
        cells (list of Cell): Its cells; methods with the same rates, trials and overrides share a
            command.
        out (str): Value of ``--out``; ``None`` for the preset's own folder.
    """
    if not any(cell.results for cell in cells):
        return [_command(grid, (), grid['methods'], grid['rates'], grid['trials'], (), out)]
    groups = {}
    for (method, options), counts in _counts(grid, cells).items():
        # Columns in the order of the grid, not in the order of the files.
        rates = tuple(_different(rate for _, rate in paper.columns(grid) if rate in counts))
        groups.setdefault((options, rates, max(counts.values())), []).append(method)
    return [
        _command(grid, cells, methods, rates, trials, options, out)
        for (options, rates, trials), methods in groups.items()
    ]


def _counts(grid, cells):
    """Returns ``{(method, options): {rate: trials}}`` of what was run."""
    counts = {}
    for cell in cells:
        precisions = (result['config'].get('precision', 'float32') for result in cell.results)
        for precision, trials in Counter(precisions).items():
            of_method = counts.setdefault((cell.method, _options(grid, cell, precision)), {})
            of_method[cell.rate] = max(trials, of_method.get(cell.rate, 0))
    return counts


def _options(grid, cell, precision):
    """Returns the options that the trials of a command share, other than method, rate and seed."""
    own = [sorted(variant) for variant in grid.get('variants', [])]
    # `run` on a table of variants trains them without --set.
    overrides = [] if list(cell.overrides) in own else cell.overrides
    words = [] if precision == 'float32' else ['--precision', precision]
    return (*words, *(word for override in overrides for word in ('--set', override)))


def _labels(grid, cells):
    """Returns the option for the file of a table's label sets, with the set if only one was run."""
    sets = paper.label_sets(grid)
    run = {cell.noise.removeprefix('file:') for cell in cells if cell.results}
    one = f':{run.pop()}' if len(run) == 1 else ''
    return ['--labels', f'FILE{one}'] if sets else []


def _command(grid, cells, methods, rates, trials, options, out):
    words = ['python', '-m', 'chainer_jo', 'run', grid['table'], '--preset', grid['preset']]
    for option, seen, usual in (
        ('only', methods, grid['methods']),
        ('rates', _different(rates), _different(grid['rates'])),
        ('trials', [trials], [grid['trials']]),
    ):
        # Only what differs from the preset, for the shortest command.
        if set(seen) != set(usual):
            words += [f'--{option}', ','.join(map(str, seen))]
    words += options
    words += _labels(grid, cells)
    if not datasets.is_embedded(grid['dataset']):
        words += ['--data', 'DIR']
    return shlex.join(words + (['--out', str(out)] if out else []))


def _different(values):
    return list(dict.fromkeys(values))
