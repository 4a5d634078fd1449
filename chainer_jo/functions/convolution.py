"""Convolution that adds a residual on the way."""

import chainer
import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction


def convolution_2d(x, W, stride, pad, residual=None):
    """Convolves without bias and adds ``residual``, with no pass over memory of its own.

    Args:
        x (Variable or array): ``(N, I, H, W)``.
        W (Variable or array): ``(O, I, kh, kw)``.
        stride (int): Step of the window, the same both ways.
        pad (int): Rows and columns of zeros on each side.
        residual (Variable or array): None, or an array of the result's shape.

    Returns:
        Variable: ``(N, O, (H + 2 pad - kh) // stride + 1, (W + 2 pad - kw) // stride + 1)``.
    """
    inputs = (x, W) if residual is None else (x, W, residual)
    if backend := backends.of(*inputs):
        return _Convolution2D(backend, stride, pad).apply(inputs)[0]
    y = F.convolution_2d(x, W, stride=stride, pad=pad)
    return y if residual is None else y + residual


class _Convolution2D(FirstOrderFunction):
    def __init__(self, backend, stride, pad):
        super().__init__(backend)
        self.stride, self.pad = stride, pad

    def check_type_forward(self, in_types):
        x, W, *residual = in_types
        type_check.expect(x.ndim == 4, W.ndim == 4, x.shape[1] == W.shape[1])
        for r in residual:
            shapes = (type_check.eval(x.shape), type_check.eval(W.shape))
            shape = self.backend.output_shape(*shapes, self.stride, self.pad)
            type_check.expect(r.shape == shape)

    def forward(self, inputs):
        self.x, W, *residual = inputs
        self.W = self.backend.weights(W, self.x.dtype)
        # The gradients are computed as exactly as the result was.
        self.tensor_core = chainer.config.use_cudnn_tensor_core
        return (self.backend.convolution(self.x, self.W, self.stride, self.pad, *residual),)

    def gradients(self, indexes, gy):
        x, W, window = self.x, self.W, (gy, self.stride, self.pad)
        gradient = {
            0: lambda: self.backend.convolution_gradient_x(x.shape, W, *window),
            1: lambda: self.backend.convolution_gradient_W(x, W.shape, *window),
            2: lambda: gy,
        }
        with chainer.using_config('use_cudnn_tensor_core', self.tensor_core):
            return [gradient[i]() for i in indexes]
