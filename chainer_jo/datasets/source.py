"""Labelled images in a fixed order: what every image set is to the rest of the package."""

from typing import Any, Protocol

import numpy as np


class LabelledImages(Protocol):
    """Images of one size with their labels, in a fixed order.

    Reading is deterministic and safe from several threads. Images are mirrored on the device, after
    the mean was subtracted, so a source never mirrors them.

    Attributes:
        labels: As given, perhaps wrong: ``(N,)``, int32 in ``[0, C)``.
        true_labels: ``(N,)``, int32, where they are known; else ``None``.
        shape: ``(channels, H, W)`` of what the net sees.
        margin: How far a crop can move down and to the right, in pixels: ``(0, 0)`` where images
            already have the net's size, ``(32, 32)`` for crops of 224 x 224 from 256 x 256.
    """

    labels: Any
    true_labels: Any
    shape: tuple
    margin: tuple

    def __len__(self):
        """Returns ``N``."""

    def read(self, index, offset):
        """Returns some images, cropped: ``(B, channels, H, W)``, uint8.

        Args:
            index (numpy.ndarray): Their places, ``(B,)``, integers in ``[0, N)``.
            offset (numpy.ndarray): Row and column of each crop's corner, ``(B, 2)``, integers in
                ``[0, margin]``.
        """

    def resident(self):
        """Returns all images, ``(N, channels, H, W)``, uint8; ``None`` where they do not fit."""


class ArrayImages:
    """A :class:`LabelledImages` of arrays in memory, which become read-only.

    Args:
        images (numpy.ndarray): ``(N, channels, H, W)``, uint8.
        labels (numpy.ndarray): ``(N,)``, int32.
        true_labels (numpy.ndarray or None): ``(N,)``, int32; may be ``labels`` itself.
    """

    margin = (0, 0)

    def __init__(self, images, labels, true_labels=None):
        self.images, self.labels, self.true_labels = images, labels, true_labels
        self.shape = images.shape[1:]
        for array in (images, labels, true_labels):
            if array is not None:
                # Shared by trials, threads and tests: noise is drawn into a copy, never over the
                # data.
                array.flags.writeable = False

    def __len__(self):
        return len(self.images)

    def read(self, index, offset):
        # Without a margin there is nothing to crop; images are padded on the device.
        return self.images[index]

    def resident(self):
        return self.images


def centre(source, count):
    """Returns the offsets of ``count`` crops from the middle of the images: ``(count, 2)``."""
    # Evaluation draws nothing: it sees the middle of a larger image, and a small one whole.
    return np.tile(np.array(source.margin, np.int32) // 2, (count, 1))
