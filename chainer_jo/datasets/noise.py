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
    """Draws noisy labels of any kind. The true labels are not modified.

    Args:
        labels (numpy.ndarray): True labels, ``(N,)``, ``int32`` in ``[0, n_class)``.
        n_class (int): Number of classes ``C``.
        rng (numpy.random.Generator): Every draw comes from here.
        kind (str): One of :data:`KINDS`.
        rate (float): The noise rate, a fraction in ``[0, 1]``; ignored for ``'none'``.
        sampling (str): See :func:`symmetric`.
        exclude_true (bool): See :func:`symmetric`; only symmetric noise uses it.
        flips (dict or None): The map of the data set; see :func:`asymmetric`.

    Returns:
        numpy.ndarray: Noisy labels, ``(N,)``, ``int32``.

    Raises:
        ConfigError: The kind or sampling is unknown, the rate is not a fraction, or asymmetric
            noise has no map.
    """
    _check(kind, rate, sampling, flips)
    if kind == 'symmetric':
        return symmetric(labels, rate, n_class, rng, sampling=sampling, exclude_true=exclude_true)
    if kind == 'asymmetric':
        return asymmetric(labels, rate, flips, rng, sampling=sampling)
    return labels.astype(np.int32)


def symmetric(labels, rate, n_class, rng, *, sampling='exact', exclude_true=False):
    """Replaces a share of the labels by classes drawn uniformly.

    The true class may be drawn again, so the share of wrong labels is below ``rate``: about
    ``rate * (C - 1) / C``, which is 63 % for ten classes at a rate of 0.7.

    Args:
        labels (numpy.ndarray): True labels, ``(N,)``, ``int32`` in ``[0, n_class)``.
        rate (float): Share of examples redrawn, a fraction in ``[0, 1]``.
        n_class (int): Number of classes ``C``.
        rng (numpy.random.Generator): Draws which examples, then which classes.
        sampling (str): ``'exact'``: exactly ``rate * N`` examples, rounded up, whatever the seed;
            ``'bernoulli'``: each example independently with probability ``rate``.
        exclude_true (bool): If true, the true class is never drawn.

    Returns:
        numpy.ndarray: Noisy labels, ``(N,)``, ``int32``.

    Raises:
        ConfigError: ``rate`` is outside ``[0, 1]``, or ``sampling`` is unknown.

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

    Classes outside the map stay clean. At a rate of 0.4, the map of CIFAR-10 makes 20 % of all
    labels wrong.

    Args:
        labels (numpy.ndarray): True labels, ``(N,)``, ``int32``.
        rate (float): Share of each mapped class that changes, a fraction in ``[0, 1]``.
        flips (dict): True class -> noisy class.
        rng (numpy.random.Generator): Draws for one class after the other.
        sampling (str): As in :func:`symmetric`, within each class.

    Returns:
        numpy.ndarray: Noisy labels, ``(N,)``, ``int32``.

    Raises:
        ConfigError: ``rate`` is outside ``[0, 1]``, ``sampling`` is unknown, or there is no map.

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

    The matrix is singular for asymmetric noise that swaps two classes at a rate of 0.5.

    Args:
        kind (str): One of :data:`KINDS`.
        rate (float): A fraction in ``[0, 1]``.
        n_class (int): Number of classes ``C``.
        exclude_true (bool): Whether symmetric noise never draws the true class.
        flips (dict or None): The map of asymmetric noise.

    Returns:
        numpy.ndarray: ``(C, C)``, ``float64``; rows sum to 1.

    Raises:
        ConfigError: As :func:`noisy_labels`.
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
