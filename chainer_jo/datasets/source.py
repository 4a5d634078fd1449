"""Labelled images in a fixed order: the interface of every image set."""

from typing import Any, Protocol

import numpy as np


class LabelledImages(Protocol):
    """Images of one size with their labels, in a fixed order.

    Reading is deterministic and thread-safe. A source never mirrors images: that happens on the
    device, after the mean is subtracted.

    Attributes:
        labels: The given labels, perhaps wrong: ``(N,)``, int32 in ``[0, C)``.
        true_labels: The true labels, ``(N,)``, int32; ``None`` if unknown.
        shape: ``(channels, H, W)`` of the net's input.
        margin: The largest offset of a crop in rows and columns, in pixels: ``(0, 0)`` if images
            already have the net's size, ``(32, 32)`` for crops of 224 x 224 from 256 x 256.
        lost: What was wrong with each image that a blank image has replaced so far, by its path;
            those that several processes have replaced are merged after each epoch.
    """

    labels: Any
    true_labels: Any
    shape: tuple
    margin: tuple
    lost: dict

    def __len__(self):
        """Returns ``N``."""

    def read(self, index, offset):
        """Returns some images, cropped: ``(B, channels, H, W)``, uint8.

        Args:
            index (numpy.ndarray): Indices of the images, ``(B,)``, integers in ``[0, N)``.
            offset (numpy.ndarray): Row and column of each crop's corner, ``(B, 2)``, integers in
                ``[0, margin]``.
        """

    def resident(self):
        """Returns all images, ``(N, channels, H, W)``, uint8; ``None`` if they are streamed."""


class ArrayImages:
    """A :class:`LabelledImages` of arrays in memory. It makes the arrays read-only.

    Args:
        images (numpy.ndarray): ``(N, channels, H, W)``, uint8.
        labels (numpy.ndarray): ``(N,)``, int32.
        true_labels (numpy.ndarray or None): ``(N,)``, int32; may be ``labels`` itself.
    """

    margin, lost = (0, 0), {}

    def __init__(self, images, labels, true_labels=None):
        self.images, self.labels, self.true_labels = images, labels, true_labels
        self.shape = images.shape[1:]
        for array in (images, labels, true_labels):
            if array is not None:
                # Trials and threads share the arrays. Noise must go into a copy, never over them.
                array.flags.writeable = False

    def __len__(self):
        return len(self.images)

    def read(self, index, offset):
        # There is no margin, so there is nothing to crop. Padding happens on the device.
        return self.images[index]

    def resident(self):
        return self.images


def centre(source, count):
    """Returns the offsets of ``count`` crops from the middle of the images: ``(count, 2)``."""
    # Evaluation uses no random crop: it takes the centre, which is all of an image without margin.
    return np.tile(np.array(source.margin, np.int32) // 2, (count, 1))
