import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainer_jo.report.least_p import least_p
from chainer_jo.report.paired_statistics import FEWEST, interval, sign_flip_p

HITS = st.lists(st.integers(-30, 30), min_size=1, max_size=9)


@given(HITS)
def test_p_is_the_share_of_sign_patterns_as_extreme_as_the_one_seen(hits):
    patterns = list(itertools.product((1, -1), repeat=len(hits)))
    extreme = [
        pattern
        for pattern in patterns
        if abs(sum(sign * hit for sign, hit in zip(pattern, hits, strict=True))) >= abs(sum(hits))
    ]

    assert sign_flip_p(hits) == pytest.approx(len(extreme) / len(patterns))


@pytest.mark.parametrize('n', [1, 2, 5, 20, 100])
def test_differences_of_one_sign_reach_the_least_p_that_so_many_can(n):
    assert sign_flip_p([7] * n) == pytest.approx(least_p(n))
    assert sign_flip_p([-7] * n) == pytest.approx(least_p(n))


@settings(max_examples=20, deadline=None)
@given(HITS.filter(lambda hits: len(hits) > 1))
def test_p_is_that_of_scipys_permutation_test(hits):
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        test = stats.permutation_test(
            (np.array(hits),), np.sum, permutation_type='samples', n_resamples=np.inf
        )
    assert sign_flip_p(hits) == pytest.approx(min(1, test.pvalue))


def test_the_interval_holds_the_mean_moves_and_turns_with_the_differences():
    differences = list(np.random.default_rng(3).exponential(0.01, 12))
    low, high = interval(differences)
    moved = interval([difference + 1 for difference in differences])
    turned = interval([-difference for difference in differences])

    assert low < np.mean(differences) < high
    assert moved == pytest.approx((low + 1, high + 1), abs=2e-4)
    assert turned == pytest.approx((-high, -low), abs=1e-3)
    assert interval(differences) == (low, high)


def test_the_interval_is_scipys_bca_interval_of_95_percent():
    from scipy import stats

    differences = list(np.random.default_rng(3).exponential(0.01, 12))
    expected = stats.bootstrap(
        (np.array(differences),), np.mean, n_resamples=9999, confidence_level=0.95, method='BCa',
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert interval(differences) == (expected.low, expected.high)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        low, high = interval(list(rng.normal(0.01, 0.005, 20)))
        covered += low <= 0.01 <= high
    # Binomial: 0.95 of 60 is 57, and fewer than 49 or all of 60 within half the width are not luck.
    assert covered >= 49


@pytest.mark.parametrize('differences', [[0.01], [0.01, 0.02, 0.0, 0.03], [0.01] * 8])
def test_what_a_bootstrap_says_nothing_of_has_no_interval(differences):
    assert interval(differences) is None


def test_the_fewest_differences_that_have_an_interval_are_as_many_as_the_page_says():
    differences = [0.01, 0.02, 0.0, 0.03, -0.01]

    assert len(differences) == FEWEST
    assert interval(differences) is not None
    assert interval(differences[1:]) is None
