"""Image files that are decoded on demand, for sets that do not fit in memory."""

import os
import threading

import numpy as np

from chainer_jo.datasets.decode import decode
from chainer_jo.errors import DataError


class PackedPaths:
    """A sequence of paths below one folder, stored as joined bytes to save memory.

    Args:
        folder (str or os.PathLike): The folder of all files.
        text (numpy.ndarray): The bytes of all relative paths, joined, uint8.
        ends (numpy.ndarray): End of each path in ``text``, ``(N,)``, integers.
        index (numpy.ndarray): Selects and orders the paths of the sequence; all by default.
    """

    def __init__(self, folder, text, ends, index=None):
        self.folder, self.text, self.ends = os.fspath(folder), text, ends
        self.index = np.arange(len(ends), dtype=np.uint32) if index is None else index

    def __len__(self):
        return len(self.index)

    def __getitem__(self, place):
        return os.path.join(self.folder, self.relative(place))

    def relative(self, place):
        """Returns the path of a file below the folder, with ``/``."""
        i = int(self.index[place])
        start = int(self.ends[i - 1]) if i else 0
        return os.fsdecode(self.text[start : int(self.ends[i])].tobytes())


class ImageFiles:
    """A :class:`~chainer_jo.datasets.source.LabelledImages` of files.

    Args:
        paths (sequence): The file of each image.
        labels (numpy.ndarray): ``(N,)``, int32.
        size (tuple): ``(H, W)`` to which every image is scaled.
        crop (tuple): ``(H, W)`` of the net's input, at most ``size``; ``size`` by default.
        channels (int): 1 for grey, 3 for colour.
        true_labels (numpy.ndarray or None): ``(N,)``, int32.
        stand_in (StandIn or None): Replaces files that cannot be read; without it the first of
            them raises.
        decode (callable): A function like :func:`~chainer_jo.datasets.decode.decode`.
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

    @property
    def lost(self):
        return {} if self.stand_in is None else self.stand_in.lost

    def read(self, index, offset):
        """Decodes the files. Raises :class:`DataError` for a file that cannot be read."""
        images = np.empty((len(index), *self.shape), np.uint8)
        for i, (place, corner) in enumerate(zip(index, offset, strict=True)):
            # One image at a time: the threads already read several batches at once.
            images[i] = self._read(self.paths[place], corner)
        return images

    def _read(self, path, corner):
        try:
            return self._decode(path, self.shape[0], self.size, self.shape[1:], corner)
        except DataError as error:
            if self.stand_in is None:
                # Not the remedy of `decode`: without the file it would be another data set.
                fix = 'restore the file and run the same command again: it resumes'
                raise DataError(error.problem, seen=error.seen, fix=fix) from error
            return self.stand_in(path, error)

    def resident(self):
        # The set may not fit in memory. For small ones a second way to read is not worth its code.
        return None


class StandIn:
    """Replaces images that have become unreadable by a blank image in the mean colour.

    One bad file should not end hours of training, and a blank image tells the net nothing. Many bad
    files mean that the disk has failed, and end the run.

    Args:
        colour (numpy.ndarray): Mean colour, ``(channels,)``, uint8.
        limit (int): Largest number of files to replace.
        warn (callable): Called with a line of text, once per file.
    """

    def __init__(self, colour, limit, warn):
        self._colour, self._limit, self._warn = colour[:, None, None], limit, warn
        self._lost, self._lock = {}, threading.Lock()

    def __call__(self, path, error):
        """Returns an array that broadcasts to a blank image; raises DataError past the limit."""
        self.add({path: f'{error.problem}: {error.seen}'})
        return self._colour

    @property
    def lost(self):
        """What was wrong with each file that could not be read so far, by its path; a new dict."""
        with self._lock:
            return dict(self._lost)

    def add(self, lost):
        """Adds files to :attr:`lost`, and warns of new ones; raises DataError past the limit."""
        with self._lock:
            new = {path: problem for path, problem in lost.items() if path not in self._lost}
            self._lost |= new
            if len(self._lost) > self._limit:
                path, problem = list(self._lost.items())[-1]
                raise DataError(
                    f'{len(self._lost)} images have become unreadable; the last is {path}',
                    seen=problem,
                    fix='repair the disk and run the same command again: it resumes from the last '
                    'snapshot',
                )
        for problem in new.values():
            self._warn(f'{problem}; a blank image replaces it')
