"""Noisy labels in files: those that people bring, and those that a trial drew."""

import csv
import zipfile
import zlib
from pathlib import Path

import numpy as np

from chainer_jo import store
from chainer_jo.errors import DataError


def read_labels(path, n, n_class, key=None):
    """Reads noisy labels that somebody else made, such as the human labels of CIFAR-10N.

    Args:
        path (str or os.PathLike): ``.npy``; ``.npz``, with one array or a ``key``; or ``.csv``,
            with one column or a header and a ``key``. One label an example, in the order of the
            data set.
        n (int): Number of examples there must be.
        n_class (int): Number of classes; labels are integers in ``[0, n_class)``.
        key (str or None): Name of the array or column.

    Returns:
        numpy.ndarray: Labels, ``(n,)``, ``int32``.

    Raises:
        DataError: The file is missing, of another kind, too long or short, or holds anything else
            than classes. Python objects are never loaded.
    """
    path = Path(path)
    readers = {'.npy': _read_numpy, '.npz': _read_numpy, '.csv': _read_csv}
    if path.suffix not in readers:
        raise _refusal(path, f'the ending {path.suffix!r}', 'bring a .npy, .npz or .csv file')
    try:
        labels = readers[path.suffix](path, key)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.strerror:
            error = error.strerror
        raise _refusal(
            path, error, f'save {n} integers with numpy.save, or one to a line as .csv'
        ) from None
    return _checked(path, labels, n, n_class)


def _read_numpy(path, key):
    with open(path, 'rb') as file:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            return loaded[_pick(key, loaded.files)]
    if key is not None:
        raise ValueError(f'the key {key!r}, where the file has one array without a name')
    return loaded


def _read_csv(path, key):
    with open(path, newline='', encoding='utf-8-sig') as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        return np.zeros(0, np.int64)
    headed = not all(cell.strip().lstrip('-').isdigit() for cell in rows[0])
    names = [cell.strip() for cell in rows[0]] if headed else [str(i) for i in range(len(rows[0]))]
    column = names.index(_pick(key, names))
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f'rows that do not have {len(names)} cells')
    return np.array([int(row[column]) for row in rows[headed:]])


def _pick(key, names):
    if key is None and len(names) == 1:
        return names[0]
    if key not in names:
        asked = 'no key' if key is None else f'the key {key!r}'
        raise ValueError(f'{asked}, where the file has {", ".join(names)}')
    return key


def _checked(path, labels, n, n_class):
    if labels.shape != (n,):
        raise _refusal(
            path,
            f'shape {labels.shape}',
            f'bring {n} labels, one for each example in the order of the data set',
        )
    if labels.dtype.kind not in 'iu':
        raise _refusal(path, f'numbers of type {labels.dtype}', 'save the labels as integers')
    bad = np.flatnonzero((labels < 0) | (labels >= n_class))
    if bad.size:
        raise _refusal(
            path,
            f'class {labels[bad[0]]} for example {bad[0]} ({bad.size} such labels)',
            f'number the classes from 0 to {n_class - 1}',
        )
    return labels.astype(np.int32)


def _refusal(path, seen, fix):
    return DataError(f'cannot use the labels in {path}', seen=str(seen), fix=fix)


def save_noise(path, noisy, true, index):
    """Writes the labels that a trial trains on, whole or not at all.

    Args:
        path (str or os.PathLike): Usually ``noisy_labels.arrays`` in the trial's folder.
        noisy (numpy.ndarray): Noisy labels of the training split, ``(n,)``, ``int32``.
        true (numpy.ndarray or None): Its true labels, ``(n,)``, ``int32``, if they are known.
        index (numpy.ndarray): Where its examples stand in the data set, ``(n,)``, integers.

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
    return arrays['noisy'], arrays.get('true'), arrays['index']
