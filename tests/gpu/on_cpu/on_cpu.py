"""Lets CuPy and cuDNN's front end, as they come from PyPI, work where there is no GPU.

Every library of CUDA that they call has a small one in its place here, in which the CPU does the
work. CuPy's kernels are compiled by g++; streams, captures and arrays of NaN are stricter than a
GPU's (see runtime.cpp). It says nothing about speed, and rounds as g++ does.
"""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CUDA = os.environ['CUDA']  # 12 or 13
# Not named like CUDA's runtime, which a machine with only the driver does not have.
RUNTIME, BLAS = 'libruntime_on_cpu.so', f'libcublas.so.{CUDA}'
# In the order in which they are loaded; each is found by its name from then on.
LIBRARIES = {
    RUNTIME: 'runtime.cpp',
    'libcuda.so.1': 'driver.cpp',
    f'libnvrtc.so.{CUDA}': 'compiler.cpp',
    f'libcublasLt.so.{CUDA}': None,
    BLAS: 'blas.cpp',
    'libcudnn.so.9': 'cudnn.cpp',
}
FLAGS = ['-std=c++17', '-O3', '-march=native', '-ffp-contract=off', '-Wall', '-shared', '-fPIC']


def build(folder, cuda):
    """Compiles the libraries, unless they are newer than their sources.

    Args:
        folder (pathlib.Path): Where they go; all else in it, such as compiled kernels, is removed.
        cuda (pathlib.Path): CUDA's folder, with the headers of its runtime in ``include``.
    """
    made = [folder / name for name in LIBRARIES]
    changed = max(path.stat().st_mtime for path in HERE.iterdir() if path.is_file())
    if all(path.exists() and path.stat().st_mtime > changed for path in made):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    versions = folder / 'versions'
    versions.write_text(f'{BLAS} {{ global: cublas*; }};\n')
    for name, source in LIBRARIES.items():
        text = (HERE / source).read_text() if source else ''
        linked = [f'-Wl,-soname,{name}']
        if name == BLAS:
            text += _refusals(text)
            linked.append(f'-Wl,--version-script={versions}')
        if name != RUNTIME:
            linked += [str(folder / RUNTIME), f'-Wl,-rpath,{folder}']
        subprocess.run(
            ['g++', *FLAGS, f'-I{HERE}', '-isystem', str(cuda / 'include'), f'-DHERE="{HERE}"']
            + [f'-DCUDA={CUDA}', '-x', 'c++', '-', '-x', 'none', *linked, '-o', str(folder / name)],
            input=text,
            text=True,
            check=True,
        )


def install(folder):
    """Puts the libraries in place; CuPy must not have been imported before."""
    runtime, *_ = [ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL) for name in LIBRARIES]
    _redirect(_cupy('cuda/api/runtime.*.so'), runtime)
    sys.modules['cupy.cuda.thrust'] = _thrust()


def _cupy(pattern):
    (folder,) = importlib.util.find_spec('cupy_backends').submodule_search_locations
    (path,) = Path(folder).glob(pattern)
    return path


def _symbols(path, *options):
    lines = subprocess.run(['nm', *options, path], capture_output=True, text=True, check=True)
    return [line.split() for line in lines.stdout.splitlines()]


def _refusals(text):
    """Returns C++ of a function for every name that CuPy links and ``text`` lacks; each fails."""
    symbols = _symbols(_cupy('cuda/libs/cublas.*.so'), '-D')
    linked = (words[-1].partition('@')[0] for words in symbols)
    missing = (name for name in linked if name.startswith('cublas') and f'{name}(' not in text)
    return ''.join(f'extern "C" int {name}() {{ return NOT_SUPPORTED; }}\n' for name in missing)


def _redirect(path, library):
    """Overwrites the runtime that is linked into CuPy by jumps into ``library``."""
    ctypes.CDLL(str(path))
    lines = Path('/proc/self/maps').read_text().splitlines()
    base = min(int(line.partition('-')[0], 16) for line in lines if line.endswith(str(path)))
    libc = ctypes.CDLL(None, use_errno=True)
    for offset, _, name in (words for words in _symbols(path) if len(words) == 3):
        if not (re.fullmatch(r'cuda[A-Z]\w*', name) and hasattr(library, name)):
            continue
        target = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        address = base + int(offset, 16)
        page, everything = address & -4096, 7
        if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(8192), everything):
            raise OSError(ctypes.get_errno(), f'cannot overwrite {name} of {path}')
        jump = b'\xff\x25\0\0\0\0' + target.to_bytes(8, 'little')  # jmp [rip + 0]
        ctypes.memmove(address, jump, len(jump))


def _thrust():
    """Returns a module that sorts in the place of CuPy's, whose kernels are compiled for GPUs."""

    def array(pointer, dtype, shape):
        sys.modules['cupy'].cuda.runtime.deviceSynchronize()
        dtype, shape = np.dtype(dtype), tuple(shape)
        memory = (ctypes.c_char * (dtype.itemsize * int(np.prod(shape)))).from_address(pointer)
        return np.frombuffer(memory, dtype).reshape(shape)

    def sort(dtype, data, keys, shape):
        array(data, dtype, shape).sort(axis=-1)

    def argsort(dtype, index, data, keys, shape):
        order = array(data, dtype, shape).argsort(axis=-1, kind='stable')
        array(index, np.int64, shape)[...] = order

    module = types.ModuleType('cupy.cuda.thrust')
    module.sort, module.argsort, module.available = sort, argsort, True
    return module


if __name__ == '__main__':
    build(Path(os.environ['CUDA_ON_CPU']), Path(os.environ['CUDA_PATH']))
