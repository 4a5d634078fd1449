"""The images of a part: resident on the device, or streamed from files during training."""

import numpy as np
from chainer import backend

from chainer_jo.datasets import augment
from chainer_jo.datasets.source import centre
from chainer_jo.training.evaluation import batch_size
from chainer_jo.training.iterators import ResidentIterator, StreamedIterator
from chainer_jo.training.read_ahead import read_ahead


def of(part, mean, device):
    """Returns a part's :class:`ResidentImages` or, if they do not fit, :class:`StreamedImages`.

    Args:
        part (Part): The images.
        mean (numpy.ndarray): ``(channels, H, W)``, float32.
        device (chainer.Device): The device that trains.
    """
    resident = part.source.resident()
    if resident is None:
        return StreamedImages(part, mean, device)
    # Kept as bytes and centred per batch: float32 images would take four times the memory.
    return ResidentImages(device.send(resident[part.places()]), device.send(mean))


def pixel_mean(part):
    """Returns the mean image of a part, which is subtracted from every image (D-25).

    Returns:
        numpy.ndarray: ``(channels, H, W)``, float32 in ``[0, 1]``.

    Source: "mean subtraction" of Sec. 4.2 of the paper, per pixel as in Tanaka's public code.
    """
    # In float64 the sum is exact: the same bits in batches of any size.
    size = batch_size(np, part.source.shape)
    total = sum(images.sum(axis=0, dtype=np.float64) for images in _read(part, size))
    return (total / len(part) / 255).astype(np.float32)


class ResidentImages:
    """Images in the device's memory, ``(n, channels, H, W)``, uint8, with their mean."""

    lost = {}

    def __init__(self, images, mean):
        self.images, self.mean = images, mean

    def __len__(self):
        return len(self.images)

    def batches(self, size, places=None):
        """Yields batches without augmentation, centred: ``(B, channels, H, W)``, float32.

        Args:
            size (int): The largest ``B``.
            places (array): Indices of images, ``(n,)`` integers on the device; all by default.
        """
        images = self.images if places is None else self.images[places]
        for start in range(0, len(images), size):
            yield augment.evaluation_batch(images, self.mean, slice(start, start + size))

    def iterate(self, *arguments):
        """Returns a :class:`~chainer_jo.training.iterators.TableIterator` of these images."""
        return ResidentIterator(self, *arguments)


class StreamedImages:
    """Images that are read from their source on demand, by one thread per core."""

    def __init__(self, part, mean, device):
        self.part, self.mean, self.device = part, device.send(mean), device

    def __len__(self):
        return len(self.part)

    @property
    def lost(self):
        """As :attr:`LabelledImages.lost <chainer_jo.datasets.source.LabelledImages>`."""
        return self.part.source.lost

    def add_lost(self, lost):
        """Adds the images that other processes have replaced to :attr:`lost`."""
        self.part.source.stand_in.add(lost)

    def read(self, places, offset):
        """Returns images of the part on the host, ``(B, channels, H, W)``, uint8, cropped."""
        return self.part.source.read(self.part.places(places), offset)

    def batches(self, size, places=None):
        """As :meth:`ResidentImages.batches`."""
        # A source reads on the host, but the indices may be on the device.
        places = None if places is None else backend.CpuDevice().send(places)
        for images in _read(self.part, size, places):
            images = self.device.send(images)
            yield augment.evaluation_batch(images, self.mean, slice(None))

    def iterate(self, *arguments):
        """As :meth:`ResidentImages.iterate`."""
        return StreamedIterator(self, *arguments)


def _read(part, size, places=None):
    index = part.places() if places is None else part.places(places)
    groups = (index[start : start + size] for start in range(0, len(index), size))
    source = part.source
    return read_ahead(lambda group: source.read(group, centre(source, len(group))), groups)
