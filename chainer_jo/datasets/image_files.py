"""Image files that are decoded when they are needed, for sets that do not fit in memory."""

import os
import threading

import numpy as np

from chainer_jo.datasets.decode import decode
from chainer_jo.errors import DataError


class PackedPaths:
    """A sequence of paths below one folder in little memory: their bytes, one after the other.

    Args:
        folder (str or os.PathLike): Where all of them lie.
        text (numpy.ndarray): The relative paths as the file system has them, joined, uint8.
        ends (numpy.ndarray): Where each ends in ``text``, ``(N,)``, integers.
        index (numpy.ndarray): Which of them are in the sequence, in its order; all by default.
    """

    def __init__(self, folder, text, ends, index=None):
        self.folder, self.text, self.ends = os.fspath(folder), text, ends
        self.index = np.arange(len(ends), dtype=np.uint32) if index is None else index

    def __len__(self):
        return len(self.index)

    def __getitem__(self, place):
        return os.path.join(self.folder, self.relative(place))

    def relative(self, place):
        """Returns a path below the folder, with ``/``."""
        i = int(self.index[place])
        start = int(self.ends[i - 1]) if i else 0
        return os.fsdecode(self.text[start : int(self.ends[i])].tobytes())


class ImageFiles:
    """A :class:`~chainer_jo.datasets.source.LabelledImages` of files.

    Args:
        paths (sequence): One file an image.
        labels (numpy.ndarray): ``(N,)``, int32.
        size (tuple): ``(H, W)`` to which every image is scaled.
        crop (tuple): ``(H, W)`` of what the net sees, at most ``size``; ``size`` by default.
        channels (int): 1 for grey, 3 for colour.
        true_labels (numpy.ndarray or None): ``(N,)``, int32.
        stand_in (StandIn or None): What takes the place of files that cannot be read; without it
            the first of them raises.
        decode (callable): As :func:`~chainer_jo.datasets.decode.decode`.
    """

    def __init__(
        self,
        paths,
        labels,
        size,
        crop=None,
        channels=3,
        true_labels=None,
        stand_in=None,
        decode=decode,
    ):
        self.paths, self.labels, self.true_labels = paths, labels, true_labels
        self.size, crop = tuple(size), tuple(crop or size)
        self.shape = (channels, *crop)
        self.margin = (self.size[0] - crop[0], self.size[1] - crop[1])
        self.stand_in, self._decode = stand_in, decode

    def __len__(self):
        return len(self.paths)

    def read(self, index, offset):
        """Decodes the files. Raises :class:`DataError` that names one which cannot be read."""
        images = np.empty((len(index), *self.shape), np.uint8)
        for i, (place, corner) in enumerate(zip(index, offset, strict=True)):
            # One image at a time: the threads each decode whole batches already.
            images[i] = self._read(self.paths[place], corner)
        return images

    def _read(self, path, corner):
        try:
            return self._decode(path, self.shape[0], self.size, self.shape[1:], corner)
        except DataError as error:
            if self.stand_in is None:
                raise
            return self.stand_in(path, error)

    def resident(self):
        # The set may not fit in memory; a second way for small sets is not worth having.
        return None


class StandIn:
    """Takes the place of images that could be read once, and cannot any more.

    One bad file is not worth the hours of training before it: a blank in the mean colour stands in,
    which tells the net nothing. Many are a disk that is gone, and end the run.

    Args:
        colour (numpy.ndarray): ``(channels,)``, uint8.
        limit (int): So many files at most.
        warn (callable): Told, in a line of text, of each file once.

    Attributes:
        paths (set): The files that could not be read so far.
    """

    def __init__(self, colour, limit, warn):
        self._colour, self._limit, self._warn = colour[:, None, None], limit, warn
        self.paths, self._lock = set(), threading.Lock()

    def __call__(self, path, error):
        """Returns the blank, which broadcasts to an image; raises ``error`` past the limit."""
        with self._lock:
            new = path not in self.paths
            self.paths.add(path)
            if len(self.paths) > self._limit:
                raise DataError(
                    f'{len(self.paths)} images cannot be read any more; the last is {path}',
                    seen=error.seen,
                    fix='mend the disk, then run the same command again: it goes on from the last '
                    'snapshot',
                ) from error
        if new:
            self._warn(f'{error.problem}: {error.seen}; a blank takes its place')
        return self._colour
