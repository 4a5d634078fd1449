"""Max pooling over windows, and average pooling over whole images."""

import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction


def global_average_pooling(x):
    """Returns the mean of each channel of each image.

    Args:
        x (Variable or array): ``(N, C, H, W)``.

    Returns:
        Variable: ``(N, C)``, float32 even if ``x`` has 16 bits.
    """
    if backends.op('average', x):
        return _Average().apply((x,))[0]
    return F.average(x, axis=(2, 3))


class _Average(FirstOrderFunction):
    def forward(self, inputs):
        # The gradient needs only shape and type, so the images can be freed.
        self.shape, self.dtype = inputs[0].shape, inputs[0].dtype
        return (self.backend.average(*inputs),)

    def gradients(self, indexes, gy):
        return (self.backend.average_gradient(self.shape, self.dtype, gy),)


def max_pooling_2d(x, ksize, stride, pad, cover_all=False):
    """Returns the maximum of each window.

    By default the windows are those of a convolution: none reaches beyond the padding. If a window
    has several equal maxima, the first one gets the gradient.

    Args:
        x (Variable or array): ``(N, C, H, W)``.
        ksize, stride (int): Size and stride of the window, the same for height and width.
        pad (int): Padding on each side, which is never the maximum; less than ``ksize``.
        cover_all (bool): Whether every element is in some window, so that the last windows may
            reach beyond the padding. This is the default of Chainer and Caffe. ``stride + pad`` is
            at most ``ksize`` then.

    Returns:
        Variable: ``(N, C, (H + 2 pad - k) // stride + 1, (W + 2 pad - k) // stride + 1)``; with
        ``cover_all`` the division rounds up.
    """
    if backends.op('max_pooling', x):
        return _MaxPooling2D(ksize, stride, pad, cover_all).apply((x,))[0]
    return F.max_pooling_2d(x, ksize, stride, pad, cover_all)


class _MaxPooling2D(FirstOrderFunction):
    def __init__(self, *window):
        self.window = window

    def check_type_forward(self, in_types):
        type_check.expect(in_types[0].ndim == 4)

    def forward(self, inputs):
        self.shape = inputs[0].shape
        y, self.places = self.backend.max_pooling(*inputs, *self.window)
        return (y,)

    def gradients(self, indexes, gy):
        return (self.backend.max_pooling_gradient(self.shape, self.places, gy, *self.window),)
