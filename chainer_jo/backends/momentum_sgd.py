"""A step of momentum SGD for all parameters at once."""

import numpy as np

from chainer_jo.backends import kernels, many_arrays


def update(arrays, lr, momentum, weight_decay):
    """Makes a step, in place: ``v <- momentum v - lr (g + weight_decay p);  p <- p + v``.

    Args:
        arrays (list of tuple): ``(p, g, v)`` of each parameter, float32, all of one shape; ``p``
            and ``v`` are changed in place.
        lr (array): ``()``, float32, on the GPU, so that a captured step reads its current value.
        momentum (float): Share of ``v`` that is kept.
        weight_decay (float): Factor of ``p`` in the gradient.
    """
    arrays = [(p, *(_like(array, p) for array in (g, v))) for p, g, v in arrays]
    kernel = kernels.function('update', 'update', MOST=many_arrays.MOST)
    numbers = np.float32(momentum), np.float32(weight_decay)
    for table, count, blocks in many_arrays.tables('pgv', arrays):
        kernel((blocks,), (kernels.THREADS,), (table, count, lr, *numbers))


def _like(array, other):
    """Returns an array with the memory layout of ``other``: the kernel reads both in one order."""
    steps = zip(array.shape, array.strides, other.strides, strict=True)
    # The stride of an axis of length 1 does not matter; 1x1 weights may have either.
    if all(length == 1 or stride == wanted for length, stride, wanted in steps):
        return array
    import cupy

    copy = cupy.empty_like(other)
    copy[...] = array
    return copy
