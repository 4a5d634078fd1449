"""Sorts finished trials into the cells of a table, so that only comparable ones are averaged."""

from collections import Counter
from dataclasses import dataclass

from chainer_jo import paper
from chainer_jo.config import normalised

# Some published images may be unusable: `official without 3 images`.
STANDARD_DATA = ('official', 'embedded subset')


@dataclass(frozen=True)
class Cell:
    """Trials that may be averaged, because they differ only in the seed.

    Attributes:
        method (str): Name of the method.
        noise (str): Kind of noise, or ``file:<name>`` for a label set.
        rate (float): Fraction of the labels that the noise redraws, or ``None``.
        modified (tuple of str): ``key=value`` for every difference from the grid, in settings,
            data, initial weights or processes; empty for a cell of the grid itself.
        results (list of dict): Contents of ``result.json``; empty for a cell that was not run.
    """

    method: str
    noise: str
    rate: float
    modified: tuple
    results: list

    @property
    def overrides(self):
        """The differences that ``--set`` makes: those in settings."""
        return tuple(item for item in self.modified if '.' in item.partition('=')[0])


def cells(grid, published, results, standard):
    """Sorts results into the cells of a grid; results of other grids are left out.

    Args:
        grid (dict): ``paper.grid(table, preset)`` with ``table`` and ``preset`` added.
        published (list of dict): ``paper.published()``.
        results (list of dict): The results of ``collect.read_all``.
        standard (callable): Maps a trial's configuration to the one that the current preset gives
            for the same method, noise, seed and overrides. A trial with older settings differs from
            it, and so is never averaged with current trials.

    Returns:
        list of Cell: The grid's own cells, run or not, with the paper's methods first and in the
        paper's order; after them the cells of modified trials.
    """
    columns = paper.columns(grid)
    own = [result for result in results if _belongs(grid, columns, result)]
    methods = _methods(grid, published, {result['config']['method'] for result in own})
    digest = _usual_data(own, grid.get('any_data', False))
    weights = _most_common(Counter(result.get('weights') or '' for result in own))
    labels = _usual_labels(own)
    found = {(m, *column, ()): [] for m in methods for column in columns}
    for result in own:
        config = result['config']
        noise, rate = paper.column(config)
        modified = _departures(result, standard(config), digest, weights)
        if config['noise'].get('labels') != labels[noise]:
            modified += (f'labels={config["noise"]["labels"][:8]}',)
        # Trials that differ from the grid get their own cell: an average with the others would be
        # meaningless.
        found.setdefault((config['method'], noise, rate, modified), []).append(result)

    def place(key):
        method, noise, rate, modified = key
        return modified, methods.index(method), columns.index((noise, rate))

    return [Cell(*key, found[key]) for key in sorted(found, key=place)]


def _methods(grid, published, run):
    """Returns the grid's methods and others that were run, the paper's first, in its order."""
    shown = grid['methods'] + [method for method in grid['others'] if method in run]
    printed = list(dict.fromkeys(row['method'] for row in _printed(grid, published)))
    own = [method for method in shown if method not in printed]
    return [method for method in printed if method in shown] + own


def _printed(grid, published):
    kinds = {noise for noise, _ in paper.columns(grid)}
    return [row for row in published if row['noise'] in kinds]


def _belongs(grid, columns, result):
    config = result['config']
    return (
        config['preset'] == grid['preset']
        and config['dataset'] == grid['dataset']
        and config['method'] in grid['methods'] + grid['others']
        and paper.column(config) in columns
    )


def _usual_data(results, any_data):
    """Returns the digest of the data that most trials used, among data that the cells may have.

    Cells may have the published data sets and the embedded subset; with ``any_data``, any data.
    """
    data = (result['data'] for result in results)
    usable = (item for item in data if any_data or item['variant'].startswith(STANDARD_DATA))
    return _most_common(Counter(item['digest'] for item in usable))


def _most_common(counts):
    # On a tie, the larger digest: any rule will do that does not depend on the order of files.
    return max(counts, key=lambda digest: (counts[digest], digest), default=None)


def _usual_labels(results):
    """Returns ``{noise: digest}`` of the labels given to most trials of a column, or ``None``."""
    counts = {}
    for result in results:
        config = result['config']
        digests = counts.setdefault(paper.column(config)[0], Counter())
        digests[config['noise'].get('labels') or ''] += 1
    return {noise: _most_common(digests) or None for noise, digests in counts.items()}


def _departures(result, expected, digest, weights):
    config, data = result['config'], result['data']
    departures = overrides(config, expected)
    if config.get('precision') != expected.get('precision'):
        departures.append(f'precision={config.get("precision")}')
    if data['digest'] != digest:
        # The variant of data that are not published already contains their digest.
        known = data['digest'][:8] in data['variant']
        departures.append(f'data={data["variant"]}' + ('' if known else f' {data["digest"][:8]}'))
    if (result.get('weights') or '') != weights:
        departures.append(f'weights={(result.get("weights") or "none")[:8]}')
    # Several processes see parts of a batch, so they train something else (D-54).
    if processes := result['environment'].get('processes'):
        departures.append(f'processes={processes}')
    return tuple(departures)


def overrides(config, expected):
    """Returns the overrides ``key=value`` with which today's preset trains a trial again.

    Those that it was given, and one for each setting of an older version of the preset: a list of
    str, sorted, so that equal settings give equal lists.

    Args:
        config (dict): The trial's configuration.
        expected (dict): What today's preset gives for it; ``standard`` in :func:`cells`.
    """
    seen, wanted = _sections(config), _sections(expected)
    older = []
    # Compared as a whole first: a report compares every trial, and hardly any has older settings.
    if seen != wanted:
        seen, wanted = _dotted(seen), _dotted(wanted)
        differing = [key for key in seen | wanted if seen.get(key) != wanted.get(key)]
        older = [f'{key}={normalised(seen.get(key))}' for key in differing]
    return sorted([*map(str, config['modified']), *older])


def _sections(config):
    """Returns all settings of a trial, by section."""
    sections = {name: config.get(name) for name in ('common', 'net', 'noise')}
    return sections | {config['method']: config['stages']}


def _dotted(section, prefix=''):
    """Returns ``{key: value}`` with the keys that ``--set`` takes."""
    flat = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat |= _dotted(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat
