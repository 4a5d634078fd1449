"""Compares pairs of trials with the same seed, to show the effect of one choice."""

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass

from chainer_jo import paper
from chainer_jo.report import least_p, paired_statistics
from chainer_jo.report.escape import code
from chainer_jo.report.markdown import header, method_title, percent, points

MEASURES = ('best', 'last')
BY_SEED, BY_PAIR = 'all, by seed', 'all, by pair'
COLUMNS = (
    'table', 'comparison', 'noise', 'rate', 'seed', 'same_step_1',
    'best_first', 'best_second', 'best_difference', 'last_first', 'last_second', 'last_difference',
    'best_epoch_first', 'best_epoch_second', 'test_images', 'first', 'second',
)  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """Statistics of the pairs of one comparison, in one noise setting or in all together.

    Attributes:
        comparison (str): Its title.
        noise (str), rate (float): The setting; for all together :data:`BY_SEED` or
            :data:`BY_PAIR`, and ``None``.
        measure (str): ``best`` or ``last``.
        differences (tuple of float): First minus second, fractions: one per pair, or for
            :data:`BY_SEED` one per seed, the mean over the settings.
        mean (float): Mean of the differences.
        interval (tuple of float): See :func:`paired_statistics.interval`.
        p (float): See :func:`paired_statistics.sign_flip_p`.
    """

    comparison: str
    noise: str
    rate: float
    measure: str
    differences: tuple
    mean: float
    interval: tuple
    p: float


def pairs(grid, cells, logs):
    """Returns a dict with the keys :data:`COLUMNS` for every pair of a grid.

    Two trials are a pair if they have the same seed, data, noisy labels and precision, and if both
    have test accuracies.

    Args:
        grid (dict): With ``pairs``: ``title``, and ``first`` and ``second``, each a method and its
            overrides.
        cells (list of Cell): The cells of the table.
        logs (dict): Trial id to the rows of its log. ``same_step_1`` says whether the two logs
            agree in the first stage to the last digit; it is ``None`` without a log.
    """
    # Only settings make an end: trials on other data, or in another precision, are pairs too.
    found, rows = {}, []
    for cell in cells:
        key = cell.method, cell.overrides, cell.noise, cell.rate
        found[key] = found.get(key, []) + cell.results
    for comparison in grid.get('pairs', []):
        for noise, rate in paper.columns(grid):
            ends = (found.get((*_key(comparison[e]), noise, rate), []) for e in ('first', 'second'))
            for first, second in _matched(*ends):
                row = _pair(grid, comparison, noise, rate, first, second, logs)
                rows.append((_common(first)[2:], row))
    return _apart(rows)


def _apart(rows):
    """Returns rows in which pairs made under unusual circumstances are comparisons of their own.

    Otherwise a seed would count once for each precision, as if these pairs were independent.
    """
    counts = Counter(common for common, _ in rows)
    usual = max(counts, key=lambda common: (counts[common], str(common)), default=())
    for common, row in rows:
        if others := [str(value)[:8] for value, u in zip(common, usual, strict=True) if value != u]:
            row['comparison'] += f' ({", ".join(others)})'
    return [row for _, row in rows]


def _key(words):
    method, *overrides = words
    return method, tuple(sorted(overrides))


def _matched(first, second):
    others = {_common(result): result for result in second}
    for result in sorted(first, key=lambda result: result['config']['seed']):
        other = others.get(_common(result))
        if other and None not in [r[m]['test_accuracy'] for r in (result, other) for m in MEASURES]:
            yield result, other


def _common(result):
    config, processes = result['config'], result['environment'].get('processes', 1)
    return (
        config['seed'],
        result['noise']['digest'],
        result['data']['digest'],
        config.get('precision'),
        result.get('weights'),
        f'{processes} processes',
    )


def _pair(grid, comparison, noise, rate, first, second, logs):
    row = {'table': grid['table'], 'comparison': comparison['title'], 'noise': noise, 'rate': rate}
    row |= {'seed': first['config']['seed'], 'first': first['trial'], 'second': second['trial']}
    for measure in MEASURES:
        one, other = (result[measure]['test_accuracy'] for result in (first, second))
        row |= {f'{measure}_first': one, f'{measure}_second': other}
        # Rounded, so that equal differences are equal despite floating-point errors.
        row[f'{measure}_difference'] = round(one - other, 9)
    row |= {f'best_epoch_{end}': r['best']['epoch'] for end, r in _ends(first, second)}
    row['test_images'] = first['data']['test']
    row['same_step_1'] = _same_start(*(logs.get(result['trial']) for result in (first, second)))
    return row


def _ends(first, second):
    return zip(('first', 'second'), (first, second), strict=True)


def _same_start(*logs):
    if None in logs:
        return None
    starts = [
        [
            {key: value for key, value in row.items() if key not in ('seconds', 'shared')}
            for row in log
            if row['stage'] == log[0]['stage']
        ]
        for log in logs
    ]
    return starts[0] == starts[1]


def summaries(grid, rows):
    """Returns the :class:`Summary` of every comparison, setting and measure that has a pair.

    Summaries of all settings use only seeds with pairs in every setting, so that each seed has the
    same weight. In :data:`BY_SEED` the unit is a seed, because its settings share the split and the
    initial weights; :data:`BY_PAIR` ignores that.

    Args:
        grid (dict): The table.
        rows (list of dict): The return value of :func:`pairs`.
    """
    found, settings = [], paper.columns(grid)
    for comparison in dict.fromkeys(row['comparison'] for row in rows):
        own = [row for row in rows if row['comparison'] == comparison]
        for noise, rate in settings:
            here = [row for row in own if (row['noise'], row['rate']) == (noise, rate)]
            found += _summaries(comparison, noise, rate, [[row] for row in here])
        if len(settings) > 1:
            seeds = _whole_seeds(own, settings)
            found += _summaries(comparison, BY_SEED, None, seeds)
            found += _summaries(
                comparison, BY_PAIR, None, [[row] for rows in seeds for row in rows]
            )
    return found


def _whole_seeds(rows, settings):
    seeds = defaultdict(list)
    for row in rows:
        seeds[row['seed']].append(row)
    return [group for group in seeds.values() if len(group) == len(settings)]


def _summaries(comparison, noise, rate, units):
    """Yields the summaries over units, each of which is a list of rows."""
    for measure in MEASURES if units else ():
        key = f'{measure}_difference'
        differences = tuple(statistics.mean(row[key] for row in unit) for unit in units)
        # In whole images, for an exact test.
        hits = [sum(round(row[key] * row['test_images']) for row in unit) for unit in units]
        yield Summary(
            comparison,
            noise,
            rate,
            measure,
            differences,
            statistics.mean(differences),
            paired_statistics.interval(differences),
            paired_statistics.sign_flip_p(hits),
        )


def to_markdown(grid, rows):
    """Returns the summaries of the pairs as Markdown; '' without pairs."""
    if not rows:
        return ''
    titles = ['first against second', 'noise', '', 'pairs', 'mean difference', '95 % interval']
    lines = ['**Pairs by seed**: first minus second, in points of test accuracy', '']
    lines += header([*titles, '+ / 0 / −', 'p', 'smallest p'])
    lines += [_line(summary) for summary in summaries(grid, rows)]
    notes = [*_notes(grid, rows), _where_best_lies(rows)]
    return '\n'.join([*lines, '', *[line for note in notes for line in (note, '')][:-1]]) + '\n'


def _line(summary):
    ends = summary.interval
    signs = [(d > 0) - (d < 0) for d in summary.differences]
    texts = [
        summary.comparison,
        summary.noise if summary.rate is None else f'{summary.noise} {percent(summary.rate, 0)}',
        summary.measure,
        str(len(signs)),
        points(summary.mean),
        f'{points(ends[0])} to {points(ends[1])}' if ends else '',
        ' / '.join(str(signs.count(sign)) for sign in (1, 0, -1)),
        f'{summary.p:.3g}',
        f'{least_p.least_p(len(signs)):.3g}',
    ]
    return f'| {" | ".join(texts)} |'


def _notes(grid, rows):
    for comparison in grid['pairs']:
        first, second = (_words(grid, comparison[end]) for end in ('first', 'second'))
        yield f'{comparison["title"]}: first {first}, second {second}.'
    known = [row['same_step_1'] for row in rows if row['same_step_1'] is not None]
    yield (
        'Both trials of a pair have the same seed, and so the same split, validation images, noisy '
        f'labels and initial weights. In {sum(known)} of {len(known)} pairs with logs, step 1 is '
        'the same to the last digit.'
    )
    yield (
        'Interval: BCa bootstrap over the pairs '
        f'({paired_statistics.RESAMPLES:,} resamples), for at least {paired_statistics.FEWEST} '
        'pairs; it is too narrow for few pairs. p: exact two-sided sign-flip test; smallest p: the '
        'smallest value that this test can give for that number of pairs. No p is corrected for '
        'the number of rows.'
    )
    if len(paper.columns(grid)) > 1:
        yield (
            f'{BY_SEED}: the seeds with pairs in every noise setting, each with the mean of its '
            f'differences. {BY_PAIR}: the same pairs one by one, as if the pairs of a seed were '
            'independent, although they share the split and the initial weights.'
        )
    yield from grid.get('notes', [])


def _words(grid, words):
    method, *overrides = words
    return ' with '.join([method_title(grid, method), *map(code, overrides)])


def _where_best_lies(rows):
    trials = {
        row[end]: (row[f'best_epoch_{end}'], row[f'best_{end}'] - row[f'last_{end}'])
        for row in rows
        for end in ('first', 'second')
    }
    epochs, gaps = zip(*trials.values(), strict=True)
    return (
        f'The median epoch of `best` over the {len(trials)} trials is '
        f'{statistics.median(epochs):g} (epochs {min(epochs)} to {max(epochs)}); the mean of '
        f'`best` minus `last` is {points(statistics.mean(gaps))} points ({points(min(gaps))} to '
        f'{points(max(gaps))}).'
    )
