"""A conditional random field over a clean and a noisy label, computed exactly.

A state is a pair ``(y_hat, y)`` of classes with ``p(y_hat, y | x) = exp(s) / Z(x)`` and
``s = a_y_hat(x) + pair[y_hat, y]``, where ``a`` ``(B, C)`` are the net's logits. There are only
``C * C`` states, so every sum below is exact, over all of them. Source: Vahdat, NIPS 2017, reduced
to one-hot labels.
"""

import chainer.functions as F
from chainer import backend

from chainer_jo.functions.product import product


def clean_scores(a, pair):
    """Returns the logits ``(B, C)`` of ``p(y_hat | x)``; their logsumexp is ``log Z(x)``."""
    # The noisy class is summed out: at test time no label is observed.
    return a + F.logsumexp(pair, axis=1)


def clamped_scores(a, pair, y):
    """Returns ``s(y_hat, y)`` for all ``y_hat``, ``(B, C)``, given one-hot ``y`` ``(B, C)``."""
    return a + product(y, pair, transposed=True)


def e_step(s, log_auxiliary, alpha):
    """Returns the ``q`` between the posterior and an auxiliary distribution.

    ``q = argmin KL(q || p(y_hat | y, x)) + alpha KL(q || p_aux(y_hat | y))``, in closed form
    ``q ~ [p * p_aux^alpha]^(1 / (1 + alpha))``.

    Args:
        s (array): :func:`clamped_scores`, ``(B, C)``.
        log_auxiliary (array): ``log p_aux(y_hat | y)`` of each image, ``(B, C)``.
        alpha (array): At least 0, ``()``.

    Returns:
        array: ``(B, C)``, rows sum to 1.
    """
    return F.softmax((s + alpha * log_auxiliary) / (1 + alpha)).array


def gibbs_sweep(a, pair, y, u):
    """Moves Gibbs chains one step: draws ``y_hat`` given ``y``, then ``y`` given ``y_hat``.

    Args:
        a (array): ``(B, C)``.
        pair (array): ``(C, C)``.
        y (array): The chains' noisy classes, ``(B,)``, integers.
        u (array): Uniform random numbers in ``[0, 1)``, ``(B, 2)``.

    Returns:
        tuple of array: ``y_hat`` and ``y``, ``(B,)``, integers.
    """
    y_hat = _draw(a + pair.T[y], u[:, 0])
    return y_hat, _draw(pair[y_hat], u[:, 1])


def _draw(logits, u):
    xp = backend.get_array_module(logits)
    p = xp.exp(logits - logits.max(axis=1, keepdims=True))
    # By inverting the cumulative sum: u comes from the host, and nothing is drawn on a device.
    below = p.cumsum(axis=1)
    return (below <= u[:, None] * below[:, -1:]).sum(axis=1).clip(0, logits.shape[1] - 1)
