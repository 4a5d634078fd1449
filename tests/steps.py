"""Training steps as a user of Chainer writes them."""

import chainer.functions as F
import numpy as np


def train(net, optimizer, batches):
    """Takes a step for each pair of images and classes; returns the losses before the steps."""
    losses = []
    for x, t in batches:
        loss = F.softmax_cross_entropy(net(x), t)
        net.cleargrads()
        loss.backward()
        optimizer.update()
        losses.append(float(loss.array))
    return losses


def ten_batches(rng):
    """Returns ten pairs of images ``(N, 3, 12, 12)`` and classes ``(N,)``; the last is small."""
    drawn = []
    for n in [16] * 9 + [5]:
        x = rng.normal(size=(n, 3, 12, 12)).astype(np.float32)
        drawn.append((x, rng.integers(0, 10, n).astype(np.int32)))
    return drawn
