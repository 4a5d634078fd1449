"""Our means minus the paper's printed numbers, with a verdict that knows the spread."""

import math

from chainer_jo import paper
from chainer_jo.report.markdown import column_title, header, method_title, points

OUTSIDE = ('above', 'below')
CONFIDENCE = 0.95


def differences(grid, rows):
    """Returns the difference to the paper, and the verdict on it, for every row of a table.

    The paper prints one mean of m trials and no spread; ours is a mean of n trials with standard
    deviation s. If both labs draw trials from one distribution, the difference of the two means
    stays, 95 times in 100, within ``t(n - 1) s sqrt(1/n + 1/m)``: our spread has to serve for the
    paper's, whose mean is as uncertain as ours. This is widened by the grid's ``tolerance``, the
    declared allowance for what a reproduction cannot share (the paper's splits, noise and
    software). A difference inside is ``within``, outside it is ``above`` or ``below``. No verdict
    rests on ``one trial``; a cell can be ``not run`` or ``not printed``. Under a preset other than
    ``paper``, and for modified trials, the verdict is ``not comparable``, whatever the difference.

    Args:
        grid (dict): With ``preset``, ``trials`` (the paper's m) and ``tolerance`` (points).
        rows (list of dict): What ``tables.rows`` returned.

    Returns:
        list of dict: ``table``, ``method``, ``noise``, ``rate``, ``modified``, ``trials`` and, for
        ``which`` in best and last, ``{which}_difference`` and ``{which}_allowed`` (points, ``None``
        where not defined) and ``{which}_verdict``.
    """
    return [_difference(grid, row) for row in rows]


def outside(differences):
    """Returns whether any cell is outside tolerance: exit code 1 of ``diff``."""
    return any(d[f'{which}_verdict'] in OUTSIDE for d in differences for which in ('best', 'last'))


def _difference(grid, row):
    judged = {key: row[key] for key in ('table', 'method', 'noise', 'rate', 'modified', 'trials')}
    comparable = grid['preset'] == 'paper' and not row['modified']
    for which in ('best', 'last'):
        mean, std, paper = row[f'{which}_mean'], row[f'{which}_std'], row[f'paper_{which}']
        known = mean is not None and paper is not None
        difference = 100 * (mean - paper) if known else None
        allowed = None
        if known and comparable and std is not None:
            allowed = _allowed(100 * std, row['trials'], grid['trials'], grid['tolerance'])
        judged[f'{which}_difference'] = difference
        judged[f'{which}_allowed'] = allowed
        judged[f'{which}_verdict'] = _verdict(mean, paper, difference, allowed, comparable)
    return judged


def _allowed(std, trials, paper_trials, tolerance):
    spread = t_quantile(0.5 + CONFIDENCE / 2, trials - 1) * std
    return spread * math.sqrt(1 / trials + 1 / paper_trials) + tolerance


def _verdict(mean, paper, difference, allowed, comparable):
    if mean is None:
        return 'not run'
    if paper is None:
        return 'not printed'
    if not comparable:
        return 'not comparable'
    if allowed is None:
        return 'one trial'
    if abs(difference) <= allowed:
        return 'within'
    return 'above' if difference > 0 else 'below'


def t_quantile(probability, freedom):
    """Returns the quantile of Student's t distribution with ``freedom`` (int) degrees of freedom.

    Args:
        probability (float): From 0.5 up to, not including, 1.
    """
    low, high = 0.0, math.pi / 2
    # In the angle atan(t / sqrt(freedom)) the whole half-line is a bounded interval to halve.
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _t_share(angle, freedom) < probability else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _t_share(angle, freedom):
    """P(T <= t) for t = sqrt(freedom) tan(angle) >= 0 (Abramowitz and Stegun, 26.7.3, 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    central = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return 0.5 + central / 2


def to_markdown(grid, differences):
    """Returns the differences as Markdown: points, what is allowed, and the verdict."""
    columns, groups = paper.columns(grid), {}
    for row in differences:
        group = groups.setdefault((row['method'], tuple(row['modified'])), {})
        group[row['noise'], row['rate']] = row
    lines = [f'**Difference to the paper**: {grid["table"]}, preset {grid["preset"]}', '']
    lines += header(['method', ''] + [column_title(grid, column) for column in columns])
    for (method, modified), group in groups.items():
        name = ', '.join([method_title(grid, method), *(f'`{item}`' for item in modified)])
        for which in ('best', 'last'):
            texts = (_text(group.get(column), which) for column in columns)
            lines.append(f'| {name} | {which} | {" | ".join(texts)} |')
            name = ''
    return '\n'.join([*lines, '', _rule(grid)]) + '\n'


def _text(row, which):
    if row is None:
        return ''
    difference, allowed = row[f'{which}_difference'], row[f'{which}_allowed']
    words = [] if difference is None else [points(difference / 100)]
    words += [] if allowed is None else [f'(± {allowed:.2f})']
    return ' '.join([*words, row[f'{which}_verdict']])


def _rule(grid):
    if grid['preset'] != 'paper':
        return (
            f"Not comparable: the paper's numbers are for other data and the full net and "
            f'schedule than preset {grid["preset"]} has. No verdict.'
        )
    return (
        f'Points: our mean minus the printed one. Allowed (±): the {100 * CONFIDENCE:g} % interval '
        f'for the difference of two means with our spread over trials, the paper averaging '
        f'{grid["trials"]}, plus {grid["tolerance"]:g} points of tolerance. The paper prints no '
        'spread; one trial gets no verdict.'
    )
