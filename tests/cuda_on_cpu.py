"""Runs CUDA kernels on the CPU, compiled by g++ from the very text that a GPU gets."""

import atexit
import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

HEADER = Path(__file__).parent / 'gpu' / 'on_cpu' / 'kernel.h'
needs_compiler = pytest.mark.skipif(
    not shutil.which('g++'), reason='no g++ to run kernels on the CPU: apt install g++'
)


class Dim3(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in 'xyz']


@functools.cache
def _folder():
    folder = tempfile.mkdtemp(prefix='kernels-on-cpu-')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (Path(folder) / 'cuda_fp16.h').write_text('typedef _Float16 __half;\n')
    return Path(folder)


@functools.cache
def _library(source, options):
    entries = re.findall(r'extern "C" __global__ void (\w+)\(', source)
    launchers = '\n'.join(f'LAUNCHER({entry}, {entry})' for entry in entries)
    path = _folder() / f'{len(list(_folder().iterdir()))}.so'
    flags = [option for option in options if option.startswith('-D')]
    subprocess.run(
        ['g++', '-std=c++17', '-O1', '-ffp-contract=off', '-w', '-shared', '-fPIC', *flags]
        + [
            f'-I{_folder()}',
            '-DBARRIERS=1',
            '-include',
            str(HEADER),
            '-x',
            'c++',
            '-',
            '-o',
            str(path),
        ],
        input=f'{source}\n{launchers}\n',
        text=True,
        check=True,
    )
    return ctypes.CDLL(str(path))


def _bytes(value):
    """Returns an argument as it lies in memory: an array's address, or the bytes of all else."""
    if isinstance(value, np.ndarray) and not value.dtype.names:
        return np.uintp(value.ctypes.data).tobytes()
    if not isinstance(value, np.generic | np.ndarray):
        raise TypeError(f'a kernel takes arrays, structures and numbers of NumPy, not {value!r}')
    return value.tobytes()


class RawKernel:
    """A function of CUDA C, called as CuPy's."""

    def __init__(self, source, entry, options=()):
        self.source, self.entry, self.options = source, entry, tuple(options)

    def __call__(self, grid, block, arguments):
        buffers = [ctypes.create_string_buffer(_bytes(value)) for value in arguments]
        pointers = (ctypes.c_void_p * len(buffers))(*map(ctypes.addressof, buffers))
        sizes = [Dim3(*size, *[1] * (3 - len(size))) for size in (grid, block)]
        launch = getattr(_library(self.source, self.options), f'launch_{self.entry}')
        launch(*map(ctypes.byref, sizes), pointers)
