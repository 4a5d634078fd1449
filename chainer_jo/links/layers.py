"""Layers for building nets, computed by the fastest backend that takes their arrays.

Every layer takes and returns Variables ``(N, C, H, W)``, float32, or the Activations of
:func:`~chainer_jo.functions.low_precision.in_low_precision`. Layers have no second derivatives.
"""

import chainer
import chainer.links as L
from chainer import initializers

from chainer_jo import backends
from chainer_jo.functions.batch_normalization import batch_normalization
from chainer_jo.functions.convolution import convolution_2d
from chainer_jo.functions.linear import linear


class Convolution2D(chainer.Link):
    """Convolution; HeNormal weights ``W`` of shape ``(out, in, k, k)``.

    Args:
        in_channels, out_channels (int): Channels of the input and of the output.
        ksize (int): ``k``, height and width of the window.
        stride (int): Stride of the window.
        pad (int): Rows and columns of zeros on each side. The default, half a window, keeps the
            size of the image for an odd ``ksize`` and stride 1.
        nobias (bool): False adds a bias ``b`` of shape ``(out,)``, which starts at 0.
        rng (numpy.random.Generator): Draws the initial weights.
    """

    def __init__(self, in_channels, out_channels, ksize, stride=1, pad=None, nobias=True, *, rng):
        super().__init__()
        self.stride, self.pad = stride, ksize // 2 if pad is None else pad
        with self.init_scope():
            # Drawn now, and from the trial's own generator: Chainer's layers may draw them at the
            # first batch, and its initializers use NumPy's global generator by default.
            self.W = chainer.Parameter(
                initializers.HeNormal(rng=rng), (out_channels, in_channels, ksize, ksize)
            )
            # An attribute that is None is not registered, so it does not appear in snapshots.
            self.b = None if nobias else chainer.Parameter(0, out_channels)

    def device_resident_accept(self, visitor):
        super().device_resident_accept(visitor)
        # On a GPU, weights and their gradients stay in the layout that convolutions need: to change
        # it in every step would cost more than some convolutions.
        if weights := backends.op('weights', self.W):
            self.W.array = weights(self.W.array, self.W.dtype)

    def forward(self, x, residual=None):
        """Returns the convolution of ``x`` (N, in, H, W), with ``residual`` added if given."""
        return convolution_2d(x, self.W, self.stride, self.pad, residual, self.b)


class BatchNormalization(L.BatchNormalization):
    """Batch normalisation; running statistics with Chainer's default decay, 0.9.

    Args:
        size (int): Number of channels.
        relu (bool): Whether to apply ReLU in the same pass.
        eps (float): Added to the variance; the default is Chainer's.
    """

    def __init__(self, size, relu=False, eps=2e-5):
        super().__init__(size, eps=eps)
        # A plain attribute, neither a parameter nor a persistent value, so it is not in snapshots.
        self.relu = relu

    def forward(self, x, residual=None):
        """Returns ``x`` (N, size, H, W) normalised; a ``residual`` is added before ReLU."""
        # Chainer's `decay` of 0.9 is a `momentum` of 0.1 in PyTorch, where `eps` is 1e-5.
        statistics = (self.avg_mean, self.avg_var, self.eps, self.decay)
        return batch_normalization(x, self.gamma, self.beta, *statistics, self.relu, residual)


class Linear(L.Linear):
    """The fully connected last layer, always float32."""

    def forward(self, x):
        """Returns ``x W' + b``, ``(N, out)``, for ``x`` ``(N, in)``."""
        return linear(x, self.W, self.b)
