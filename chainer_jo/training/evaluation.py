"""What a net says of images as they are: outputs, features, accuracy."""

import math

import chainer
import numpy as np

BATCH_SIZE = 500
# Launching a batch costs Python the same time whatever its size, so a GPU gets few large ones.
GPU_BATCH_SIZE = 2500


# Fewer of larger images, for the same memory.
PIXELS = 3 * 32 * 32


def batch_size(xp, shape):
    """Returns how many images of a shape ``(channels, H, W)`` are evaluated at a time."""
    size = BATCH_SIZE if xp is np else GPU_BATCH_SIZE
    return min(size, max(1, size * PIXELS // math.prod(shape)))


def collect(function, images, places=None):
    """Returns ``function`` of images, in test mode and without a graph.

    Args:
        function (callable): Images ``(B, channels, H, W)``, float32, to a Variable ``(B, ...)``.
        images (ResidentImages or StreamedImages): The images.
        places (array): Which of them, ``(n,)`` integers; all by default.
    """
    xp = chainer.backend.get_array_module(images.mean)
    # Both: one makes batch normalisation use its running statistics, the other keeps no graph.
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        batches = images.batches(batch_size(xp, images.mean.shape), places)
        return xp.concatenate([function(x).array for x in batches])


def outputs(method, images):
    """Returns ``f``, ``(n, C)``, of images as they are."""
    return method.xp.exp(collect(method.log_f, images))
