"""Argument checks: a ConfigError states the problem, the value that was seen, and a fix."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainer_jo.errors import ConfigError, excerpt

#: How far the sum of a row of float32 probabilities may be from 1.
ROUNDING = 1e-3


def labels(given: Any, n_class: int, count: int | None = None) -> np.ndarray:
    """Checks that labels are integers in ``[0, n_class)`` and returns them, ``(N,)``, int32."""
    n_class, array = whole(n_class, 'n_class', 2), np.asarray(given)
    if array.ndim != 1 or array.dtype.kind not in 'iu' or not array.size:
        fix = 'pass an integer array of shape (N,)'
        if array.ndim == 1 and array.dtype.kind in 'US':
            fix = 'number the names: classes, labels = np.unique(names, return_inverse=True)'
        elif array.ndim == 2:
            fix = f'pass labels{"[:, 0]" if array.shape[1] == 1 else ".argmax(axis=1)"}'
        raise ConfigError('labels must be one integer per image', seen=_kind(array), fix=fix)
    if count is not None and len(array) != count:
        raise ConfigError(
            'the numbers of labels and images differ',
            seen=f'{len(array)} labels, {count} images',
            fix='pass one label per image',
        )
    if array.min() < 0 or array.max() >= n_class:
        larger = '' if array.max() < n_class else ', or pass a larger number of classes'
        raise ConfigError(
            f'a label is not one of the {n_class} classes',
            seen=f'labels from {array.min()} to {array.max()}',
            fix=f'number the classes from 0 to {n_class - 1}{larger}',
        )
    return array.astype(np.int32)


def images(given: Any) -> np.ndarray:
    """Checks that images are ``(N, channels, H, W)``, uint8, and returns them."""
    array = np.asarray(given)
    if array.ndim == 4 and not array.size:
        raise ConfigError('there are no images', seen=_kind(array), fix='pass at least one')
    if array.ndim != 4:
        raise ConfigError(
            'images must have four axes: (N, channels, H, W)',
            seen=_kind(array),
            fix='grey images are (N, 1, H, W); for (N, H, W, 3) use .transpose(0, 3, 1, 2)',
        )
    if array.dtype != np.uint8:
        raise ConfigError(
            'images must be uint8, from 0 to 255',
            seen=_kind(array),
            fix='convert images in [0, 1] with (255 * images).round().astype("uint8"), and those '
            'in [0, 255] with images.astype("uint8")',
        )
    if array.shape[1] not in (1, 3):
        raise ConfigError(
            'images must have 1 channel (grey) or 3 (colour)',
            seen=f'{array.shape[1]} channels in {array.shape}',
            fix='leave out the alpha channel: images[:, :3]'
            if array.shape[1] == 4
            else 'put the channels on the second axis: (N, H, W, 3).transpose(0, 3, 1, 2)',
        )
    return array


def images_of(given: Any, shape: tuple) -> np.ndarray:
    """Checks that each image has the ``shape`` that a net was trained on; returns the images."""
    array = images(given)
    if array.shape[1:] != shape:
        raise ConfigError(
            'the images have another size than those the net was trained on',
            seen=f'{array.shape[1:]}',
            fix=f'resize them to {shape}',
        )
    return array


def rows(given: Any, name: str, like: tuple | None = None) -> Any:
    """Checks for probabilities, ``(B, C)``, float32, rows that sum to 1, and returns them.

    Args:
        given: A NumPy or CuPy array.
        name: The argument's name, for the message.
        like: The shape it must have; ``None`` allows any.
    """
    if getattr(given, 'ndim', None) != 2 or given.dtype != np.float32 or not given.size:
        raise ConfigError(
            f'{name} must be (B, C), float32',
            seen=_kind(given),
            fix='make it from class numbers with chainer_jo.one_hot',
        )
    if like is not None and given.shape != like:
        raise ConfigError(
            f'{name} has the wrong shape',
            seen=f'{given.shape}',
            fix=f'pass an array of shape {like}',
        )
    # Written so that NaN fails too: every comparison with it is false.
    if not (given.min() >= 0 and abs(given.sum(axis=1) - 1).max() <= ROUNDING):
        raise ConfigError(
            f'each row of {name} must be a probability distribution over the classes',
            seen=f'entries from {float(given.min()):g}, row sums from '
            f'{float(given.sum(axis=1).min()):g} to {float(given.sum(axis=1).max()):g}',
            fix='pass probabilities, such as the output of a softmax',
        )
    return given


def whole(value: Any, name: str, least: int) -> int:
    """Checks that a value is an integer of at least ``least``, and returns it."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f'{name} must be an integer of at least {least}',
            seen=excerpt(repr(value)),
            fix=f'pass for example {max(least, 10)}',
        )
    return int(value)


def flips(given: Any, n_class: int) -> dict[int, int]:
    """Checks that a map takes classes in ``[0, n_class)`` to classes, and returns it as a dict."""
    whole(n_class, 'n_class', 2)
    if not isinstance(given, Mapping) or not all(
        cls in range(n_class) for pair in given.items() for cls in pair
    ):
        raise ConfigError(
            f'flips must map classes to classes, from 0 to {n_class - 1}',
            seen=excerpt(repr(given)),
            fix='pass for example {9: 1} if class 9 is mistaken for class 1',
        )
    return {int(cls): int(other) for cls, other in given.items()}


def overrides(given: Any) -> list[str]:
    """Checks that overrides are several texts, not one text, and returns them as a list."""
    texts = [None] if isinstance(given, str) else list(given)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(
            'overrides must be a list of settings',
            seen=excerpt(repr(given)),
            fix="pass for example ['ours.fine_tune.a=1.0']",
        )
    return texts


def positive(value: Any, name: str) -> float:
    """Checks that a value is a finite number above 0, and returns it."""
    if not isinstance(value, numbers.Real) or not 0 < value < float('inf'):
        raise ConfigError(
            f'{name} must be a number above 0',
            seen=excerpt(repr(value)),
            fix='pass for example 1.0',
        )
    return float(value)


def fraction(value: Any, name: str) -> float:
    """Checks that a value is a number from 0 to 1, and returns it."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise ConfigError(
            f'{name} must be a fraction from 0 to 1',
            seen=excerpt(repr(value)),
            fix='pass for example 0.8',
        )
    return float(value)


def generator(rng: Any) -> np.random.Generator:
    """Returns a generator unchanged, or makes one from a seed of 0 or more."""
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(whole(rng, 'rng, unless it is a numpy.random.Generator,', 0))


def _kind(given: Any) -> str:
    shape, dtype = getattr(given, 'shape', None), getattr(given, 'dtype', None)
    return f'shape {shape}, {dtype}' if dtype is not None else excerpt(repr(given))
