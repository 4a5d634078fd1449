"""Convolution that also adds a bias and a residual."""

import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.backends import output_shape
from chainer_jo.functions.first_order import FirstOrderFunction


def convolution_2d(x, W, stride, pad, residual=None, b=None):
    """Convolves, and adds ``residual`` and ``b``, without another pass over memory if possible.

    Args:
        x (Variable or array): ``(N, I, H, W)``.
        W (Variable or array): ``(O, I, kh, kw)``.
        stride (int): Stride of the window, the same for height and width.
        pad (int): Rows and columns of zeros on each side.
        residual (Variable or array): None, or an array of the result's shape.
        b (Variable or array): None, or a bias, ``(O,)``, float32.

    Returns:
        Variable: ``(N, O, (H + 2 pad - kh) // stride + 1, (W + 2 pad - kw) // stride + 1)``.
    """
    given = {'residual': residual, 'b': b}
    names = [name for name, value in given.items() if value is not None]
    inputs = (x, W, *(given[name] for name in names))
    if backends.op('convolution', *inputs):
        return _Convolution2D(stride, pad, names).apply(inputs)[0]
    # The reference: Chainer's own function, on any device and in any dtype, including float64.
    y = F.convolution_2d(x, W, b, stride=stride, pad=pad)
    return y if residual is None else y + residual


class _Convolution2D(FirstOrderFunction):
    """``names`` lists the inputs after ``x`` and ``W``."""

    def __init__(self, stride, pad, names):
        self.stride, self.pad, self.names = stride, pad, names

    def check_type_forward(self, in_types):
        x, W, *others = in_types
        type_check.expect(x.ndim == 4, W.ndim == 4, x.shape[1] == W.shape[1])
        shapes = (type_check.eval(x.shape), type_check.eval(W.shape))
        wanted = {'residual': output_shape(*shapes, self.stride, self.pad), 'b': shapes[1][:1]}
        for name, other in zip(self.names, others, strict=True):
            type_check.expect(other.shape == wanted[name])

    def forward(self, inputs):
        self.x, W, *others = inputs
        # On a GPU, converted once here and used again for the gradient of x.
        self.W = self.backend.weights(W, self.x.dtype)
        self.tensor_cores = backends.tensor_cores()
        others = dict(zip(self.names, others, strict=True))
        return (self.backend.convolution(self.x, self.W, self.stride, self.pad, **others),)

    def gradients(self, indexes, gy):
        x, W, window = self.x, self.W, (gy, self.stride, self.pad)
        gradient = {
            'x': lambda: self.backend.convolution_gradient_x(x.shape, W, *window),
            'W': lambda: self.backend.convolution_gradient_W(x, W.shape, *window),
            'residual': lambda: gy,
            'b': lambda: self.backend.bias_gradient(gy),
        }
        names = ('x', 'W', *self.names)
        # The gradients are computed in the precision of the result.
        with backends.using_tensor_cores(self.tensor_cores):
            return [gradient[names[i]]() for i in indexes]
