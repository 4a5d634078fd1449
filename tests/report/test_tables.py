import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.report import tables
from chainer_jo.report.cells import cells


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_mean_and_sample_standard_deviation_are_those_of_the_slow_sums(values):
    mean, std = tables.mean_and_std(values)

    expected = sum(values) / len(values)
    squares = sum((value - expected) ** 2 for value in values)
    assert mean == pytest.approx(expected, abs=1e-12)
    assert std == pytest.approx(math.sqrt(squares / (len(values) - 1)), abs=1e-7)
    assert min(values) <= mean <= max(values)


@given(st.floats(0, 1), st.integers(2, 8))
def test_equal_trials_have_their_value_as_mean_and_no_spread(value, count):
    mean, std = tables.mean_and_std([value] * count)

    assert mean == pytest.approx(value, abs=1e-15)
    assert std == 0


def test_one_trial_has_a_mean_and_no_standard_deviation():
    assert tables.mean_and_std([0.3]) == (0.3, None)
    assert tables.mean_and_std([]) == (None, None)


def test_a_row_has_the_documented_keys_and_unrounded_fractions(
    grid, published, standard, add_trial
):
    results = [add_trial(0.1, 0.25, seed=0), add_trial(0.2, 0.75, seed=1, labels=0.9)]
    for result in results:
        result['best']['validation_accuracy'] = result['last']['validation_accuracy'] = 0.99

    rows = tables.rows(grid, published, cells(grid, published, results, standard))

    [row] = [row for row in rows if row['trials']]
    assert row == {
        'table': 'table2', 'method': 'ours', 'noise': 'symmetric', 'rate': 0.7, 'trials': 2,
        'best_mean': pytest.approx(0.15), 'best_std': pytest.approx(0.1 / math.sqrt(2)),
        'last_mean': 0.5, 'last_std': pytest.approx(0.5 / math.sqrt(2)),
        'label_accuracy_mean': pytest.approx(0.85),
        'paper_best': 0.8767, 'paper_last': 0.8743, 'modified': [],
    }  # fmt: skip
    assert tuple(row) == tables.COLUMNS


def test_what_was_not_run_or_not_printed_is_none(grid, published, standard):
    rows = tables.rows(grid, published, cells(grid, published, [], standard))

    assert len(rows) == 6
    assert all(row['trials'] == 0 and row['last_mean'] is None for row in rows)
    assert [row['paper_best'] is None for row in rows] == [False] * 4 + [True] * 2


def test_label_accuracy_is_none_where_the_true_labels_are_not_known(
    grid, published, standard, add_trial
):
    results = [add_trial(seed=0), add_trial(seed=1, labels=None)]

    rows = tables.rows(grid, published, cells(grid, published, results, standard))

    assert [row['label_accuracy_mean'] for row in rows if row['trials']] == [None]


def test_csv_gives_back_every_number_and_list(grid, published, standard, add_trial):
    results = [add_trial(1 / 3, 2 / 3, modified=['common.batch_size=8'], common=COMMON)]
    rows = tables.rows(grid, published, cells(grid, published, results, standard))

    read = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))

    assert [float(row['best_mean'] or 'nan') for row in read if row['trials'] == '1'] == [1 / 3]
    assert [json.loads(row['modified']) for row in read] == [row['modified'] for row in rows]
    assert [row['last_std'] for row in read] == [''] * 7


COMMON = {'batch_size': 8, 'validation_labels': 'clean'}
