"""What a backend offers: the functions, their shapes, types and layout.

**Layout.** Images have the shape ``(N, C, H, W)`` and lie channel-last in memory, ``(N, H, W, C)``,
which their strides show: convolutions are fastest so, and one pixel's channels, which batch
normalisation treats alike, are neighbours. Arguments may lie otherwise and are copied first;
results lie channel-last. Vectors, ``(C,)``, may have any strides.

**Types.** Images are float32 or the backend's type of 16 bits; all images of one call are of one
type, and so is the result. Sums are made in float32. Weights, biases, statistics and the gradients
of weights and biases are always float32.

**Gradients.** They are plain arrays, not Variables, and can be differentiated once. A backend may
store the gradients of 16-bit images at a scale of its own, so that small ones do not vanish:
``average_gradient``, the first of a net's images, brings it in, ``convert_gradient`` takes it out,
and gradients of weights come out at their own size.

**Same on every run.** A function called again on the same numbers returns the same bits. No
function writes into its arguments, but for what is named as changed in place.
"""

import typing


class Backend(typing.Protocol):
    """What every backend has, as functions of its module."""

    def load(self):
        """Loads the library. Raises OSError, whose message says in one line why it cannot."""

    def describe(self):
        """Returns library, version and what else decides speed, in a few words."""

    def takes(self, array):
        """Says whether this is an array of a device and type that is computed here."""

    def weights(self, W, dtype):
        """Returns ``W`` as the convolutions of images of ``dtype`` take it, to be used twice."""

    def all_weights(self, Ws, dtype):
        """Returns a list with what :meth:`weights` returns for each array of another."""

    def convolution(self, x, W, stride, pad, residual=None, b=None):
        """Returns ``y`` ``(N, O, H', W')`` of ``x`` ``(N, I, H, W)``, plus residual and bias."""

    def convolution_gradient_x(self, x_shape, W, gy, stride, pad):
        """Returns the gradient of ``x``, of shape ``x_shape``."""

    def convolution_gradient_W(self, x, W_shape, gy, stride, pad):
        """Returns the gradient of ``W``, ``(O, I, kh, kw)``, float32."""

    def bias_gradient(self, gy):
        """Returns the gradient of ``b``, the sum over images and pixels, ``(O,)``, float32."""

    def normalize(self, x, gamma, beta, eps, running=None, relu=False, residual=None):
        """Batch normalisation by the batch's statistics, plus ``residual``, then ReLU.

        ``running`` is ``(mean, variance, decay)``, of which the two arrays ``(C,)`` are changed in
        place: ``decay`` of them stays, the rest is the batch's mean and unbiased variance.

        Returns ``y``, mean and biased variance ``(C,)``, and what ``normalize_gradients`` needs.
        """

    def normalize_fixed(self, x, gamma, beta, mean, variance, eps, keep, relu=False, residual=None):
        """The same by given statistics; returns ``y`` and, to ``keep``, what gradients need."""

    def normalize_gradients(
        self, x, gamma, mean, variance, kept, gy, eps, fixed, relu=False, with_residual=False
    ):
        """Returns the gradients of ``x``, ``gamma``, ``beta`` and of the residual, else None.

        ``kept`` is the last result of the call that normalised; ``fixed`` says that it was
        ``normalize_fixed``, whose statistics are constants.
        """

    def max_pooling(self, x, k, stride, pad, cover_all=False):
        """Returns ``y`` and the places of the largest numbers, of equal ones the first."""

    def max_pooling_gradient(self, x_shape, places, gy, k, stride, pad, cover_all=False):
        """Returns the gradient of ``x``, of shape ``x_shape``."""

    def average(self, x):
        """Returns the mean of each channel of each image, ``(N, C)``, float32."""

    def average_gradient(self, x_shape, dtype, gy):
        """Returns the gradient of ``x`` from ``gy`` ``(N, C)``, float32."""

    def add(self, x, y, out=None):
        """Returns the sum of two images, in ``out`` if given, which may be ``x``."""

    def accumulate(self, gx, other, gy):
        """Returns ``gx + other``: changed in place, unless ``gx`` is ``gy``, which others see."""

    def convert(self, x, dtype):
        """Returns images as another type, rounded to nearest; ``x`` itself if it has it."""

    def convert_gradient(self, gx, dtype):
        """Returns a gradient of images as another type, at that type's scale."""


class GPUBackend(Backend, typing.Protocol):
    """What a backend has besides, where launching a kernel costs more than running it.

    Each is one kernel in the place of several of CuPy's, and none calls cuBLAS, which CuPy refuses
    to capture. On a CPU NumPy and Chainer are as fast. All arrays are float32 where no other type
    is named.
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
        """Returns the loss of :func:`chainer_jo.functions.losses.joint_loss`, and sums of f."""

    def joint_loss_gradient(self, y, log_f, alpha, beta, f_sums, gy):
        """Returns the gradient of ``log_f``, ``(B, C)``."""

    def add_to_sums(self, sums, loss, log_f, y):
        """Adds loss times images, images and hits to ``sums`` (3,), float64, in place."""

    def mix_up(self, v, partner, lam):
        """Returns ``lam v_i + (1 - lam) v_j`` with ``j = partner[i]``, of images or labels."""

    def record(self, history, f, index, turn):
        """Writes ``f`` (B, C) to ``history[turn % window, index]``, in place; the last one stays.

        ``history`` is ``(window, N, C)``, ``index`` and ``turn`` are integers, ``(B,)``.
        """

    def augment(self, images, mean, index, offsets, flips, pad):
        """Returns what :func:`chainer_jo.datasets.augment.augment` does, to the bit."""

    def update(self, arrays, lr, momentum, weight_decay):
        """Takes a step of momentum SGD for all ``(p, g, v)``, in place."""
