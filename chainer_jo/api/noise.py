"""Noisy labels drawn from true ones. Imports neither Chainer nor CuPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chainer_jo.api import checks
from chainer_jo.datasets import noise


def symmetric_noise(
    labels: Sequence[int] | NDArray[np.integer],
    rate: float,
    n_class: int,
    *,
    rng: int | np.random.Generator = 0,
    sampling: str = 'exact',
    exclude_true: bool = False,
) -> NDArray[np.int32]:
    """Redraws a share of the labels uniformly over the classes, Eq. (10).

    The true class may be drawn again, so fewer labels are wrong than ``rate`` suggests: 63 % for
    ten classes and a rate of 0.7.

    Args:
        labels: True labels, ``(N,)``, integers in ``[0, n_class)``; not changed.
        rate: Share of labels that are redrawn, a fraction in ``[0, 1]``.
        n_class: Number of classes ``C``.
        rng: A NumPy random generator, or a seed for one.
        sampling: ``'exact'`` redraws ``rate * N`` labels, rounded up; ``'bernoulli'`` redraws each
            label with probability ``rate`` (D-22).
        exclude_true: Whether the true class is never drawn, so that a share ``rate`` of the labels
            is wrong (D-23).

    Returns:
        Noisy labels, ``(N,)``, int32.

    Raises:
        ConfigError: Labels, rate or sampling are not as described.

    >>> import chainer_jo
    >>> chainer_jo.symmetric_noise([0, 0, 0, 0], 0.5, n_class=3, rng=0, exclude_true=True)
    array([1, 0, 1, 0], dtype=int32)
    """
    true, rng = checks.labels(labels, n_class), checks.generator(rng)
    how = {'sampling': sampling, 'exclude_true': exclude_true}
    return noise.symmetric(true, rate, n_class, rng, **how)


def asymmetric_noise(
    labels: Sequence[int] | NDArray[np.integer],
    rate: float,
    flips: Mapping[int, int],
    *,
    n_class: int = 10,
    rng: int | np.random.Generator = 0,
    sampling: str = 'exact',
) -> NDArray[np.int32]:
    """Changes a share of the labels of some classes to a similar class (Sec. 4.1).

    Args:
        labels: True labels, ``(N,)``, integers in ``[0, n_class)``; not changed.
        rate: Share of the labels of each class in ``flips`` that change, in ``[0, 1]``.
        flips: Maps a true class to the class that it is mistaken for.
            ``chainer_jo.datasets.cifar10.FLIPS`` is the paper's map.
        n_class: Number of classes ``C``.
        rng: As for :func:`symmetric_noise`.
        sampling: As for :func:`symmetric_noise`, within each class.

    Returns:
        Noisy labels, ``(N,)``, int32.

    Raises:
        ConfigError: Labels, rate, map or sampling are not as described.

    >>> import chainer_jo
    >>> chainer_jo.asymmetric_noise([0, 0, 1, 1, 2, 2], 0.5, {0: 1, 2: 0}, n_class=3, rng=0)
    array([1, 0, 1, 1, 0, 2], dtype=int32)
    """
    flips = checks.flips(flips, n_class)
    true, rng = checks.labels(labels, n_class), checks.generator(rng)
    return noise.asymmetric(true, rate, flips, rng, sampling=sampling)


def transition_matrix(
    kind: str,
    rate: float,
    n_class: int,
    *,
    exclude_true: bool = False,
    flips: Mapping[int, int] | None = None,
) -> NDArray[np.float64]:
    """Returns the transition matrix of label noise, ``T[i, j] = P(noisy = j | true = i)``.

    Args:
        kind: ``'symmetric'``, ``'asymmetric'`` or ``'none'``.
        rate: A fraction in ``[0, 1]``.
        n_class: Number of classes ``C``.
        exclude_true: As for :func:`symmetric_noise`.
        flips: As for :func:`asymmetric_noise`.

    Returns:
        ``(C, C)``, float64, rows that sum to 1.

    Raises:
        ConfigError: Kind or rate are not as described, or asymmetric noise has no map.

    >>> import chainer_jo
    >>> chainer_jo.transition_matrix('asymmetric', 0.25, 3, flips={0: 1})
    array([[0.75, 0.25, 0.  ],
           [0.  , 1.  , 0.  ],
           [0.  , 0.  , 1.  ]])
    """
    checks.whole(n_class, 'n_class', 2)
    if flips is not None:
        flips = checks.flips(flips, n_class)
    return noise.transition_matrix(kind, rate, n_class, exclude_true=exclude_true, flips=flips)
