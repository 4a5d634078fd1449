"""The trials of a table."""

from chainer_jo import config, paper
from chainer_jo.datasets.noise import check_rate
from chainer_jo.errors import ConfigError


def trials(
    table,
    preset,
    only=None,
    rates=None,
    count=None,
    overrides=(),
    precision='float32',
    labels=None,
):
    """Returns the TrialConfigs of a table, in the order of its rows.

    Args:
        table (str), preset (str): Names.
        only (sequence of str): Methods to run; by default those of the preset.
        rates (sequence of float): Noise rates of the table to run; all by default.
        count (int): Trials per cell; by default the number of the table.
        overrides (sequence of str): Settings ``key=value`` for all trials.
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.
        labels (dict): What :func:`chainer_jo.sweep.label_sets.read` returned, for a table of label
            sets. Sets that are not in it are left out.

    Raises:
        ConfigError: A name, rate or override is wrong, or no trial is left.
    """
    grid = paper.grid(table, preset)
    configs = [
        config.trial(
            method,
            grid['dataset'],
            # A column of label sets is named file:<set>.
            noise.partition(':')[0],
            rate,
            seed,
            preset,
            changed,
            precision,
            *(labels or {}).get(noise, ()),
        )
        for method, noise, rate, changed in paper.cells(
            grid, _methods(grid, table, only), _columns(grid, table, preset, rates), overrides
        )
        if labels is None or noise in labels
        for seed in range(count or grid['trials'])
    ]
    if not configs:
        left_out = ', '.join(
            f'{method} at rate {rate:g}' for method, rate in grid.get('without', [])
        )
        raise ConfigError(
            'no trial is left to run',
            seen=f'{table} leaves out {left_out}',
            fix='choose another method or rate',
        )
    # A variant that overrides another method's setting gives a trial that is in the list already.
    return list({config.trial: config for config in configs}.values())


def _methods(grid, table, only):
    known = grid['methods'] + grid['others']
    for method in only or ():
        if method not in known:
            raise paper.unknown(f'method of {table}', method, known)
    return [method for method in known if method in only] if only else grid['methods']


def _columns(grid, table, preset, rates):
    """Returns the columns of the rates. Rates without a column in the report are refused."""
    columns = paper.columns(grid)
    known = grid['rates']
    for rate in rates or ():
        if rate in known:
            continue
        check_rate(rate)
        if known == [None]:
            seen, fix = 'the labels are those of the data set', 'leave out --rates'
        else:
            seen = f'its rates are {", ".join(f"{other:g}" for other in known)}'
            fix = f'choose among them, or train single trials: train --rate {rate:g}'
        raise ConfigError(f'{table} of preset {preset} has no rate {rate:g}', seen=seen, fix=fix)
    return [column for column in columns if column[1] in rates] if rates else columns
