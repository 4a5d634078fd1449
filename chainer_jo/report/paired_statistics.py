"""What paired differences show: an interval for their mean, and an exact test.

SciPy is imported where it is used: it takes longer than all else that a report needs.
"""

import math

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
FEWEST = 5  # A bootstrap of fewer draws from a handful of values.
MOST_EXACT = 20  # A million patterns of signs.


def interval(differences):
    """Returns the bootstrap interval (BCa) of the mean of paired differences.

    The resamples are drawn with a fixed seed: equal differences give equal intervals.

    Args:
        differences (sequence of float): At least one.

    Returns:
        tuple of float: Lower and upper end; ``None`` for fewer than :data:`FEWEST` differences and
        for equal ones, where a bootstrap says nothing.
    """
    if len(differences) < FEWEST or len(set(differences)) == 1:
        return None
    from scipy import stats

    found = stats.bootstrap(
        (np.array(differences),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method='BCa',
        rng=np.random.default_rng(0),
    ).confidence_interval
    # BCa finds no end where too few values lie on one side of the mean.
    ends = float(found.low), float(found.high)
    return ends if all(map(math.isfinite, ends)) else None


def sign_flip_p(differences):
    """Returns the two-sided p of the sign-flip test: is the mean of paired differences zero?

    If the two methods of a pair may be exchanged, every pattern of signs is equally likely; p is
    the share of patterns whose sum is at least as far from zero as the one that was seen.

    Args:
        differences (sequence of float): One to :data:`MOST_EXACT`.

    Raises:
        ValueError: There are more.
    """
    if len(differences) > MOST_EXACT:
        raise ValueError(f'{len(differences)} pairs have too many patterns of signs to count')
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    # The first has all signs as seen. Sums that differ by rounding only are as far from zero.
    return float((np.abs(sums) >= abs(sums[0]) - 1e-9).mean())
