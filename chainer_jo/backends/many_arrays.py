"""Kernels that process many GPU arrays in one launch.

A net has a hundred parameters, most of them with a few hundred elements: a kernel for each would
take longer to launch than to run. See ``kernels/many_arrays.cuh``.
"""

import functools

import numpy as np

from chainer_jo.backends.kernels import THREADS

#: Tuples of arrays in a launch; kernel arguments are limited to 4 KB, and more would not fit.
MOST = 120


@functools.cache
def table_type(names):
    """Returns the dtype of the kernel's table: addresses for each name, sizes, first blocks."""
    return np.dtype(
        [
            *((name, np.uint64, MOST) for name in names),
            *((name, np.int32, MOST) for name in ('size', 'first_block')),
        ]
    )


def tables(names, tuples):
    """Yields the arguments of each launch: the table, the number of tuples, the number of blocks.

    Args:
        names (str): One letter for each array of a tuple, in the order of the kernel's table.
        tuples (list of tuple): CuPy arrays; those of one tuple have the same size and the same
            memory layout.
    """
    for start in range(0, len(tuples), MOST):
        # Passed by value, as a kernel argument: an array of addresses would have to be copied to
        # the GPU in every step, which a captured step cannot do.
        table, blocks, group = np.zeros((), table_type(names)), 0, tuples[start : start + MOST]
        for i, arrays in enumerate(group):
            for name, array in zip(names, arrays, strict=True):
                table[name][i] = array.data.ptr
            table['size'][i], table['first_block'][i] = arrays[0].size, blocks
            blocks += -(-arrays[0].size // THREADS)
        yield table, np.int32(len(group)), blocks
