"""CUDA C kernels: their source text, and their compiled functions.

A kernel is an ``extern "C" __global__`` function without float atomics, so that its results are
the same bit for bit on every run.
"""

import functools
import re
from importlib import resources

# 256 threads fill a multiprocessor whatever their registers, and are a power of two for trees.
THREADS = 256


@functools.cache
def source(name):
    """Returns the text of ``<name>.cu``, with that of its own headers in place of ``#include "…"``.

    CuPy keys its cache of compiled kernels by the text: it would not see a change of a header.
    """
    text = resources.files(__name__).joinpath(f'{name}.cu').read_text()

    def header(found):
        return resources.files(__name__).joinpath(found[1]).read_text()

    return re.sub(r'#include "(.+)"\n', header, text)


@functools.cache
def function(name, entry, **macros):
    """Returns a function of ``<name>.cu``, a ``cupy.RawKernel``, compiled at its first call.

    Args:
        name (str): The file, without its end.
        entry (str): The function.
        macros: What its text is compiled with, ``NAME=value``.
    """
    # Kept: CuPy would otherwise look it up in its cache by a digest of the whole source each time.
    import cupy

    return cupy.RawKernel(source(name), entry, options(**macros))


def options(**macros):
    """Returns the compiler's options for some macros."""
    return tuple(f'-D{name}={value}' for name, value in macros.items())
