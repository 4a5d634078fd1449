"""What :mod:`chainer_jo.backends.cudnn` needs of CuPy and of cuDNN, by NumPy and g++.

The module under test, its launches and its kernels are the real ones; arrays are NumPy's.
"""

import sys
import types

import chainer
import chainer.functions as F
import numpy as np
from cuda_on_cpu import RawKernel

from chainer_jo import backends
from chainer_jo.backends import cudnn, cudnn_plans, kernels


def empty(shape, dtype=np.float32):
    """Returns an array of what no result may hold."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == 'f' else 123, dtype)


def run(convolution, first, second, result):
    """Does what cuDNN does, by Chainer's own functions in float32."""
    operation, dtype, x, W, y, stride, pad, _ = convolution
    shapes = {'forward': (x, W, y), 'gradient_x': (W, y, x), 'gradient_W': (x, y, W)}
    for array, shape in zip((first, second, result), shapes[operation], strict=True):
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous
    first, second = (array.astype(np.float32) for array in (first, second))
    with chainer.using_config('enable_backprop', True), chainer.using_config('use_ideep', 'never'):
        if operation == 'forward':
            result[...] = F.convolution_2d(first, second, stride=stride, pad=pad).array
        elif operation == 'gradient_x':
            result[...] = _gradients(np.zeros(x, 'f'), first, second, stride, pad)[0]
        else:
            result[...] = _gradients(first, np.zeros(W, 'f'), second, stride, pad)[1]


def _gradients(x, W, gy, stride, pad):
    x, W = chainer.Variable(x), chainer.Variable(W)
    y = F.convolution_2d(x, W, stride=stride, pad=pad)
    y.grad = gy
    y.backward()
    return x.grad, W.grad


def install(monkeypatch):
    """Makes NumPy's arrays those of a GPU until the end of a test."""
    cupy = types.ModuleType('cupy')
    cupy.ndarray, cupy.empty, cupy.RawKernel = np.ndarray, empty, RawKernel
    cupy.ascontiguousarray, cupy.get_array_module = np.ascontiguousarray, lambda *_: np
    monkeypatch.setitem(sys.modules, 'cupy', cupy)
    monkeypatch.setattr(cudnn, 'load', lambda: None)
    monkeypatch.setattr(cudnn_plans, 'run', run)
    for cache in (backends._why_not, kernels.function):
        cache.cache_clear()
    backends.use('cudnn')
