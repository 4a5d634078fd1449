"""The paper as data: hyper-parameters, table grids, presets and published numbers.

This module only reads the data files next to it, which are written for people to read as well.
"""

import csv
import difflib
import tomllib
from functools import cache
from pathlib import Path

from chainer_jo.errors import ConfigError

FOLDER = Path(__file__).parent
PRESETS = tuple(sorted(path.stem for path in (FOLDER / 'presets').glob('*.toml')))
# A preset's settings for tables. No trial sees them, so they are not part of the trial id.
OF_THE_TABLES = ('grid', 'compare', 'differs')
#: Settings that a stage needs for its updater.
NEEDED = {
    'label_correction': ('window', 'label_pass', 'begin', 'labels'),
    'mix_up': ('a', 'mix_lambda'),
}


def hyperparameters(preset, dataset=None):
    """Returns the nested dict of ``hyperparameters.toml`` with the preset's overrides merged in.

    The updaters of the stages are left out: see :func:`updaters`.

    Args:
        preset (str): Name of a file in ``presets``.
        dataset (str): The data set whose sections, ``[on.<data set>]``, replace the general
            sections of the same name; those of the preset take precedence over those of
            ``hyperparameters.toml``.

    Raises:
        ConfigError: There is no such preset, or it has no settings for the data set.
    """
    settings = _without_updaters(_read('hyperparameters.toml'))
    overrides = {key: v for key, v in _preset(preset).items() if key not in OF_THE_TABLES}
    shortened = bool(overrides)
    own = [part.pop('on', {}).get(dataset, {}) for part in (settings, overrides)]
    if own[0] and not own[1] and shortened:
        # Otherwise the trials would train for the paper's epochs under another preset's name.
        able = [name for name in PRESETS if dataset in _preset(name).get('on', ())]
        raise ConfigError(
            f'preset {preset} has no settings for {dataset}',
            seen=f'no section [on.{dataset}.…] in presets/{preset}.toml',
            fix=f'choose --preset {" or ".join(["paper", *able])}, or add such sections',
        )
    # Whole sections are replaced: a setting that the data set's section leaves out does not exist
    # for it.
    return _merge(settings, overrides) | own[0] | own[1]


def updaters(method, stage):
    """Returns the names of a stage's updaters as a tuple; see ``training.updaters.KINDS``.

    They are part of the method, not a setting of a trial: presets and overrides cannot change them,
    and a trial's digest does not include them. So trials that are older than these entries keep
    their ids.
    """
    named = _read('hyperparameters.toml')[method].get(stage, {}).get('updater', [])
    # Mostly there is one name, written without brackets because it reads better.
    return (named,) if isinstance(named, str) else tuple(named)


def _without_updaters(settings):
    return {
        name: _without_updaters(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name != 'updater'
    }


def methods():
    """Returns ``{name: title}`` of every method, in the order of ``hyperparameters.toml``."""
    settings = _read('hyperparameters.toml')
    return {
        name: table['title']
        for name, table in settings.items()
        if isinstance(table, dict) and 'title' in table
    }


def grid(table, preset):
    """Returns the definition of a table under a preset.

    Returns:
        dict: ``caption``, ``dataset``, ``noise``, ``rates`` (fractions, or a single ``None`` if the
        noise has no rate), ``methods``, ``others`` (methods that the preset runs only on request),
        ``trials``, ``paper_trials`` (how many the printed numbers are means of, if the paper says
        so), ``tolerance`` (points), ``compare`` (``none``, ``orientation`` or ``verdict``:
        how far this preset's numbers can be compared with the paper's) and, unless it is
        ``verdict``, ``differs``, the reason.

    Raises:
        ConfigError: There is no such table or preset, or the preset does not say how far it can be
            compared.
    """
    grids = _read('grids.toml')
    if table not in grids:
        raise unknown('table', table, grids)
    settings = _preset(preset)
    merged = _merge({'rates': [None]} | grids[table], settings.get('grid', {}).get(table, {}))
    others = [method for method in grids[table]['methods'] if method not in merged['methods']]
    kept = {key: settings[key] for key in ('compare', 'differs') if key in settings}
    missing = [key for key in ('compare', 'differs') if key not in kept]
    if missing and kept.get('compare') != 'verdict':
        raise ConfigError(
            f'preset {preset} does not say how far its numbers can be compared with the paper',
            seen=f'no {" and no ".join(missing)}',
            fix=f'add them at the top of presets/{preset}.toml, as in presets/quick.toml',
        )
    return merged | {'others': others} | kept


def columns(grid):
    """Returns the columns of a grid as ``(noise, rate)``; a label set is ``file:<name>``."""
    noise, rates = grid['noise'], grid['rates']
    kinds = [noise] * len(rates) if isinstance(noise, str) else noise
    # Several kinds of noise that have no rate.
    rates = rates * len(kinds) if rates == [None] else rates
    return list(zip(kinds, rates, strict=True))


def cells(grid, methods, columns, overrides=()):
    """Yields ``(method, noise, rate, overrides)`` for every cell that a command runs.

    Args:
        grid (dict): As :func:`grid` returns it.
        methods (sequence of str): Methods of the grid.
        columns (sequence of tuple): Its columns ``(noise, rate)``.
        overrides (sequence of str): Settings ``key=value``, in addition to those of a variant.
    """
    for variant in [[], *grid.get('variants', [])]:
        for method in methods:
            for noise, rate in columns:
                if _makes_sense(grid, method, rate, overrides):
                    yield method, noise, rate, [*variant, *overrides]


def _makes_sense(grid, method, rate, overrides):
    changed = any(override.startswith(f'{method}.') for override in overrides)
    return changed or [method, rate] not in grid.get('without', [])


def column(config):
    """Returns the column ``(noise, rate)`` of a trial with a given configuration (dict)."""
    noise, place = config['noise'], str(config.get('labels_file') or '')
    is_set = noise['kind'] == 'file' and ':' in place
    return f'file:{place.rpartition(":")[2]}' if is_set else noise['kind'], noise['rate']


def label_sets(grid):
    """Returns the names of the label sets that are columns of a grid; most grids have none."""
    kinds = [noise for noise, _ in columns(grid)]
    return [kind.removeprefix('file:') for kind in kinds if kind.startswith('file:')]


def tables():
    """Returns the names of all tables."""
    return tuple(_read('grids.toml'))


def folder(table, preset):
    """Returns the name of the default folder of a table's trials, for when ``--out`` is not given.

    A table of variants has a folder of its own, because in the preset's folder its trials would
    appear in other tables.
    """
    return f'{preset}_{table}' if 'variants' in _read('grids.toml').get(table, {}) else preset


def published():
    """Returns the numbers that the paper prints, as a list of dicts.

    Their keys are ``table``, ``method``, ``noise``, ``rate``, ``best`` and ``last``. Rates and
    accuracies are fractions; ``None`` means that the paper prints no number.
    """
    with open(FOLDER / 'published.csv', newline='') as file:
        return [
            {
                'table': f'table{row["table"]}',
                'method': row['method'],
                'noise': row['noise_type'],
                'rate': _fraction(row['noise_rate']),
                'best': _fraction(row['best']),
                'last': _fraction(row['last']),
            }
            for row in csv.DictReader(file)
        ]


def unknown(kind, name, known, listed=None):
    """Returns a ConfigError for an unknown name, which suggests the nearest of ``known``.

    The message lists ``listed``, by default all of ``known``.
    """
    # As text, because from Python a name may be any object.
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.4)
    hint = f'did you mean {folded[near[0]]}? ' if near else ''
    return ConfigError(
        f'unknown {kind} {name!r}',
        seen=repr(name),
        fix=f'{hint}known: {", ".join(listed or known)}',
    )


def _preset(name):
    if name not in PRESETS:
        raise unknown('preset', name, PRESETS)
    return _read(f'presets/{name}.toml')


@cache
def _read(name):
    return tomllib.loads((FOLDER / name).read_text())


def _merge(base, overrides):
    # Copied at each level, because `_read` caches these dicts.
    merged = dict(base)
    for key, value in overrides.items():
        inner = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if inner else value
    return merged


def _fraction(percent):
    # Rounded: 8.9 / 100 is not exactly the 0.089 that other files contain.
    return round(float(percent) / 100, 6) if percent else None
