"""Batch normalisation and ReLU in one pass."""

import chainer
import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction


def batch_normalization_relu(x, gamma, beta, running_mean, running_var, eps=2e-5, decay=0.9):
    """Normalises each channel and keeps what is positive.

    With ``chainer.config.train`` the statistics are the batch's, and the running ones are updated
    in place as :func:`chainer.functions.batch_normalization` does (variance unbiased). Without,
    the running ones are used.

    Args:
        x (Variable or array): ``(N, C, H, W)``.
        gamma, beta (Variable or array): Scale and shift, ``(C,)``.
        running_mean, running_var (array): ``(C,)``.
        eps (float): Added to the variance.
        decay (float): Share of the old running statistics that is kept.

    Returns:
        Variable: Shape of ``x``, not negative.
    """
    running = (running_mean, running_var)
    if backend := backends.of(x, gamma, beta, *running):
        function = _BatchNormalizationReLU(backend, *running, eps, decay)
        return function.apply((x, gamma, beta))[0]
    if chainer.config.train:
        return F.relu(
            F.batch_normalization(
                x,
                gamma,
                beta,
                eps=eps,
                running_mean=running_mean,
                running_var=running_var,
                decay=decay,
            )
        )
    return F.relu(F.fixed_batch_normalization(x, gamma, beta, *running, eps=eps))


class _BatchNormalizationReLU(FirstOrderFunction):
    def __init__(self, backend, running_mean, running_var, eps, decay):
        super().__init__(backend)
        self.running_mean, self.running_var = running_mean, running_var
        self.eps, self.decay = eps, decay

    def check_type_forward(self, in_types):
        x, gamma, beta = in_types
        channels = (type_check.eval(x.shape[1]),)
        type_check.expect(x.ndim == 4, gamma.shape == channels, beta.shape == channels)

    def forward(self, inputs):
        self.x, self.gamma, _ = inputs
        shape = self.gamma.shape
        if not self.running_mean.shape == self.running_var.shape == shape:
            raise ValueError(f'running statistics must have the shape {shape} of gamma')
        self.fixed = not chainer.config.train
        if self.fixed:
            self.mean, self.var = self.running_mean, self.running_var
            y, self.signs = self.backend.normalize_relu_fixed(
                *inputs, self.mean, self.var, self.eps, chainer.config.enable_backprop
            )
        else:
            running = self.running_mean, self.running_var, self.decay
            y, self.mean, self.var, self.signs = self.backend.normalize_relu(
                *inputs, self.eps, running
            )
        return (y,)

    def gradients(self, indexes, gy):
        saved = (self.x, self.gamma, self.mean, self.var, self.signs)
        gxs = self.backend.normalize_relu_gradients(*saved, gy, self.eps, self.fixed)
        return [gxs[i] for i in indexes]
