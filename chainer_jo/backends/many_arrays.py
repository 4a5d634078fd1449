"""Kernels that go over many arrays of a GPU in one launch.

A net has a hundred parameters, most of them of a few hundred numbers: a kernel for each would take
longer to launch than to run. See ``kernels/many_arrays.cuh``.
"""

import functools

import numpy as np

from chainer_jo.backends.kernels import THREADS

#: Tuples of arrays in a launch: so many that its arguments stay below the 4 KB of every GPU.
MOST = 120


@functools.cache
def table_type(names):
    """Returns the type of the kernel's table: a row of addresses for each name, sizes, blocks."""
    return np.dtype(
        [
            *((name, np.uint64, MOST) for name in names),
            *((name, np.int32, MOST) for name in ('size', 'first_block')),
        ]
    )


def tables(names, tuples):
    """Yields what launches of a kernel over all tuples take: its table, their number, the blocks.

    Args:
        names (str): One letter for each array of a tuple, in the order of the kernel's table.
        tuples (list of tuple): Arrays of CuPy; those of one tuple have the same size, and lie in
            memory in the same order.
    """
    for start in range(0, len(tuples), MOST):
        # Passed by value as kernel arguments: an array of addresses would have to be copied to the
        # GPU in every step, which a captured step cannot do.
        table, blocks, group = np.zeros((), table_type(names)), 0, tuples[start : start + MOST]
        for i, arrays in enumerate(group):
            for name, array in zip(names, arrays, strict=True):
                table[name][i] = array.data.ptr
            table['size'][i], table['first_block'][i] = arrays[0].size, blocks
            blocks += -(-arrays[0].size // THREADS)
        yield table, np.int32(len(group)), blocks
