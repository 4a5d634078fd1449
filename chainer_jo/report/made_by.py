"""The commands under a table, which run all its trials."""

import shlex

from chainer_jo import datasets, paper


def commands(grid, cells=(), out=None):
    """Returns the commands that run a table, or those of its cells that have results.

    Args:
        grid (dict): The table under its preset.
        cells (list of Cell): Its cells; methods with the same rates, trials and overrides share a
            command. A command may run other cells and seeds too: see :func:`are_whole`.
        out (str): Value of ``--out``; ``None`` for the preset's own folder.
    """
    if not any(cell.results for cell in cells):
        return [_command(grid, (), grid['methods'], grid['rates'], grid['trials'], (), out)]
    return [
        _command(grid, cells, methods, rates, trials, options, out)
        for (options, rates, trials), methods in _groups(grid, cells).items()
    ]


def are_whole(grid, cells):
    """Returns whether the cells have every trial that their :func:`commands` run."""
    there, sets = set(), _sets(cells)
    for cell in cells:
        for result in cell.results:
            key = cell.method, cell.noise, cell.rate, tuple(sorted(cell.overrides))
            there.add((*key, _precision(result), result['config']['seed']))
    return all(
        (*cell, precision, seed) in there
        for (options, rates, trials), methods in _groups(grid, cells).items()
        for cell, precision in _planned(grid, methods, rates, options, sets)
        for seed in range(trials)
    )


def _planned(grid, methods, rates, options, sets):
    """Yields ``(method, noise, rate, overrides)`` and the precision of what a command runs."""
    given = list(zip(options[::2], options[1::2], strict=True))
    precision = dict(given).get('--precision', 'float32')
    overrides = [value for option, value in given if option == '--set']
    columns = [
        (noise, rate)
        for noise, rate in paper.columns(grid)
        if rate in rates and (len(sets) != 1 or noise in sets)
    ]
    for method, noise, rate, changed in paper.cells(grid, methods, columns, overrides):
        # The settings of other methods change nothing.
        others = paper.methods().keys() - {method}
        own = [item for item in changed if item.partition('.')[0] not in others]
        yield (method, noise, rate, tuple(sorted(own))), precision


def _groups(grid, cells):
    """Returns ``{(options, rates, trials): methods}``, for each command."""
    groups = {}
    for (method, options), counts in _counts(grid, cells).items():
        # Columns in the order of the grid, not in the order of the files.
        rates = tuple(_different(rate for _, rate in paper.columns(grid) if rate in counts))
        groups.setdefault((options, rates, max(counts.values())), []).append(method)
    return groups


def _counts(grid, cells):
    """Returns ``{(method, options): {rate: trials}}``, which are enough to run all results."""
    counts = {}
    for cell in cells:
        for result in cell.results:
            options = _options(grid, cell, _precision(result))
            of_method = counts.setdefault((cell.method, options), {})
            # `run` counts its trials from seed 0.
            trials = result['config']['seed'] + 1
            of_method[cell.rate] = max(trials, of_method.get(cell.rate, 0))
    return counts


def _precision(result):
    return result['config'].get('precision', 'float32')


def _options(grid, cell, precision):
    """Returns the options that the trials of a command share, other than method, rate and seed."""
    own = [sorted(variant) for variant in grid.get('variants', [])]
    # `run` on a table of variants trains them without --set.
    overrides = [] if list(cell.overrides) in own else cell.overrides
    words = [] if precision == 'float32' else ['--precision', precision]
    return (*words, *(word for override in overrides for word in ('--set', override)))


def _labels(grid, cells):
    """Returns the option for the file of a table's label sets, with the set if only one was run."""
    run = _sets(cells)
    one = f':{run.pop().removeprefix("file:")}' if len(run) == 1 else ''
    return ['--labels', f'FILE{one}'] if paper.label_sets(grid) else []


def _sets(cells):
    return {cell.noise for cell in cells if cell.results and cell.noise.startswith('file:')}


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
    if any(result.get('weights') for cell in cells for result in cell.results):
        words += ['--weights', 'FILE']
    return shlex.join(words + (['--out', str(out)] if out else []))


def _different(values):
    return list(dict.fromkeys(values))
