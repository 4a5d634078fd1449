import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo import paper
from chainer_jo.report.difference import differences, judged, outside, to_markdown

PAPER = {
    'table': 'table2', 'preset': 'paper', 'noise': 'symmetric', 'rates': [0.7], 'trials': 2,
    'paper_trials': 5, 'tolerance': 1.0, 'compare': 'verdict', 'titles': {'ours': 'Ours'},
}  # fmt: skip


# n = 4, s = 1 point: t(3) = 3.1824, times sqrt(1/4 + 1/5) = 0.6708, plus 1 of tolerance = 3.135.
@pytest.mark.parametrize(
    ('mean', 'verdict'),
    [(0.931, 'within'), (0.932, 'above'), (0.869, 'within'), (0.868, 'below')],
)
def test_a_verdict_takes_the_spread_and_the_tolerance_into_account(mean, verdict):
    [judged] = differences(PAPER, [row(mean, std=0.01, trials=4, paper=0.9)])

    assert judged['last_verdict'] == verdict
    assert judged['last_allowed'] == pytest.approx(3.135, abs=1e-3)
    assert judged['last_difference'] == pytest.approx(100 * (mean - 0.9))


def test_a_cell_has_the_same_verdict_in_every_table_that_shows_it():
    allowed = {
        table: differences(
            paper.grid(table, 'paper') | {'compare': 'verdict'},
            [row(0.9, std=0.01, trials=4, paper=0.9)],
        )[0]['best_allowed']
        for table in ('table2', 'figure3', 'ablations', 'claims')
    }
    assert list(allowed.values()) == pytest.approx([3.135] * 4, abs=1e-3)


def test_a_printed_number_of_unknown_origin_counts_as_one_trial():
    grid = paper.grid('table4', 'paper') | {'compare': 'verdict'}
    [judged] = differences(grid, [row(0.9, std=0.01, trials=4, paper=0.9)])
    # t(3) = 3.1824, times sqrt(1/4 + 1).
    assert judged['best_allowed'] == pytest.approx(4.558, abs=1e-3)
    assert 'taken as that of one trial' in to_markdown(PAPER | {'paper_trials': 1}, [judged])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.1), st.integers(2, 9))
def test_more_spread_never_turns_within_into_outside(mean, paper, std, trials):
    narrow, wide = differences(
        PAPER, [row(mean, std, trials, paper), row(mean, std + 0.01, trials, paper)]
    )

    assert wide['best_allowed'] > narrow['best_allowed'] >= 1
    assert not (narrow['best_verdict'] == 'within' and wide['best_verdict'] != 'within')


def test_equal_trials_are_judged_by_the_tolerance_alone():
    verdicts = [
        differences(PAPER, [row(mean, 0.0, 3, 0.9)])[0]['best_verdict'] for mean in (0.909, 0.911)
    ]

    assert verdicts == ['within', 'above']


@pytest.mark.parametrize(
    ('cell', 'verdict'),
    [
        ({'mean': None, 'std': None, 'trials': 0, 'paper': 0.9}, 'not run'),
        ({'mean': 0.1, 'std': None, 'trials': 1, 'paper': 0.9}, 'one trial'),
        ({'mean': 0.1, 'std': 0.0, 'trials': 3, 'paper': None}, 'not printed'),
        ({'mean': None, 'std': None, 'trials': 3, 'paper': 0.9}, 'unknown'),
        ({'mean': 0.1, 'std': 0.0, 'trials': 3, 'paper': 0.9, 'modified': ['a=1']}, 'no verdict'),
    ],
)
def test_a_cell_that_cannot_be_judged_says_why_and_is_not_outside(cell, verdict):
    judged = differences(PAPER, [row(**cell)])

    assert judged[0]['best_verdict'] == judged[0]['last_verdict'] == verdict
    assert not outside(judged)


@pytest.mark.parametrize(
    ('compare', 'difference', 'verdict'),
    [('orientation', pytest.approx(-80), 'no verdict'), ('none', None, 'not comparable')],
)
def test_a_preset_that_is_not_the_papers_gets_no_verdict(compare, difference, verdict):
    judged = differences(PAPER | {'compare': compare}, [row(0.1, 0.0, 3, 0.9)])

    assert judged[0]['best_verdict'] == verdict
    assert judged[0]['best_difference'] == difference
    assert judged[0]['best_allowed'] is None
    assert not outside(judged)


def test_one_cell_outside_is_enough():
    inside, below = row(0.9, 0.0, 3, 0.9), row(0.9, 0.0, 3, 0.9) | {'last_mean': 0.5}

    assert not outside(differences(PAPER, [inside]))
    assert outside(differences(PAPER, [inside, below]))


def test_the_markdown_shows_points_allowance_and_verdict():
    rows = [row(0.905, 0.0, 3, 0.9) | {'last_mean': 0.8}]

    text = to_markdown(PAPER, differences(PAPER, rows))

    assert '| Ours | best | +0.50 (± 1.00) within |\n' in text
    assert '|  | last | −10.00 (± 1.00) below |\n' in text
    assert 'plus 1 points of tolerance' in text


def test_the_markdown_for_orientation_has_points_the_reason_and_no_verdict():
    grid = PAPER | {'preset': 'short', 'compare': 'orientation', 'differs': 'it is shorter'}

    text = to_markdown(grid, differences(grid, [row(0.9, 0.0, 3, 0.8)]))

    assert '| Ours | best | +10.00 no verdict |\n' in text
    assert 'it is shorter.' in text
    assert not re.search('within|above|below', text.replace('no two-sided p below', ''))


def test_the_markdown_of_a_preset_that_cannot_be_compared_is_the_reason_alone():
    grid = PAPER | {'preset': 'quick', 'compare': 'none', 'differs': 'it has other images'}

    text = to_markdown(grid, differences(grid, [row(0.9, 0.0, 3, 0.8)]))

    assert text.endswith("quick is not the paper's experiment: it has other images.\n")
    assert not re.search(r'\d\.\d', text)


def test_cells_that_were_not_run_are_left_out_where_only_modified_ones_were():
    rows = [row(None, None, 0, 0.9), row(0.9, 0.0, 3, 0.9, modified=['a=1'])]

    text = to_markdown(PAPER, differences(PAPER, rows))

    assert 'not run' not in text
    assert '| Ours, `a=1` | best | +0.00 no verdict |\n' in text


@pytest.mark.parametrize(('trials', 'said'), [(1, 'no spread'), (5, '0.0625'), (6, '0.03125')])
def test_the_markdown_says_what_its_number_of_trials_can_show(trials, said):
    std = 0.0 if trials > 1 else None

    text = to_markdown(PAPER, differences(PAPER, [row(0.9, std, trials, 0.8)]))

    assert said in text


def row(mean, std, trials, paper, modified=()):
    return {
        'table': 'table2', 'method': 'ours', 'noise': 'symmetric', 'rate': 0.7, 'trials': trials,
        'best_mean': mean, 'best_std': std, 'last_mean': mean, 'last_std': std,
        'paper_best': paper, 'paper_last': paper, 'modified': list(modified),
    }  # fmt: skip


def test_a_verdict_on_last_alone_is_a_verdict():
    cell = row(0.9, 0.0, 3, 0.9) | {'paper_best': None}

    assert judged(differences(PAPER, [cell]))
