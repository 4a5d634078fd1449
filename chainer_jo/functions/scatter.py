"""Writes a batch's rows into an array with one row per image.

The batch at the end of an epoch may contain an image twice (D-35), and a GPU writes in no fixed
order. So the values are prepared first: rows with the same index get the same value. The functions
take NumPy and CuPy arrays.
"""

import numpy as np
from chainer import backend


def put(array, index, values):
    """Does ``array[index] = values``; if an index occurs twice, the last value is kept.

    Args:
        array (array): ``(N, ...)``, written in place.
        index (array): ``(B,)``, integers in ``[0, N)``.
        values (array): ``(B, ...)``.
    """
    # Each row is replaced by that of its image's last occurrence, so the order does not matter.
    array[index] = values[_first_and_last(index)[1]]


def add(array, index, values):
    """Does ``array[index] += values``; if an index occurs again, all its values are added.

    Args:
        array (array): ``(N, ...)``, written in place.
        index (array): ``(B,)``, integers in ``[0, N)``.
        values (array): ``(B, ...)``.
    """
    xp = backend.get_array_module(array)
    if xp is np:
        np.add.at(array, index, values)
    else:
        _add_at_once(xp, array, index, values)


def _add_at_once(xp, array, index, values):
    """Does what `np.add.at` does; CuPy's adds in any order, which is not reproducible."""
    first, last = _first_and_last(index)
    once = array[index] + values[first]
    comes_again = (first != last).reshape(-1, *(1,) * (array.ndim - 1))
    total = xp.where(comes_again, once + values[last], once)
    # Balanced batches of a small class may hold an image more than twice. Summed without a matrix
    # product: cuBLAS cannot be captured in a CUDA graph.
    place = xp.arange(len(index))
    between = (index[:, None] == index) & (place > first[:, None]) & (place < last[:, None])
    between = between.reshape(between.shape + (1,) * (values.ndim - 1))
    array[index] = total + xp.where(between, values, 0).sum(axis=1, dtype=values.dtype)


def _first_and_last(index):
    """Returns the first and the last position of each value of ``index``; both ``(B,)``."""
    xp = backend.get_array_module(index)
    # B x B comparisons are cheap and, unlike a sort, can be captured in a CUDA graph.
    same = index[:, None] == index
    return same.argmax(axis=1), (same * xp.arange(len(index))).argmax(axis=1)
