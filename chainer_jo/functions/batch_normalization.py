"""Batch normalisation, with an optional residual and ReLU in the same pass."""

import chainer
import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction


def batch_normalization(
    x, gamma, beta, running_mean, running_var, eps=2e-5, decay=0.9, relu=False, residual=None
):
    """Normalises each channel, adds ``residual`` if given, and applies ReLU if ``relu``.

    If ``chainer.config.train`` is true, the batch's statistics are used and the running statistics
    are updated in place as in :func:`chainer.functions.batch_normalization` (unbiased variance).
    Otherwise the running statistics are used.

    Args:
        x (Variable or array): ``(N, C, H, W)``.
        gamma, beta (Variable or array): Scale and shift, ``(C,)``.
        running_mean, running_var (array): ``(C,)``.
        eps (float): Added to the variance.
        decay (float): Share of the old running statistics that is kept.
        relu (bool): Whether to apply ReLU at the end.
        residual (Variable or array): None, or an array of the shape of ``x``, added before ReLU.

    Returns:
        Variable: Shape of ``x``.
    """
    running = (running_mean, running_var)
    inputs = (x, gamma, beta) if residual is None else (x, gamma, beta, residual)
    if backends.op('normalize', *inputs, *running):
        return _BatchNormalization(*running, eps, decay, relu).apply(inputs)[0]
    if chainer.config.train:
        moving = {'running_mean': running_mean, 'running_var': running_var, 'decay': decay}
        y = F.batch_normalization(x, gamma, beta, eps=eps, **moving)
    else:
        y = F.fixed_batch_normalization(x, gamma, beta, *running, eps=eps)
    y = y if residual is None else y + residual
    return F.relu(y) if relu else y


class _BatchNormalization(FirstOrderFunction):
    def __init__(self, running_mean, running_var, eps, decay, relu):
        self.running_mean, self.running_var = running_mean, running_var
        self.eps, self.decay, self.relu = eps, decay, relu

    def check_type_forward(self, in_types):
        x, gamma, beta, *residual = in_types
        channels = (type_check.eval(x.shape[1]),)
        type_check.expect(x.ndim == 4, gamma.shape == channels, beta.shape == channels)
        for r in residual:
            type_check.expect(r.shape == x.shape)

    def forward(self, inputs):
        self.x, self.gamma, beta, *residual = inputs
        shape = self.gamma.shape
        if not self.running_mean.shape == self.running_var.shape == shape:
            raise ValueError(f'running statistics must have the shape {shape} of gamma')
        # Saved now, since chainer.config may have changed by the backward pass.
        self.fixed, self.with_residual = not chainer.config.train, bool(residual)
        given = (self.x, self.gamma, beta)
        if self.fixed:
            self.mean, self.var = self.running_mean, self.running_var
            keep = chainer.config.enable_backprop
            given += (self.mean, self.var, self.eps, keep, self.relu, *residual)
            y, self.kept = self.backend.normalize_fixed(*given)
        else:
            given += (self.eps, (self.running_mean, self.running_var, self.decay), self.relu)
            y, self.mean, self.var, self.kept = self.backend.normalize(*given, *residual)
        return (y,)

    def gradients(self, indexes, gy):
        saved = (self.x, self.gamma, self.mean, self.var, self.kept)
        kind = (self.fixed, self.relu, self.with_residual)
        gxs = self.backend.normalize_gradients(*saved, gy, self.eps, *kind)
        return [gxs[i] for i in indexes]
