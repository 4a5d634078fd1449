"""A net's outputs and features for images without augmentation."""

import math

import chainer
import numpy as np

from chainer_jo.training.processes import ALONE

BATCH_SIZE = 500
# Python takes the same time to launch a batch of any size, so a GPU gets few large ones.
GPU_BATCH_SIZE = 2500
# Larger images come in smaller batches, for the same memory.
PIXELS = 3 * 32 * 32


def batch_size(xp, shape):
    """Returns the batch size in evaluation for images of a shape ``(channels, H, W)``."""
    size = BATCH_SIZE if xp is np else GPU_BATCH_SIZE
    return min(size, max(1, size * PIXELS // math.prod(shape)))


def collect(function, images, places=None, between=lambda: None):
    """Applies a function to images in batches, in test mode and without a graph.

    Args:
        function (callable): Maps images ``(B, channels, H, W)``, float32, to a Variable
            ``(B, ...)``.
        images (ResidentImages or StreamedImages): The images.
        places (array): Indices of images, ``(n,)`` integers; all by default.
        between (callable): Called before each batch. If it raises, nothing is returned.

    Returns:
        array: The results of all batches, ``(n, ...)``.
    """
    xp = chainer.backend.get_array_module(images.mean)
    # Chainer needs both: one makes batch normalisation use its running statistics, the other keeps
    # no graph.
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        batches = images.batches(batch_size(xp, images.mean.shape), places)
        results = []
        for x in batches:
            between()
            results.append(function(x).array)
        return xp.concatenate(results)


def outputs(method, images, between=lambda: None, ranks=ALONE):
    """Returns the probabilities ``f``, ``(n, C)``, of images without augmentation.

    Each of ``ranks`` reads its share of the images, and all have the result.
    """
    own = ranks.share(len(images))
    places = None if ranks.size == 1 else method.xp.arange(own.start, own.stop)
    return ranks.join(method.xp.exp(collect(method.log_f, images, places, between)))
