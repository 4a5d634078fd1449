"""Losses that know how labels go wrong: forward and backward correction.

``T[i, j] = P(noisy = j | true = i)``; ``y`` are one-hot noisy labels ``(B, C)``, float32, ``log_f``
a Variable of the same shape. Losses are scalars, the mean over the batch, in nats. Gradients flow
to ``log_f`` only. Source: Patrini et al., CVPR 2017.
"""

import math

import chainer.functions as F
from chainer import backend

from chainer_jo.functions.product import product

# The net's outputs are clipped to [EPSILON, 1 - EPSILON] in Patrini's public code.
EPSILON = 1e-7
# Stands for a probability of zero where a logarithm is taken.
TINY = 1e-20


def forward_loss(y, log_f, T):
    """``L = -1/n sum_i log [T' f(x_i)]_y``: the noisy label's likelihood.

    The sum over true classes is taken in logarithms, so nothing needs clipping.

    Args:
        T (array): ``(C, C)``, float32, rows that sum to 1.
    """
    xp = backend.get_array_module(y)
    T_y = product(y, T, transposed=True).array
    return -F.sum(F.logsumexp(log_f + xp.log(xp.maximum(T_y, TINY)), axis=1)) / len(y)


def backward_loss(y, log_f, T_inverse):
    """``L = -1/n sum_i sum_j (T^-1)_yj log f_j(x_i)``: the clean loss, if averaged over the noise.

    Where an entry of the inverse is negative the loss rewards a small ``f_j`` without end, hence
    the clipping; it can still be negative.

    Args:
        T_inverse (array): ``(C, C)``, float32.
    """
    # In logarithms, because the net's output already is one.
    clipped = F.clip(log_f, math.log(EPSILON), math.log1p(-EPSILON))
    return -F.sum(product(y, T_inverse).array * clipped) / len(y)
