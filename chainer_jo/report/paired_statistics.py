"""What paired differences show: an interval for their mean, and an exact test.

SciPy is imported where it is used: it takes longer than all else that a report needs.
"""

import math

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
FEWEST = 5  # A bootstrap of fewer draws from a handful of values.


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


def sign_flip_p(hits):
    """Returns the two-sided p of the sign-flip test: is the mean of paired differences zero?

    If the two methods of a pair may be exchanged, every pattern of signs is equally likely; p is
    the share of patterns whose sum is at least as far from zero as the one that was seen. All
    patterns count, whatever their number: what is kept is the share of each sum.

    Args:
        hits (sequence of int): Paired differences in images that are classified right.
    """
    reach = sum(map(abs, hits))
    share = np.zeros(2 * reach + 1)
    share[reach] = 1  # A sum of 0, before the first.
    for hit in hits:
        share = (np.roll(share, hit) + np.roll(share, -hit)) / 2
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(sum(hits))
    return float(share[far].sum())
