"""The outputs and the accuracy of a method on images as they are."""

import chainer

from chainer_jo.datasets.augment import evaluation_batch

BATCH_SIZE = 500


def outputs(method, images, mean):
    """Yields ``(start, scores)`` over ``images`` (N, channels, H, W), uint8; scores ``(B, C)``."""
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        for start in range(0, len(images), BATCH_SIZE):
            x = evaluation_batch(images, mean, slice(start, start + BATCH_SIZE))
            yield start, method.predict(x)


def accuracy(method, images, labels, mean):
    """Returns the share of images whose highest score is that of their label."""
    hits = 0
    for start, scores in outputs(method, images, mean):
        guess = scores.array.argmax(axis=1)
        hits += (guess == labels[start : start + len(guess)]).sum()
    return float(hits) / len(labels)
