"""Writing a batch's rows into an array in which an image has one place.

The batch that closes an epoch may hold an image a second time (D-35), and a GPU writes in no order.
So equal places are given equal values, worked out before. The functions take NumPy and CuPy arrays.
"""

from chainer import backend


def put(array, index, values):
    """Does ``array[index] = values``; where an index comes again, the last value stays.

    Args:
        array (array): ``(N, ...)``, written in place.
        index (array): ``(B,)``, integers in ``[0, N)``.
        values (array): ``(B, ...)``.
    """
    # Every image of the batch writes the row of its last occurrence: the order no longer matters.
    array[index] = values[_first_and_last(index)[1]]


def add(array, index, values):
    """Does ``array[index] += values``; where an index comes twice, both values are added in order.

    Args:
        array (array): ``(N, ...)``, written in place.
        index (array): ``(B,)``, integers in ``[0, N)``, each at most twice.
        values (array): ``(B, ...)``.
    """
    xp = backend.get_array_module(array)
    first, last = _first_and_last(index)
    once = array[index] + values[first]
    # NumPy's `add.at` would do this in one line; CuPy's adds in any order, which is not
    # reproducible.
    comes_again = (first != last).reshape(-1, *(1,) * (array.ndim - 1))
    array[index] = xp.where(comes_again, once + values[last], once)


def _first_and_last(index):
    """Where in ``index`` each of its values comes first, and where last; ``(B,)`` both."""
    xp = backend.get_array_module(index)
    # B x B comparisons: few, and they can be captured.
    same = index[:, None] == index
    return same.argmax(axis=1), (same * xp.arange(len(index))).argmax(axis=1)
