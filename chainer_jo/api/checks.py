"""Checks of arguments: a ConfigError says the problem, what was seen, and the fix."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from chainer_jo.errors import ConfigError, excerpt

#: How far from 1 a row of float32 probabilities may sum.
ROUNDING = 1e-3


def labels(given: Any, n_class: int, count: int | None = None) -> np.ndarray:
    """Checks that labels are integers in ``[0, n_class)``; returns them as ``(N,)``, int32."""
    n_class, array = whole(n_class, 'n_class', 2), np.asarray(given)
    if array.ndim != 1 or array.dtype.kind not in 'iu' or not array.size:
        raise ConfigError(
            'labels are one whole number per image', seen=_kind(array), fix='give integers, (N,)'
        )
    if count is not None and len(array) != count:
        raise ConfigError(
            'there is not one label per image',
            seen=f'{len(array)} labels, {count} images',
            fix='give as many labels as images',
        )
    if array.min() < 0 or array.max() >= n_class:
        raise ConfigError(
            f'a label is no class of {n_class}',
            seen=f'labels from {array.min()} to {array.max()}',
            fix=f'count classes from 0 to {n_class - 1}, or give a larger n_class',
        )
    return array.astype(np.int32)


def images(given: Any) -> np.ndarray:
    """Checks that images are ``(N, channels, H, W)``, uint8, and returns them."""
    array = np.asarray(given)
    if array.ndim != 4 or not array.size:
        raise ConfigError(
            'images have four axes: (N, channels, H, W)',
            seen=_kind(array),
            fix='grey images are (N, 1, H, W); (N, H, W, 3) becomes so by .transpose(0, 3, 1, 2)',
        )
    if array.dtype != np.uint8:
        raise ConfigError(
            'images are uint8, from 0 to 255',
            seen=_kind(array),
            fix='(255 * images).round().astype("uint8") of images in [0, 1]',
        )
    if array.shape[1] not in (1, 3):
        raise ConfigError(
            'images have 1 channel (grey) or 3 (colour)',
            seen=f'{array.shape[1]} channels in {array.shape}',
            fix='put channels on the second axis: (N, H, W, 3).transpose(0, 3, 1, 2)',
        )
    return array


def images_of(given: Any, shape: tuple) -> np.ndarray:
    """Checks that images have the ``shape`` that a net was trained on, and returns them."""
    array = images(given)
    if array.shape[1:] != shape:
        raise ConfigError(
            'images have another size than those the net was trained on',
            seen=f'{array.shape[1:]}',
            fix=f'scale them to {shape}',
        )
    return array


def rows(given: Any, name: str, like: tuple | None = None) -> Any:
    """Checks for probabilities, ``(B, C)``, float32, rows that sum to 1, and returns them.

    Args:
        given: An array of NumPy or CuPy.
        name: What to call it.
        like: The shape that it has to have, if there is one.
    """
    if getattr(given, 'ndim', None) != 2 or given.dtype != np.float32:
        raise ConfigError(
            f'{name} is (B, C), float32', seen=_kind(given), fix='chainer_jo.one_hot of classes'
        )
    if like is not None and given.shape != like:
        raise ConfigError(
            f'{name} has another shape than it should',
            seen=f'{given.shape}',
            fix=f'give {like}',
        )
    # Written so that NaN fails too: every comparison with it is false.
    if not (given.min() >= 0 and abs(given.sum(axis=1) - 1).max() <= ROUNDING):
        raise ConfigError(
            f'each row of {name} is a distribution over the classes',
            seen=f'entries from {float(given.min()):g}, row sums from '
            f'{float(given.sum(axis=1).min()):g} to {float(given.sum(axis=1).max()):g}',
            fix='give probabilities, as of a softmax',
        )
    return given


def whole(value: Any, name: str, least: int) -> int:
    """Checks that a whole number is at least ``least``, and returns it."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f'{name} is a whole number of at least {least}',
            seen=excerpt(repr(value)),
            fix=f'give for example {max(least, 10)}',
        )
    return int(value)


def positive(value: Any, name: str) -> float:
    """Checks that a number is finite and above 0, and returns it."""
    if not isinstance(value, numbers.Real) or not 0 < value < float('inf'):
        raise ConfigError(
            f'{name} is a number above 0', seen=excerpt(repr(value)), fix='give for example 1.0'
        )
    return float(value)


def generator(rng: Any) -> np.random.Generator:
    """Returns a generator as it is, or one made from a seed of 0 or more."""
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(whole(rng, 'rng, unless it is a numpy.random.Generator,', 0))


def _kind(given: Any) -> str:
    shape, dtype = getattr(given, 'shape', None), getattr(given, 'dtype', None)
    return f'shape {shape}, {dtype}' if dtype is not None else excerpt(repr(given))
