"""Argument checks: a ConfigError states the problem, the value that was seen, and a fix."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Mapping, Set
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from chainer_jo.errors import ConfigError, excerpt

#: How far the sum of a row of float32 probabilities may be from 1.
ROUNDING = 1e-3


def array(given: Any, name: str, dtype: Any = None) -> np.ndarray:
    """Returns NumPy's array of a value; ConfigError if there is none, as of rows of two lengths.

    With a ``dtype``, there is none of text that is no number either.
    """
    try:
        return np.asarray(given, dtype)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f'{name} must be an array on the CPU',
            seen=excerpt(error, 200),
            fix='pass a NumPy array of numbers, or lists of equal length; of a CuPy array, .get()',
        ) from error


def labels(given: Any, n_class: int, count: int | None = None) -> np.ndarray:
    """Checks that labels are integers in ``[0, n_class)`` and returns them, ``(N,)``, int32."""
    n_class, found = whole(n_class, 'n_class', 2), array(given, 'labels')
    if found.ndim != 1 or found.dtype.kind not in 'iu' or not found.size:
        fix = 'pass an integer array of shape (N,)'
        if found.ndim == 1 and found.dtype.kind in 'US':
            fix = 'number the names: classes, labels = np.unique(names, return_inverse=True)'
        elif found.ndim == 2:
            fix = f'pass labels{"[:, 0]" if found.shape[1] == 1 else ".argmax(axis=1)"}'
        raise ConfigError('labels must be one integer per image', seen=_kind(found), fix=fix)
    if count is not None and len(found) != count:
        raise ConfigError(
            'the numbers of labels and images differ',
            seen=f'{len(found)} labels, {count} images',
            fix='pass one label per image',
        )
    if found.min() < 0 or found.max() >= n_class:
        larger = '' if found.max() < n_class else ', or pass a larger number of classes'
        raise ConfigError(
            f'a label is not one of the {n_class} classes',
            seen=f'labels from {found.min()} to {found.max()}',
            fix=f'number the classes from 0 to {n_class - 1}{larger}',
        )
    return found.astype(np.int32)


def images(given: Any) -> np.ndarray:
    """Checks that images are ``(N, channels, H, W)``, uint8, and returns them."""
    found = array(given, 'images')
    if found.ndim == 4 and not found.size:
        raise ConfigError('there are no images', seen=_kind(found), fix='pass at least one')
    if found.ndim != 4:
        raise ConfigError(
            'images must have four axes: (N, channels, H, W)',
            seen=_kind(found),
            fix='grey images are (N, 1, H, W); for (N, H, W, 3) use .transpose(0, 3, 1, 2)',
        )
    if found.dtype != np.uint8:
        raise ConfigError(
            'images must be uint8, from 0 to 255',
            seen=_kind(found),
            fix='convert images in [0, 1] with (255 * images).round().astype("uint8"), and those '
            'in [0, 255] with images.astype("uint8")',
        )
    if found.shape[1] not in (1, 3):
        raise ConfigError(
            'images must have 1 channel (grey) or 3 (colour)',
            seen=f'{found.shape[1]} channels in {found.shape}',
            fix='leave out the alpha channel: images[:, :3]'
            if found.shape[1] == 4
            else 'put the channels on the second axis: (N, H, W, 3).transpose(0, 3, 1, 2)',
        )
    return found


def images_of(given: Any, shape: tuple) -> np.ndarray:
    """Checks that each image has the ``shape`` that a net was trained on; returns the images."""
    found = images(given)
    if found.shape[1:] != shape:
        raise ConfigError(
            'the images have another size than those the net was trained on',
            seen=f'{found.shape[1:]}',
            fix=f'resize them to {shape}',
        )
    return found


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
    return texts(given, 'overrides', ['ours.fine_tune.a=1.0'])


def texts(given: Any, name: str, example: list[str]) -> list[str]:
    """Checks that a value is several texts, not one text, and returns them as a list."""
    several = isinstance(given, Iterable) and not isinstance(given, str)
    found = list(given) if several else [None]
    if not all(isinstance(text, str) for text in found):
        raise ConfigError(
            f'{name} must be a list of texts',
            seen=excerpt(repr(given)),
            fix=f'pass for example {example!r}',
        )
    return found


def names(given: Any, name: str, example: list[str]) -> list[str]:
    """Checks that a value is several texts in order, none twice, and returns them as a list."""
    found = texts(given, name, example)
    # The order of a set differs from run to run, and with it the meaning of every label.
    if isinstance(given, Set) or len(set(found)) < len(found) or '' in found:
        raise ConfigError(
            f'{name} must be a list of names, each of them once',
            seen=excerpt(repr(given)),
            fix=f'pass for example {example!r}',
        )
    return found


def folder(given: str | PathLike[str]) -> Path:
    """Checks that a folder exists, and returns its path."""
    if not os.path.isdir(given):
        raise ConfigError(
            f'there are no results in {excerpt(given)}',
            seen='no such folder',
            fix='name the folder that was the out of the trials',
        )
    return Path(given)


def text(value: Any, name: str, example: str) -> str:
    """Checks that a value is a str, and returns it."""
    if not isinstance(value, str):
        raise ConfigError(
            f'{name} must be a text', seen=excerpt(repr(value)), fix=f'pass for example {example!r}'
        )
    return value


def number(value: Any, name: str) -> float:
    """Checks that a value is a finite number, and returns it."""
    return _real(value, name, 'a finite number', 0.8, lambda x: float('-inf') < x < float('inf'))


def positive(value: Any, name: str) -> float:
    """Checks that a value is a finite number above 0, and returns it."""
    return _real(value, name, 'a number above 0', 1.0, lambda x: 0 < x < float('inf'))


def fraction(value: Any, name: str) -> float:
    """Checks that a value is a number from 0 to 1, and returns it."""
    return _real(value, name, 'a fraction from 0 to 1', 0.8, lambda x: 0 <= x <= 1)


def _real(value, name, what, example, holds):
    if not isinstance(value, numbers.Real) or not holds(value):
        raise ConfigError(
            f'{name} must be {what}',
            seen=excerpt(repr(value)),
            fix=f'pass for example {example}',
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
