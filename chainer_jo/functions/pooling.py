"""Pooling over whole images."""

import chainer.functions as F

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction


def global_average_pooling(x):
    """Returns the mean of each channel of each image.

    Args:
        x (Variable or array): ``(N, C, H, W)``.

    Returns:
        Variable: ``(N, C)``.
    """
    if backend := backends.of(x):
        return _Average(backend).apply((x,))[0]
    return F.average(x, axis=(2, 3))


class _Average(FirstOrderFunction):
    def forward(self, inputs):
        self.shape, self.dtype = inputs[0].shape, inputs[0].dtype
        return (self.backend.average(*inputs),)

    def gradients(self, indexes, gy):
        return (self.backend.average_gradient(self.shape, self.dtype, gy),)
