"""Losses that are corrected by the transition matrix: forward and backward correction.

``T[i, j] = P(noisy = j | true = i)``; ``y`` are one-hot noisy labels ``(B, C)``, float32; ``log_f``
is a Variable of the same shape. Losses are scalars, the mean over the batch, in nats. Gradients
flow to ``log_f`` only. Source: Patrini et al., CVPR 2017.
"""

import math

import chainer.functions as F
from chainer import backend

from chainer_jo.functions.product import product

# Patrini's public code clips the net's outputs to [EPSILON, 1 - EPSILON].
EPSILON = 1e-7
# Replaces a probability of zero before a logarithm is taken.
TINY = 1e-20


def forward_loss(y, log_f, T):
    """``L = -1/n sum_i log [T' f(x_i)]_y``: minus the log-likelihood of the noisy labels.

    The sum over true classes is a logsumexp, so nothing needs clipping.

    Args:
        T (array): ``(C, C)``, float32, rows that sum to 1.
    """
    xp = backend.get_array_module(y)
    T_y = product(y, T, transposed=True).array
    return -F.sum(F.logsumexp(log_f + xp.log(xp.maximum(T_y, TINY)), axis=1)) / len(y)


def backward_loss(y, log_f, T_inverse):
    """``L = -1/n sum_i sum_j (T^-1)_yj log f_j(x_i)``: its mean over the noise is the clean loss.

    If an entry of the inverse is negative, the loss would fall without bound as ``f_j`` goes to 0.
    Clipping prevents that; the loss can still be negative.

    Args:
        T_inverse (array): ``(C, C)``, float32.
    """
    # The bounds are logarithms, like the output that they clip.
    clipped = F.clip(log_f, math.log(EPSILON), math.log1p(-EPSILON))
    return -F.sum(product(y, T_inverse).array * clipped) / len(y)
