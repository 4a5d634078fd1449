"""A step of momentum SGD for many arrays of a GPU at once.

A net has a hundred parameters, most of them of a few hundred numbers: a kernel for each would take
longer to launch than to run.
"""

import numpy as np

from chainer_jo.backends import kernels

# So many that the kernel's arguments stay below the 4 KB that every GPU takes.
TENSORS = 120
_Tensors = np.dtype(
    [
        *((name, np.uint64, TENSORS) for name in ('p', 'g', 'v')),
        *((name, np.int32, TENSORS) for name in ('size', 'first_block')),
    ]
)


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
    kernel = kernels.function('update', 'update', TENSORS=TENSORS)
    for start in range(0, len(arrays), TENSORS):
        group = arrays[start : start + TENSORS]
        tensors, blocks = _pack(group)
        numbers = np.float32(momentum), np.float32(weight_decay)
        kernel((blocks,), (kernels.THREADS,), (tensors, np.int32(len(group)), lr, *numbers))


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


def _pack(arrays):
    """Returns the kernel's ``Tensors`` of at most as many ``(p, g, v)``, and its blocks."""
    # By value in the kernel's arguments: an array of addresses on the GPU would have to be copied
    # there in every step, which a captured step cannot.
    tensors, blocks = np.zeros((), _Tensors), 0
    for t, triple in enumerate(arrays):
        for name, array in zip('pgv', triple, strict=True):
            tensors[name][t] = array.data.ptr
        tensors['size'][t], tensors['first_block'][t] = triple[0].size, blocks
        blocks += -(-triple[0].size // kernels.THREADS)
    return tensors, blocks
