"""Statistics of paired differences: an interval for their mean, and an exact test.

SciPy is imported in the function that uses it: it takes longer to import than all else in a report.
"""

import math

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
FEWEST = 5  # With fewer, the resamples take only a handful of distinct values.


def interval(differences):
    """Returns the bootstrap interval (BCa) of the mean of paired differences.

    The resamples are drawn with a fixed seed, so equal differences give equal intervals.

    Args:
        differences (sequence of float): At least one.

    Returns:
        tuple of float: Lower and upper end; ``None`` for fewer than :data:`FEWEST` differences, or
        if all are equal, since a bootstrap is meaningless then.
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
    # BCa gives NaN if too few values are on one side of the mean.
    ends = float(found.low), float(found.high)
    return ends if all(map(math.isfinite, ends)) else None


def sign_flip_p(hits):
    """Returns the two-sided p of a sign-flip test of whether the mean paired difference is zero.

    If the two methods of a pair are exchangeable, all patterns of signs are equally likely, and p
    is the share of patterns whose sum is at least as far from zero as the observed one. The test is
    exact for any number of pairs: it computes the distribution of the sum, not single patterns.

    Args:
        hits (sequence of int): Paired differences in numbers of correctly classified images.
    """
    reach = sum(map(abs, hits))
    share = np.zeros(2 * reach + 1)
    share[reach] = 1  # The sum is 0 before the first difference.
    for hit in hits:
        share = (np.roll(share, hit) + np.roll(share, -hit)) / 2
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(sum(hits))
    return float(share[far].sum())
