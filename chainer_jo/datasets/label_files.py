"""Noisy labels in files: those that a user provides, and those that a trial drew."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainer_jo import store
from chainer_jo.datasets import label_formats
from chainer_jo.datasets.label_formats import RefusedError, folded, is_number
from chainer_jo.errors import DataError, excerpt


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels read from a file.

    Attributes:
        labels (numpy.ndarray): ``(N,)``, ``int32``, in ``[0, number of classes)``.
        understood (str): How the file was interpreted, in one line.
    """

    labels: np.ndarray
    understood: str


def read_labels(place, n, classes):
    """Reads noisy labels from a file, such as the human labels of CIFAR-10N.

    The file may be NumPy's (``.npy``, ``.npz``), text (one label per line, a table, JSON), torch's,
    or a pickle of arrays. The content decides, not the file name. It has one label for each image,
    in the order of the data set: a class number, a class name, or a row with a probability for each
    class, of which the largest is taken. JSON may instead map image numbers or paths to labels.

    Args:
        place (str or os.PathLike): ``FILE`` or ``FILE:KEY``, where ``KEY`` names an array or
            column if the file has several.
        n (int): Number of images.
        classes (sequence of str): Names of the classes.

    Returns:
        Labels: The labels, and how the file was interpreted.

    Raises:
        DataError: The file is missing, has no labels or several columns of them, has too many or
            too few, or has values that are not classes. No code in the file is ever run.
    """
    path, key = _split(str(place))
    try:
        values = label_formats.read(path, n, classes, key)
        labels, kind = _as_classes(values, n, classes)
    except RefusedError as error:
        raise _refusal(path, error.seen, error.fix) from None
    except OSError as error:
        seen = (error.strerror or str(error)).lower()
        raise _refusal(path, seen, 'name a file that exists and that you may read') from None
    # A damaged file can make any of the readers raise almost anything.
    except Exception as error:
        seen = excerpt(f'damaged: {error or type(error).__name__}')
        raise _refusal(path, seen, label_formats.SAVE) from None
    named = f'{path}:{key}' if key else f'{path}'
    return Labels(labels, f'{n:,} {kind} in {named}')


def _split(place):
    """Returns the path and the key. A colon may be part of a path, so the whole is tried first."""
    path, colon, key = place.rpartition(':')
    whole = not colon or os.path.exists(place)
    return (Path(place), None) if whole else (Path(path), key)


def _as_classes(values, n, classes):
    """Returns labels, ``(n,)``, and the name of the kind that they were in the file."""
    # latin-1 decodes any bytes, so a foreign encoding ends as an unknown class, not as a crash.
    if isinstance(values, np.ndarray) and values.dtype.kind in 'SU':
        values = np.char.decode(values, 'latin-1') if values.dtype.kind == 'S' else values
        values = values.ravel().tolist()
    if isinstance(values, (list, tuple)) and any(isinstance(value, str) for value in values):
        return _from_text([str(value) for value in values], n, classes)
    array = _as_numbers(values)
    # numpy.savetxt and pandas write a list as a single column or row.
    if array.ndim == 2 and 1 in array.shape and array.shape != (n, len(classes)):
        array = array.ravel()
    if array.shape == (n, len(classes)):
        return _from_rows(array)
    if array.ndim == 2 and len(array) == n:
        raise RefusedError(
            f'{array.shape[1]} numbers for each image, but {len(classes)} classes',
            f'name one column after a colon, from FILE:0 to FILE:{array.shape[1] - 1}',
        )
    return _from_numbers(array, n, classes), 'class numbers'


def _as_numbers(values):
    if isinstance(values, (list, tuple)):
        rows = values if values and isinstance(values[0], (list, tuple)) else [values]
        numbers = (int, float, np.integer, np.floating)
        if not all(isinstance(row, (list, tuple)) and len(row) == len(rows[0]) for row in rows):
            raise RefusedError('rows of different lengths')
        for value in (value for row in rows for value in row):
            if not isinstance(value, numbers):
                raise RefusedError(f'{excerpt(value, 20)!r}, which is not a label')
    array = np.asarray(values)
    if array.dtype.kind not in 'biuf':
        raise RefusedError(f'{excerpt(array.dtype, 20)} instead of labels')
    return array


def _from_text(cells, n, classes):
    """Returns labels from text: class numbers or class names."""
    written = [is_number(cell) for cell in cells]
    if all(written):
        return _from_numbers(np.array([float(cell) for cell in cells]), n, classes), 'class numbers'
    numbers = {folded(name): number for number, name in enumerate(classes)}
    for i, cell in enumerate(cells):
        # If one label is a number, a name among them is a mistake.
        if not written[i] and (any(written) or folded(cell) not in numbers):
            raise RefusedError(
                f'{excerpt(cell, 30)!r} for example {i}, which is not a class',
                excerpt(f'write only numbers from 0, or only {", ".join(classes)}', 200),
            )
    labels = np.array([numbers[folded(cell)] for cell in cells])
    return _from_numbers(labels, n, classes), 'class names'


def _from_rows(rows):
    """Returns the class with the largest probability in each row."""
    rows = rows.astype(np.float64)
    if not (np.isfinite(rows).all() and np.allclose(rows.sum(1), 1, atol=1e-3)):
        raise RefusedError(
            f'rows of {rows.shape[1]} numbers that do not sum to 1',
            'divide every row by its sum, or name one column after a colon, such as FILE:0',
        )
    # One-hot rows have no ties to report.
    if ((rows == 0) | (rows == 1)).all():
        return rows.argmax(1).astype(np.int32), 'one-hot rows'
    ties = int(((rows == rows.max(1, keepdims=True)).sum(1) > 1).sum())
    taken = f' ({ties:,} ties: the first)' if ties else ''
    return (
        rows.argmax(1).astype(np.int32),
        f'soft labels, read as the class of the largest{taken},',
    )


def _from_numbers(array, n, classes):
    if array.shape != (n,):
        count = f'{len(array):,} labels' if array.ndim == 1 else f'shape {array.shape}'
        raise RefusedError(
            count, f'provide {n:,} labels, one for each example in the order of the data set'
        )
    # Probably a mask of which labels are wrong, and not the labels.
    if array.dtype.kind == 'b':
        raise RefusedError('booleans', 'save the labels as integers')
    whole = np.isfinite(array) & (array == np.round(array))
    if not whole.all():
        odd = int(np.argmin(whole))
        raise RefusedError(
            f'{array.dtype} {array[odd]:g} for example {odd}', 'save the labels as integers'
        )
    bad = np.flatnonzero((array < 0) | (array >= len(classes)))
    if bad.size:
        first, from_one = bad[0], array.min() == 1 and array.max() == len(classes)
        seen = f'class {excerpt(int(array[first]), 20)} for example {first}'
        raise RefusedError(
            f'{seen} ({bad.size:,} such labels)',
            f'number the classes from 0 to {len(classes) - 1}'
            + (': these count from 1' if from_one else ''),
        )
    return array.astype(np.int32)


def doubt(labels, true, n_class):
    """Returns a warning if labels seem to belong to other images, else ``None``.

    Args:
        labels (numpy.ndarray): The labels of the user, ``(N,)``, ``int32``.
        true (numpy.ndarray): The true labels, ``(N,)``, ``int32``.
        n_class (int): Number of classes.
    """
    pairs = np.zeros((n_class, n_class))
    np.add.at(pairs, (labels, true), 1 / len(true))
    # Chance agreement is computed from both margins: if few classes occur, it is high.
    agree, chance = np.trace(pairs), pairs.sum(1) @ pairs.sum(0)
    # The margin is three standard deviations of the agreement of random labels.
    if agree > chance + 3 * np.sqrt(chance * (1 - chance) / len(true)):
        return None
    cause = 'most likely they are in another order of images'
    # The agreement if each given class were renamed to the true class that it meets most.
    best = pairs.max(1).sum()
    if best > 0.5:
        cause = (
            f'most likely the classes are in another order: renumbered, {100 * best:.1f} % agree'
        )
    return (
        f'the labels agree with the true ones in {100 * agree:.1f} % of the images, no more than '
        f'chance ({100 * chance:.1f} %); {cause}'
    )


def _refusal(path, seen, fix):
    return DataError(f'cannot use the labels in {excerpt(path, 200)}', seen=seen, fix=fix)


def save_noise(path, noisy, true, index):
    """Writes the labels that a trial trains on. The write is atomic.

    Args:
        path (str or os.PathLike): Usually ``noisy_labels.arrays`` in the trial's folder.
        noisy (numpy.ndarray): Noisy labels of the training split, ``(n,)``, ``int32``.
        true (numpy.ndarray or None): Its true labels, ``(n,)``, ``int32``, if known.
        index (numpy.ndarray): Indices of its examples in the data set, ``(n,)``, integers.

    Returns:
        str: Digest of the noisy labels, 64 hex digits.

    Raises:
        WriteError: The file cannot be written.
    """
    known = {} if true is None else {'true': true}
    store.write_arrays(path, {'noisy': noisy, 'index': index} | known)
    return store.digest(noisy)


def load_noise(path):
    """Returns the ``noisy``, ``true`` (or ``None``) and ``index`` that :func:`save_noise` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    arrays = store.read_arrays(path)
    parts = [arrays.get(name) for name in ('noisy', 'true', 'index')]
    if any(part is None or part.ndim != 1 for part in (parts[0], parts[2])):
        raise DataError(
            f'{path} has no noisy labels',
            seen=excerpt(', '.join(arrays)) or 'nothing',
            fix="delete it and run its trial's command again",
        )
    return tuple(parts)
