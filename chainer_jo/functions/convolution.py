"""Convolution that adds a residual on the way."""

import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.backends import onednn
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
    if backends.name_for(*inputs) == 'onednn':
        return _OneDNNConvolution2D(stride, pad).apply(inputs)[0]
    y = F.convolution_2d(x, W, stride=stride, pad=pad)
    return y if residual is None else y + residual


class _OneDNNConvolution2D(FirstOrderFunction):
    def __init__(self, stride, pad):
        self.stride, self.pad = stride, pad

    def check_type_forward(self, in_types):
        x, W, *residual = in_types
        type_check.expect(x.ndim == 4, W.ndim == 4, x.shape[1] == W.shape[1])
        for r in residual:
            shapes = (type_check.eval(x.shape), type_check.eval(W.shape))
            type_check.expect(r.shape == onednn.output_shape(*shapes, self.stride, self.pad))

    def forward(self, inputs):
        self.x, self.W, *residual = inputs
        return (onednn.convolution(self.x, self.W, self.stride, self.pad, *residual),)

    def gradients(self, indexes, gy):
        x, W, window = self.x, self.W, (gy, self.stride, self.pad)
        gradient = {
            0: lambda: onednn.convolution_gradient_x(x.shape, W, *window),
            1: lambda: onednn.convolution_gradient_W(x, W.shape, *window),
            2: lambda: gy,
        }
        return [gradient[i]() for i in indexes]
