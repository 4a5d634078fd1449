"""Means of trials minus the paper's printed numbers, with a verdict that considers the spread."""

import math

from chainer_jo import paper
from chainer_jo.report import least_p
from chainer_jo.report.markdown import (
    codes,
    column_title,
    header,
    is_compared,
    method_title,
    points,
    shown_rows,
)

OUTSIDE = ('above', 'below')
CONFIDENCE = 0.95


def differences(grid, rows):
    """Returns the difference from the paper, with a verdict, for every row of a table.

    The paper prints a mean of m trials without a spread; here there is a mean of n trials with
    standard deviation s. If both labs draw trials from the same distribution, 95 % of the
    differences of the two means are within ``t(n - 1) s sqrt(1/n + 1/m)``; the spread here is used
    for the paper as well. The grid's ``tolerance`` is added to this interval, as an allowance for
    what a reproduction cannot share (the paper's splits, noise and software). A difference inside
    the interval is ``within``, and outside it is ``above`` or ``below``. ``one trial`` gets no
    verdict; a cell can also be ``not run``, ``unknown`` (no test set) or ``not printed``.

    If the preset's ``compare`` is ``orientation``, and for modified trials, there is a difference
    but ``no verdict``; if it is ``none``, there is neither (``not comparable``).

    Args:
        grid (dict): With ``compare``, ``trials`` (the paper's m) and ``tolerance`` (points).
        rows (list of dict): The return value of ``tables.rows``.

    Returns:
        list of dict: ``table``, ``method``, ``noise``, ``rate``, ``modified``, ``trials`` and, for
        ``which`` in best and last, ``{which}_difference`` and ``{which}_allowed`` (points, ``None``
        if not defined) and ``{which}_verdict``.
    """
    return [_difference(grid, row) for row in rows]


def judged(differences):
    """Returns whether any cell has a verdict."""
    verdicts = {row[f'{which}_verdict'] for row in differences for which in ('best', 'last')}
    return not verdicts.isdisjoint(('within', 'above', 'below'))


def outside(differences):
    """Returns whether any cell is outside tolerance, for exit code 1 of ``diff``."""
    return any(d[f'{which}_verdict'] in OUTSIDE for d in differences for which in ('best', 'last'))


def _difference(grid, row):
    judged = {key: row[key] for key in ('table', 'method', 'noise', 'rate', 'modified', 'trials')}
    for which in ('best', 'last'):
        mean, std, printed = row[f'{which}_mean'], row[f'{which}_std'], row[f'paper_{which}']
        # With other images or another net, even a difference of zero would mean nothing.
        shown = None not in (mean, printed) and grid['compare'] != 'none'
        difference = 100 * (mean - printed) if shown else None
        # A single trial has no spread, so it gets no verdict.
        allowed = None
        if shown and is_compared(grid, row) and std is not None:
            allowed = _allowed(100 * std, row['trials'], _of_paper(grid), grid['tolerance'])
        judged[f'{which}_difference'] = difference
        judged[f'{which}_allowed'] = allowed
        judged[f'{which}_verdict'] = _verdict(grid, row, which, difference, allowed)
    return judged


def _allowed(std, trials, paper_trials, tolerance):
    # Imported here because it takes a tenth of a second, and other commands do not need it.
    from scipy.special import stdtrit

    spread = stdtrit(trials - 1, 0.5 + CONFIDENCE / 2) * std
    # 1 / paper_trials: the paper's mean, over a few trials, is uncertain too.
    return spread * math.sqrt(1 / trials + 1 / paper_trials) + tolerance


def _of_paper(grid):
    # A printed number of unknown origin may be that of a single trial.
    return grid.get('paper_trials', 1)


def _verdict(grid, row, which, difference, allowed):
    if row[f'{which}_mean'] is None:
        return 'unknown' if row['trials'] else 'not run'
    if row[f'paper_{which}'] is None:
        return 'not printed'
    if grid['compare'] == 'none':
        return 'not comparable'
    if not is_compared(grid, row):
        return 'no verdict'
    if allowed is None:
        return 'one trial'
    if abs(difference) <= allowed:
        return 'within'
    return 'above' if difference > 0 else 'below'


def to_markdown(grid, differences):
    """Returns the differences as Markdown: points, the allowed difference, and the verdict.

    If the preset cannot be compared with the paper, the text is one sentence with the reason.
    """
    title = f'**Difference from the paper**: {grid["table"]}, preset {grid["preset"]}'
    if grid['compare'] == 'none':
        return (
            f"{title}\n\nNone is shown, because preset {grid['preset']} is not the paper's "
            f'experiment: {grid["differs"]}.\n'
        )
    columns, groups = paper.columns(grid), {}
    for row in shown_rows(differences):
        group = groups.setdefault((row['method'], tuple(row['modified'])), {})
        group[row['noise'], row['rate']] = row
    lines = [title, '']
    lines += header(['method', ''] + [column_title(grid, column) for column in columns])
    for (method, modified), group in groups.items():
        name = method_title(grid, method) + (f', {codes(modified)}' if modified else '')
        for which in ('best', 'last'):
            texts = (_text(group.get(column), which) for column in columns)
            lines.append(f'| {name} | {which} | {" | ".join(texts)} |')
            name = ''
    notes = [_rule(grid), least_p.sentence(row['trials'] for row in differences)]
    return '\n\n'.join(['\n'.join(lines), *filter(None, notes)]) + '\n'


def _text(row, which):
    if row is None:
        return ''
    difference, allowed = row[f'{which}_difference'], row[f'{which}_allowed']
    words = [] if difference is None else [points(difference / 100)]
    words += [] if allowed is None else [f'(± {allowed:.2f})']
    return ' '.join([*words, row[f'{which}_verdict']])


def _rule(grid):
    if grid['compare'] == 'orientation':
        return (
            'Points: the mean here minus the printed one, for orientation. There is no verdict, '
            f"because preset {grid['preset']} is not the paper's experiment: {grid['differs']}."
        )
    count = _of_paper(grid)
    origin = f'mean of {count} trials' if count > 1 else 'number, taken as that of one trial'
    return (
        f'Points: the mean here minus the printed one. Allowed (±): the {100 * CONFIDENCE:g} % '
        f"interval for the difference between this mean and the paper's {origin}, both with the "
        f'spread of the trials here, plus {grid["tolerance"]:g} points of tolerance. The paper '
        'prints no spread. Neither a single trial nor a row that departs from the preset gets a '
        'verdict.'
    )
