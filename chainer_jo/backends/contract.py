"""The interface of a backend: its functions, with their shapes, dtypes and layout.

**Layout.** Images have the shape ``(N, C, H, W)`` and are channel-last in memory, ``(N, H, W, C)``;
only their strides show it. Convolutions are fastest in this layout, and batch normalisation finds
all channels of a pixel next to each other. Arguments in another layout are copied first; results
are channel-last. Vectors, ``(C,)``, may have any strides, except those of ``running``.

**Types.** Images are float32 or the backend's 16-bit type. All images of one call have the same
type, and so does the result. Sums are accumulated in float32. Weights, biases, statistics and the
gradients of weights and biases are always float32.

**Gradients.** Gradients are plain arrays, not Variables; there are no second derivatives. A backend
may store the gradients of 16-bit images multiplied by a constant, so that small ones do not
underflow: ``average_gradient``, which is first in a backward pass through a net's images, applies
the factor, ``convert_gradient`` removes it, and gradients of weights are returned without it.

**Determinism.** The same call on the same numbers returns the same bits. No function writes to its
arguments, except those that are documented as changed in place.
"""

import typing


class Backend(typing.Protocol):
    """The functions that every backend has in its module."""

    def load(self):
        """Loads the library. Raises OSError with a one-line reason if that fails."""

    def describe(self):
        """Returns the library, its version and what else affects speed, in a few words."""

    def takes(self, array):
        """Returns whether the backend supports the device and dtype of an array."""

    def weights(self, W, dtype):
        """Returns ``W`` in the form that convolutions of images of ``dtype`` use, for reuse."""

    def all_weights(self, Ws, dtype):
        """Returns a list with the result of :meth:`weights` for each of ``Ws``."""

    def convolution(self, x, W, stride, pad, residual=None, b=None):
        """Returns ``y`` ``(N, O, H', W')`` for ``x`` ``(N, I, H, W)``, plus residual and bias."""

    def convolution_gradient_x(self, x_shape, W, gy, stride, pad):
        """Returns the gradient of ``x``, of shape ``x_shape``."""

    def convolution_gradient_W(self, x, W_shape, gy, stride, pad):
        """Returns the gradient of ``W``, ``(O, I, kh, kw)``, float32."""

    def bias_gradient(self, gy):
        """Returns the gradient of ``b``, the sum over images and pixels, ``(O,)``, float32."""

    def normalize(self, x, gamma, beta, eps, running=None, relu=False, residual=None):
        """Batch normalisation with the batch's statistics, plus ``residual``, then ReLU.

        ``y = gamma * (x - mean) / sqrt(variance + eps) + beta``, before residual and ReLU.

        ``running`` is ``(mean, variance, decay)``. The two arrays ``(C,)``, which must be
        contiguous, are updated in place, to ``decay`` times the old value plus ``1 - decay`` times
        the batch's mean and unbiased variance.

        Returns ``y``, mean and biased variance ``(C,)``, and what ``normalize_gradients`` needs.
        """

    def normalize_fixed(self, x, gamma, beta, mean, variance, eps, keep, relu=False, residual=None):
        """The same with given statistics; returns ``y`` and, if ``keep``, what gradients need."""

    def normalize_gradients(
        self, x, gamma, mean, variance, kept, gy, eps, fixed, relu=False, with_residual=False
    ):
        """Returns the gradients of ``x``, ``gamma``, ``beta`` and of the residual or None.

        ``kept`` is the last result of the forward call; ``fixed`` says that this was
        ``normalize_fixed``, whose statistics are constants.
        """

    def max_pooling(self, x, k, stride, pad, cover_all=False):
        """Returns ``y`` and the positions of the maxima, the first of equal ones.

        Windows are squares of ``k``; ``pad < k``, and cuDNN takes ``k`` up to 16. The padding is
        never the maximum. With ``cover_all`` a last window may reach beyond the image, and
        ``stride + pad <= k``.
        """

    def max_pooling_gradient(self, x_shape, places, gy, k, stride, pad, cover_all=False):
        """Returns the gradient of ``x``, of shape ``x_shape``."""

    def average(self, x):
        """Returns the mean of each channel of each image, ``(N, C)``, float32."""

    def average_gradient(self, x_shape, dtype, gy):
        """Returns the gradient of ``x`` from ``gy`` ``(N, C)``, float32."""

    def add(self, x, y, out=None):
        """Returns the sum of two image arrays, in ``out`` if given, which may be ``x``."""

    def accumulate(self, gx, other, gy):
        """Returns ``gx + other``, in place unless ``gx`` is ``gy``, which is still needed."""

    def convert(self, x, dtype):
        """Returns images in another type, rounded to nearest; ``x`` itself if it has that type."""

    def convert_gradient(self, gx, dtype):
        """Returns a gradient of images in another type, with that type's scale factor."""


class GPUBackend(Backend, typing.Protocol):
    """Further functions for a GPU, where launching a kernel can take longer than running it.

    Each is a single kernel instead of several of CuPy's, and none calls cuBLAS, which CuPy refuses
    to capture. On a CPU, NumPy and Chainer are just as fast. All arrays are float32 unless another
    type is named.
    """

    def linear(self, x, W, b):
        """Returns ``x W' + b``, ``(N, O)``."""

    def linear_gradient_x(self, W, gy):
        """Returns the gradient of ``x``, ``(N, I)``."""

    def linear_gradient_W(self, x, gy):
        """Returns the gradients of ``W`` ``(O, I)`` and ``b`` ``(O,)``."""

    def log_softmax(self, x):
        """Returns the logarithm of the softmax of each row, ``(N, C)``."""

    def log_softmax_gradient(self, y, gy):
        """Returns the gradient of ``x`` from the result ``y``."""

    def joint_loss(self, y, log_f, alpha, beta, kl):
        """Returns the loss of :func:`chainer_jo.functions.losses.joint_loss` and the sums of f.

        The loss is ``L_c + alpha L_p + beta L_e``, ``()``; ``L_c`` is the KL divergence if ``kl``,
        else the cross entropy. A term whose weight is 0 is not computed. The sums are those of the
        batch, ``(C,)``; the gradient needs them.
        """

    def joint_loss_gradient(self, y, log_f, alpha, beta, f_sums, gy):
        """Returns the gradient of ``log_f``, ``(B, C)``."""

    def add_to_sums(self, sums, loss, log_f, y):
        """Adds loss times images, images, and hits to ``sums`` (3,), float64, in place.

        ``loss`` is the mean over the batch, ``()``. A hit is a row whose maximum is at the same
        class in ``y`` and in ``log_f``, both ``(B, C)``.
        """

    def mix_up(self, v, partner, lam):
        """Returns ``lam v_i + (1 - lam) v_j`` with ``j = partner[i]``, of images or labels."""

    def record(self, history, f, index, turn):
        """Writes ``f`` (B, C) to ``history[turn % window, index]``, in place; the last row wins.

        ``history`` is ``(window, N, C)``, ``index`` and ``turn`` are integers, ``(B,)``.
        """

    def augment(self, images, mean, index, offsets, flips, pad):
        """Returns the result of :func:`chainer_jo.datasets.augment.augment`, bit for bit."""

    def update(self, arrays, lr, momentum, weight_decay):
        """Makes a step of momentum SGD for all ``(p, g, v)``, in place."""
