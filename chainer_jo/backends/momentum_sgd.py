"""A step of momentum SGD for all parameters at once."""

import numpy as np

from chainer_jo.backends import kernels, many_arrays


def update(arrays, lr, momentum, weight_decay):
    """Takes a step, in place: ``v <- momentum v - lr (g + weight_decay p);  p <- p + v``.

    Args:
        arrays (list of tuple): ``(p, g, v)`` of each parameter, float32, of one shape; ``p`` and
            ``v`` are written.
        lr (array): ``()``, float32, on the GPU: a captured step reads what it is by then.
        momentum (float): Share of ``v`` that stays.
        weight_decay (float): Factor of ``p`` in the gradient.
    """
    arrays = [(p, *(_like(array, p) for array in (g, v))) for p, g, v in arrays]
    kernel = kernels.function('update', 'update', MOST=many_arrays.MOST)
    numbers = np.float32(momentum), np.float32(weight_decay)
    for table, count, blocks in many_arrays.tables('pgv', arrays):
        kernel((blocks,), (kernels.THREADS,), (table, count, lr, *numbers))


def _like(array, other):
    """Returns an array that lies in memory as ``other`` does: both are read in one order."""
    steps = zip(array.shape, array.strides, other.strides, strict=True)
    # The stride of an axis of length 1 says nothing: weights of 1x1 have it either way.
    if all(length == 1 or stride == wanted for length, stride, wanted in steps):
        return array
    import cupy

    copy = cupy.empty_like(other)
    copy[...] = array
    return copy
