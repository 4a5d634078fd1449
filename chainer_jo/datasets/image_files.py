"""Image files that are decoded when they are needed, for sets that do not fit in memory."""

import numpy as np

from chainer_jo.datasets.decode import decode


class ImageFiles:
    """A :class:`~chainer_jo.datasets.source.LabelledImages` of files.

    Args:
        paths (sequence): One file an image.
        labels (numpy.ndarray): ``(N,)``, int32.
        size (tuple): ``(H, W)`` to which every image is scaled.
        crop (tuple): ``(H, W)`` of what the net sees, at most ``size``; ``size`` by default.
        channels (int): 1 for grey, 3 for colour.
        true_labels (numpy.ndarray or None): ``(N,)``, int32.
    """

    def __init__(self, paths, labels, size, crop=None, channels=3, true_labels=None):
        self.paths, self.labels, self.true_labels = paths, labels, true_labels
        self.size, crop = tuple(size), tuple(crop or size)
        self.shape = (channels, *crop)
        self.margin = (self.size[0] - crop[0], self.size[1] - crop[1])

    def __len__(self):
        return len(self.paths)

    def read(self, index, offset):
        """Decodes the files. Raises :class:`DataError` that names one which cannot be read."""
        channels, H, W = self.shape
        images = np.empty((len(index), *self.shape), np.uint8)
        for i, (place, (top, left)) in enumerate(zip(index, offset, strict=True)):
            # One by one, as threads decode whole batches beside each other.
            image = decode(self.paths[place], channels, self.size)
            images[i] = image[:, top : top + H, left : left + W]
        return images

    def resident(self):
        # The set may not fit in memory; that a small one would is not worth a second way.
        return None
