"""Draws noisy labels from true ones, and gives the transition matrix of each kind of noise."""

import math
import numbers

import numpy as np

from chainer_jo.errors import ConfigError

KINDS = ('none', 'symmetric', 'asymmetric')
SAMPLINGS = ('exact', 'bernoulli')


def noisy_labels(
    labels, n_class, rng, *, kind, rate, sampling='exact', exclude_true=False, flips=None
):
    """Draws noisy labels of one of :data:`KINDS`. The true labels are not modified.

    Arguments as for :func:`symmetric` and :func:`asymmetric`.
    """
    if kind == 'symmetric':
        return symmetric(labels, rate, n_class, rng, sampling=sampling, exclude_true=exclude_true)
    if kind == 'asymmetric':
        return asymmetric(labels, rate, flips, rng, sampling=sampling)
    _check(kind, rate, sampling)
    return labels.astype(np.int32)


def symmetric(labels, rate, n_class, rng, *, sampling='exact', exclude_true=False):
    """Replaces a share of the labels by classes drawn uniformly. ``labels`` are not modified.

    Arguments as for :func:`chainer_jo.symmetric_noise`; ``labels`` is an array, and ``rng`` a
    generator, which draws first which examples, then which classes.

    Source: Eq. (10) of the paper; the exact share as in Tanaka's public code.
    """
    _check('symmetric', rate, sampling)
    chosen = _choose(len(labels), rate, rng, sampling)
    noisy = labels.astype(np.int32)
    if exclude_true:
        # Adds 1 to C - 1 modulo C, which makes all other classes equally likely.
        noisy[chosen] = (noisy[chosen] + rng.integers(1, n_class, len(chosen))) % n_class
    else:
        noisy[chosen] = rng.integers(n_class, size=len(chosen))
    return noisy


def asymmetric(labels, rate, flips, rng, *, sampling='exact'):
    """Replaces a share of the labels of some classes by a similar class.

    ``labels`` are not modified; classes outside the map stay clean. Arguments as for
    :func:`chainer_jo.asymmetric_noise`; ``labels`` is an array, and ``rng`` a generator, which
    draws for one class after the other.

    Source: Sec. 4.1 of the paper; drawn as in Tanaka's public code.
    """
    _check('asymmetric', rate, sampling, flips)
    # A copy: true labels are read-only, and both are needed.
    noisy = labels.astype(np.int32)
    # In the order of the classes, because all of them draw from one generator. Members are found by
    # their true labels, so that a cat that became a dog does not become a cat again.
    for true, other in sorted(flips.items()):
        members = np.flatnonzero(labels == true)
        # The rate holds within each class, so that a small class is as noisy as a large one.
        noisy[members[_choose(len(members), rate, rng, sampling)]] = other
    return noisy


def transition_matrix(kind, rate, n_class, *, exclude_true=False, flips=None):
    """Returns the transition matrix of the noise, ``T[i, j] = P(noisy = j | true = i)``.

    Arguments as for :func:`chainer_jo.transition_matrix`. The matrix is singular for asymmetric
    noise that swaps two classes at a rate of 0.5.
    """
    _check(kind, rate, flips=flips)
    T = np.eye(n_class)
    if kind == 'symmetric':
        others = (1 - T) / (n_class - 1) if exclude_true else np.full_like(T, 1 / n_class)
        # Of the labels that are redrawn, 1 / C stay right, so the diagonal is above 1 - rate.
        T = (1 - rate) * T + rate * others
    elif kind == 'asymmetric':
        for true, other in flips.items():
            # Subtracted and added, because a map may also say that a class stays itself.
            T[true, true] -= rate
            T[true, other] += rate
    return T


def check_rate(rate):
    """Raises ConfigError unless ``rate`` is a fraction."""
    is_number = isinstance(rate, numbers.Real)
    # NaN fails this comparison too.
    if not (is_number and 0 <= rate <= 1):
        percent = is_number and 1 < rate <= 100
        raise ConfigError(
            'the noise rate is a fraction from 0 to 1',
            seen=repr(rate),
            fix=f'write {rate / 100:g}' if percent else 'write for example 0.7 for 70 %',
        )


def _choose(n, rate, rng, sampling):
    if sampling == 'bernoulli':
        return np.flatnonzero(rng.random(n) < rate)
    # As in Tanaka's loop, which changes the i-th shuffled example while i < rate * n (D-36).
    # Without rounding, 0.07 * 100 = 7.000000000000001 would count as 8.
    return rng.permutation(n)[: math.ceil(round(rate * n, 6))]


def _check(kind, rate, sampling='exact', flips=None):
    if kind not in KINDS:
        raise ConfigError(
            'unknown kind of noise', seen=repr(kind), fix=f'write one of {", ".join(KINDS)}'
        )
    if sampling not in SAMPLINGS:
        raise ConfigError(
            'unknown sampling of noise',
            seen=repr(sampling),
            fix=f'write one of {", ".join(SAMPLINGS)}',
        )
    check_rate(rate)
    if kind == 'asymmetric' and not flips:
        raise ConfigError(
            'asymmetric noise needs a map of classes',
            seen='no map for this data set',
            fix='use symmetric noise, or a data set that has such a map, such as cifar10',
        )
