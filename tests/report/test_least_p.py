import itertools

import pytest

from chainer_jo.report.least_p import least_p, sentence


@pytest.mark.parametrize('trials', range(1, 9))
def test_the_least_p_is_that_of_a_test_over_all_signs(trials):
    """The sign-flip test itself, on the most extreme data there are: all differences equal."""
    seen = trials * 1.0
    sums = [sum(signs) for signs in itertools.product((-1.0, 1.0), repeat=trials)]

    p = sum(abs(total) >= seen for total in sums) / len(sums)

    assert least_p(trials) == p


def test_five_pairs_cannot_reach_the_usual_level_and_six_can():
    assert (least_p(5), least_p(6)) == (0.0625, 0.03125)
    assert 'is at least 0.0625' in sentence([5])
    assert 'cannot reach' in sentence([5])
    assert 'can reach' in sentence([6])


def test_one_trial_shows_nothing_and_none_is_not_mentioned():
    assert 'cannot show' in sentence([1, 1, 0])
    assert sentence([0]) is sentence([]) is None


def test_a_table_of_mixed_cells_speaks_of_the_largest():
    assert sentence([0, 1, 3]).startswith('With 1 to 3 trials')
    assert '0.25' in sentence([1, 3])
