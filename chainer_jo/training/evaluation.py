"""What a net says of images as they are: outputs, features, accuracy."""

import chainer
import numpy as np

BATCH_SIZE = 500
# What Python takes to launch a batch does not grow with it, so a GPU gets few large ones.
GPU_BATCH_SIZE = 2500


def batch_size(xp):
    """Returns how many images are evaluated at a time."""
    return BATCH_SIZE if xp is np else GPU_BATCH_SIZE


def collect(function, images, places=None):
    """Returns ``function`` of images, in test mode and without a graph.

    Args:
        function (callable): Images ``(B, channels, H, W)``, float32, to a Variable ``(B, ...)``.
        images (ResidentImages or StreamedImages): The images.
        places (array): Which of them, ``(n,)`` integers; all by default.
    """
    xp = chainer.backend.get_array_module(images.mean)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        batches = images.batches(batch_size(xp), places)
        return xp.concatenate([function(x).array for x in batches])


def outputs(method, images):
    """Returns ``f``, ``(n, C)``, of images as they are."""
    return method.xp.exp(collect(method.log_f, images))
