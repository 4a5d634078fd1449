"""What a net says of images as they are: outputs, features, accuracy."""

import chainer
import numpy as np

from chainer_jo.datasets.augment import evaluation_batch

BATCH_SIZE = 500
# What Python takes to launch a batch does not grow with it, so a GPU gets few large ones.
GPU_BATCH_SIZE = 2500


def collect(function, images, mean):
    """Returns ``function`` of all images, in test mode and without a graph.

    Args:
        function (callable): Images ``(B, channels, H, W)``, float32, to a Variable ``(B, ...)``.
        images (array): ``(N, channels, H, W)``, uint8.
        mean (array): ``(channels, H, W)``, float32.
    """
    xp = chainer.backend.get_array_module(images)
    size = BATCH_SIZE if xp is np else GPU_BATCH_SIZE
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        starts = range(0, len(images), size)
        batches = (evaluation_batch(images, mean, slice(i, i + size)) for i in starts)
        return xp.concatenate([function(x).array for x in batches])


def accuracy(method, images, labels, mean):
    """Returns the share of images whose highest score is that of their label."""
    guesses = collect(method.predict, images, mean).argmax(axis=1)
    return float((guesses == labels).mean())
