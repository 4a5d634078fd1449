"""The paper as data: hyper-parameters, table grids, presets and published numbers.

Nothing here computes; the files beside this module are meant to be read.
"""

import csv
import difflib
import tomllib
from functools import cache
from pathlib import Path

from chainer_jo.errors import ConfigError

FOLDER = Path(__file__).parent
PRESETS = tuple(sorted(path.stem for path in (FOLDER / 'presets').glob('*.toml')))
# What a preset says about its tables; it does not reach a trial, so the trial id leaves it out.
OF_THE_TABLES = ('grid', 'compare', 'differs')


def hyperparameters(preset, dataset=None):
    """Returns the nested dict of ``hyperparameters.toml`` with the preset's overrides merged in.

    The updaters of the stages are not in it: see :func:`updaters`.

    Args:
        preset (str): Name of a file in ``presets``.
        dataset (str): Whose own sections, ``[on.<data set>]``, take the place of the general ones
            of that name; those of the preset go before those of ``hyperparameters.toml``.

    Raises:
        ConfigError: There is no such preset.
    """
    settings = _without_updaters(_read('hyperparameters.toml'))
    overrides = {key: v for key, v in _preset(preset).items() if key not in OF_THE_TABLES}
    own = [part.pop('on', {}).get(dataset, {}) for part in (settings, overrides)]
    # Whole sections are replaced: a setting that is not written there does not exist for that data
    # set.
    return _merge(settings, overrides) | own[0] | own[1]


def updaters(method, stage):
    """Returns the names of a stage's updaters, in ``training.updaters.KINDS``: a tuple.

    What a stage does belongs to the method and is no setting of a trial: it can be neither preset
    nor overridden, and is not in a trial's digest. Ids of trials from before it was written down
    stay as they are.
    """
    named = _read('hyperparameters.toml')[method][stage].get('updater', [])
    # Usually there is one name, which reads better without brackets.
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
    """Returns what a table needs under a preset.

    Returns:
        dict: ``caption``, ``dataset``, ``noise``, ``rates`` (fractions, or a single ``None`` where
        the noise has none), ``methods``, ``others`` (methods that the preset leaves out unless they
        are asked for), ``trials``, ``tolerance``
        (points), ``compare`` (``none``, ``orientation`` or ``verdict``: how far the paper's numbers
        may stand beside this preset's) and, unless it is ``verdict``, ``differs``, the reason.

    Raises:
        ConfigError: There is no such table or preset.
    """
    grids = _read('grids.toml')
    if table not in grids:
        raise unknown('table', table, grids)
    settings = _preset(preset)
    merged = _merge({'rates': [None]} | grids[table], settings.get('grid', {}).get(table, {}))
    others = [method for method in grids[table]['methods'] if method not in merged['methods']]
    kept = {key: settings[key] for key in ('compare', 'differs') if key in settings}
    return merged | {'others': others} | kept


def columns(grid):
    """Returns the columns of a grid as ``(noise, rate)``; of a set of labels ``file:<name>``."""
    noise, rates = grid['noise'], grid['rates']
    kinds = [noise] * len(rates) if isinstance(noise, str) else noise
    # Kinds of noise that have no rate.
    rates = rates * len(kinds) if rates == [None] else rates
    return list(zip(kinds, rates, strict=True))


def column(config):
    """Returns the column ``(noise, rate)`` of a trial whose configuration (dict) is given."""
    noise, place = config['noise'], str(config.get('labels_file') or '')
    is_set = noise['kind'] == 'file' and ':' in place
    return f'file:{place.rpartition(":")[2]}' if is_set else noise['kind'], noise['rate']


def label_sets(grid):
    """Returns the names of the sets of labels that are a grid's columns; of most grids none."""
    kinds = [noise for noise, _ in columns(grid)]
    return [kind.removeprefix('file:') for kind in kinds if kind.startswith('file:')]


def tables():
    """Returns the names of all tables."""
    return tuple(_read('grids.toml'))


def folder(table, preset):
    """Returns the name of the folder that a table's trials go to unless ``--out`` names another.

    A table of variants has its own: in that of a preset they would stand among the rows of others.
    """
    return f'{preset}_{table}' if 'variants' in _read('grids.toml').get(table, {}) else preset


def published():
    """Returns the paper's printed numbers: dicts with ``table``, ``method``, ``noise``, ``rate``,
    ``best`` and ``last``; rates and accuracies are fractions, ``None`` where nothing is printed."""
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
    """Returns the ConfigError for a name that does not exist, with the nearest one that does.

    It lists ``listed``, by default all of ``known``.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f'did you mean {near[0]}? ' if near else ''
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
    # Copied at each level: `_read` keeps what is merged in its cache.
    merged = dict(base)
    for key, value in overrides.items():
        inner = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if inner else value
    return merged


def _fraction(percent):
    # Rounded: 8.9 / 100 is not exactly the 0.089 that is written elsewhere.
    return round(float(percent) / 100, 6) if percent else None
