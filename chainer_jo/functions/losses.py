"""The losses of Eqs. (1) to (9), in the paper's notation.

``y`` is always an array of labels, shape ``(B, C)``, float32, rows that sum to 1. ``log_f`` is a
Variable of the same shape, the logarithm of the net's output ``f(x, theta)``. Every loss is a
scalar Variable, the mean over the batch, in nats. Gradients flow to ``log_f`` only.

On a GPU each loss of a training step is a single kernel with the same equations.
"""

import chainer.functions as F
from chainer import backend

from chainer_jo import backends
from chainer_jo.functions.fused_loss import fused_loss


def cross_entropy(y, log_f):
    """``L = -1/n sum_i sum_j y_ij log f_j(x_i)``, Eq. (1)."""
    if backends.op('joint_loss', y, log_f):
        return fused_loss(y, log_f, kl=False)
    return -F.sum(y * log_f) / len(y)


def kl_divergence(y, log_f):
    """``L_c = 1/n sum_i KL(y_i || f(x_i))``, Eqs. (4) and (5); ``0 log 0`` is 0.

    It has the gradient of :func:`cross_entropy`, since the labels are constants (D-07).
    """
    if backends.op('joint_loss', y, log_f):
        return fused_loss(y, log_f)
    xp = backend.get_array_module(y)
    # log 1 = 0 instead of log 0: y log y tends to 0.
    y_log_y = y * xp.log(xp.where(y > 0, y, 1))
    return F.sum(y_log_y - y * log_f) / len(y)


def prior_loss(log_f, mean=None):
    """``L_p = sum_j p_j log(p_j / f_j)`` with ``p_j = 1/C``, Eq. (6).

    ``f_j`` is the mean output over the mini-batch (D-08).

    Args:
        mean (callable): Returns the mean of an array over all processes, if ``log_f`` is only one
            process's part of the mini-batch. The mean of their gradients is then exact.
    """
    # The mean over all images would take a pass over the whole training set.
    n_class = log_f.shape[1]
    mean_f = F.mean(F.exp(log_f), axis=0)
    if mean:
        # The value of the whole, and the gradient of the part.
        mean_f += mean(mean_f.array) - mean_f.array
    return -F.mean(F.log(n_class * mean_f))


def entropy(log_f):
    """``L_e = -1/n sum_i sum_j f_j(x_i) log f_j(x_i)``, Eq. (7)."""
    # From log-probabilities: if f rounds to 0 this gives 0, while f * log(f) would give NaN.
    return -F.sum(F.exp(log_f) * log_f) / len(log_f)


def joint_loss(y, log_f, alpha, beta, mean=None):
    """``L = L_c + alpha L_p + beta L_e``, Eq. (3); ``mean`` as for :func:`prior_loss`."""
    # One kernel: with a kernel per operation, launching them would take far longer than computing.
    if not mean and backends.op('joint_loss', y, log_f):
        return fused_loss(y, log_f, alpha, beta)
    loss = kl_divergence(y, log_f)
    # L_p may be infinite, and 0 times it NaN.
    if alpha:
        loss += alpha * prior_loss(log_f, mean)
    return loss + beta * entropy(log_f)


def mix_up(v, partner, lam):
    """Returns ``v~ = lam v_i + (1 - lam) v_j``, Eq. (8), of images or labels.

    Args:
        v (array): Shape ``(B, ...)``, float32.
        partner (array): ``j`` for each ``i``, shape ``(B,)``, integers in ``[0, B)``.
        lam (array): Float32 in ``[0, 1]``, shape ``()`` or ``(B,)``.
    """
    if mix_in_one_kernel := backends.op('mix_up', v, lam):
        return mix_in_one_kernel(v, partner, lam)
    # One weight per image, broadcast over its pixels or classes.
    lam = lam.reshape(lam.shape + (1,) * (v.ndim - 1)) if lam.ndim else lam
    return lam * v + (1 - lam) * v[partner]


def mix_up_loss(y, partner, lam, log_f_mixed):
    """``L_mix = -1/n sum_i [lam y_i + (1 - lam) y_j] log f(x~_i)``, Eq. (9).

    Args:
        log_f_mixed (Variable): ``log f`` of the mixed images.
    """
    return cross_entropy(mix_up(y, partner, lam), log_f_mixed)
