"""CUDA C kernels: their source text and their compiled functions.

A kernel is an ``extern "C" __global__`` function without floating-point atomics, so that its
results are the same bit for bit on every run.
"""

import functools
import re
from importlib import resources

# Threads of a block: 256 fill a multiprocessor at any use of registers, and tree sums need a power
# of two.
THREADS = 256


@functools.cache
def source(name):
    """Returns the text of ``<name>.cu``, with each ``#include "…"`` replaced by the header's text.

    CuPy's cache of compiled kernels is keyed by the text, and would miss a change in a header.
    """
    text = resources.files(__name__).joinpath(f'{name}.cu').read_text()

    def header(found):
        return resources.files(__name__).joinpath(found[1]).read_text()

    return re.sub(r'#include "(.+)"\n', header, text)


@functools.cache
def function(name, entry, **macros):
    """Returns a function of ``<name>.cu``, a ``cupy.RawKernel``, compiled at its first call.

    Args:
        name (str): Name of the file, without ``.cu``.
        entry (str): Name of the function.
        macros: Macros to compile with, ``NAME=value``.
    """
    # Cached here too: CuPy's own cache computes a digest of the whole source at each look-up.
    import cupy

    return cupy.RawKernel(source(name), entry, options(**macros))


def options(**macros):
    """Returns the compiler options that define macros."""
    return tuple(f'-D{name}={value}' for name, value in macros.items())
