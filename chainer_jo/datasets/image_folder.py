"""A folder of anybody's images: what is in it, what cannot be read, and which are the same."""

import contextlib
import difflib
import functools
import hashlib
import io
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from chainer_jo import store
from chainer_jo.datasets import label_sheet
from chainer_jo.datasets.dataset import Dataset
from chainer_jo.datasets.decode import (
    MODES,
    decode,
    formats_of_anybody,
    pixels,
    reason,
    turned,
)
from chainer_jo.datasets.examine import GREY, LARGEST_FILE
from chainer_jo.datasets.image_files import ImageFiles, StandIn
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.errors import ConfigError, DataError, excerpt

#: A file of one of these types that cannot be read gets a row with the reason; other files count as
#: images only if they can be read.
ENDINGS = {
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.gif', '.bmp', '.webp', '.tif', '.tiff', '.ppm',
    '.pgm', '.pbm', '.pnm', '.jp2', '.tga', '.ico', '.avif',
}  # fmt: skip
MOST_CLASSES = 1000
#: Limits of the default side of the squares that the net sees, which is that of the images.
SIDES = (8, 64)
#: Bytes of images that are kept in memory; larger sets are read during training.
RESIDENT_BYTES = 1 << 30


@dataclass
class Row:
    """One image of a folder.

    Attributes:
        path (str): Below the folder, with ``/``.
        label (str): As given; ``''`` where none is.
        reason (str): Why it cannot be used; ``''`` where it can.
        size (tuple): Height and width, ``None`` where it cannot be read.
        grey (bool): Whether it has one channel.
        digest (bytes): SHA-256 of the pixels as they are seen, 16 bytes.
        final (str): The label that a human gave; ``''`` where there is none.
    """

    path: str
    label: str
    reason: str = ''
    size: tuple | None = None
    grey: bool = False
    digest: bytes = b''
    final: str = ''

    @property
    def believed(self):
        """The label to train on."""
        return self.final or self.label


@dataclass
class Folder:
    """What :func:`find` saw.

    Attributes:
        path (str): The folder.
        rows (list of Row): Every image, sorted by path.
        others (int): Files that are no images.
    """

    path: str
    rows: list = field(default_factory=list)
    others: int = 0

    @property
    def usable(self):
        """Places of the rows that can be used, ``(N,)``, integers."""
        return np.array([i for i, row in enumerate(self.rows) if not row.reason], np.int64)

    @property
    def known(self):
        """Which of the usable rows a human has answered, ``(N,)``, bool."""
        return np.array([bool(self.rows[i].final) for i in self.usable])


def find(folder, labels=None):
    """Returns the :class:`Folder`: one sub-folder a class, or a CSV file that gives the labels.

    Nothing is decoded. Files whose names begin with a dot do not count.

    Args:
        folder (str or os.PathLike): One sub-folder a class, with images at any depth below it.
        labels (str or os.PathLike): A CSV file of paths below ``folder`` and labels; then
            sub-folders mean nothing.

    Raises:
        ConfigError: The folder is missing, or holds no images.
        DataError, WriteError: See :func:`chainer_jo.datasets.label_sheet.labels`; or no path of the
            file is in the folder.
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        seen = 'a file' if os.path.exists(folder) else 'nothing of that name'
        raise ConfigError(
            f'{excerpt(folder, 200)} is no folder', seen=seen, fix='name the folder of the images'
        )
    given = None if labels is None else label_sheet.labels(labels)
    found = Folder(folder)
    for path in _files(folder):
        if given is None:
            first, slash, _ = path.partition('/')
            row = Row(path, first) if slash else Row(path, '', NO_FOLDER)
        else:
            label = given.pop(path, '')
            row = Row(path, label, '' if label else NO_LABEL)
        if (
            Path(path).suffix.lower() in ENDINGS
            or (given is not None and row.label)
            or _opens(os.path.join(folder, path))
        ):
            found.rows.append(row)
        else:
            found.others += 1
    if given and not any(row.label for row in found.rows):
        raise DataError(
            f'no image of {excerpt(labels, 200)} is in {excerpt(folder, 200)}',
            seen=f'{excerpt(next(iter(given)))} in the file',
            fix='write paths as they are below the folder, such as cats/1.jpg',
        )
    found.rows += [Row(path, label, _absent(path)) for path, label in (given or {}).items()]
    found.rows.sort(key=lambda row: row.path)
    if not found.rows:
        raise ConfigError(
            f'there are no images in {excerpt(folder, 200)}',
            seen=f'{found.others:,} other files' if found.others else 'an empty folder',
            fix='put the images of each class into a folder of its own, or name another folder',
        )
    return found


NO_FOLDER, NO_LABEL = UNLABELLED = ('in no folder of a class', 'no label is given')


def answer(found, finals):
    """Gives the rows of a :class:`Folder` the labels that a human has written for them.

    An answer for an image that is not there has a row too, so that it is not lost.

    Args:
        found (Folder): Changed in place.
        finals (dict): Path to label.

    Raises:
        DataError: A label is no class.
    """
    classes = {row.label for row in found.rows if row.label}
    for path, label in finals.items():
        if label not in classes:
            near = difflib.get_close_matches(label, classes, 1) or sorted(classes)[:3]
            raise DataError(
                f'the final_label of {excerpt(path)} is no class',
                seen=excerpt(label),
                fix=f'write {" or ".join(map(excerpt, near))}, or leave the cell empty',
            )
    rows = {row.path: row for row in found.rows}
    for path, label in finals.items():
        row = rows.get(path)
        if row is None:
            row = Row(path, '', 'missing')
            found.rows.append(row)
        row.final = label
        if row.reason in UNLABELLED:
            row.reason = ''
    found.rows.sort(key=lambda row: row.path)


def _absent(path):
    outside = os.path.isabs(path) or '..' in path.split('/')
    return 'leads out of the folder' if outside else 'missing'


def _files(folder):
    """Yields the paths of all files below a folder; links to folders are followed, once each."""
    waiting, seen = [''], set()
    while waiting:
        inner = waiting.pop()
        with contextlib.suppress(OSError):
            here = os.path.join(folder, inner)
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
                if entry.name.startswith('.'):
                    continue
                path = f'{inner}/{entry.name}' if inner else entry.name
                if entry.is_dir():
                    waiting.append(path)
                else:
                    yield path


def _opens(path):
    try:
        with Image.open(path, formats=formats_of_anybody()):
            return True
    except Exception:
        return False


def examine(found, imap, size=None, on_file=None):
    """Reads every usable image of a :class:`Folder` once, and returns it as a data set.

    The rows learn what is wrong with them.

    Args:
        found (Folder): As :func:`find` returned it.
        imap (callable): ``imap(function, arguments)`` yields results in order, worked out by
            threads.
        size (int): Side of the squares that the net sees; by default :func:`side`.
        on_file (callable): Called with the number of images done and how many there are.

    Returns:
        Dataset: Of the usable rows, in their order; its classes are sorted by name.

    Raises:
        ConfigError: One class or too many, or fewer than four usable images.
    """
    for i, facts in zip(found.usable, imap(_header, _paths(found)), strict=True):
        found.rows[i].reason, found.rows[i].size, found.rows[i].grey = facts
    _classes(found)
    size = size or side([found.rows[i].size for i in found.usable])
    channels = 1 if all(found.rows[i].grey for i in found.usable) else 3
    count = len(found.usable)
    resident = count * channels * size * size <= RESIDENT_BYTES
    look = functools.partial(_look, channels=channels, size=size, keep=resident)
    images, colours = [], np.zeros(channels)
    for done, (i, seen) in enumerate(zip(found.usable, imap(look, _paths(found)), strict=True), 1):
        found.rows[i].reason, found.rows[i].digest, image, colour = seen
        if not found.rows[i].reason:
            images.append(image)
            colours += colour
        if on_file:
            on_file(done, count)
    classes = _classes(found)
    usable = [found.rows[i] for i in found.usable]
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[row.believed] for row in usable], np.int32)
    if resident:
        source = ArrayImages(np.stack(images), labels)
    else:
        stand_in = StandIn((colours / len(usable)).astype(np.uint8), len(usable) // 100, _nobody)
        source = ImageFiles(
            _paths(found),
            labels,
            (size, size),
            channels=channels,
            stand_in=stand_in,
            decode=functools.partial(decode, upright=True, formats=formats_of_anybody()),
        )
    # A digest of contents, not of paths: a folder that was moved is the same data.
    seen = np.frombuffer(b''.join(row.digest for row in usable), np.uint8)
    digest = store.digest(seen, labels, [size, channels, *classes])
    known = found.known if found.known.any() else None
    return Dataset('images', f'variant {digest[:8]}', digest, classes, source, known=known)


def _nobody(*_):
    """Hears of images that vanish while the net trains: they are blanks then."""


def _paths(found):
    return [os.path.join(found.path, found.rows[i].path) for i in found.usable]


def side(sizes):
    """Returns the side of the squares for images of some sizes: the median, from 8 to 64.

    Args:
        sizes (sequence of tuple): Height and width of each image.
    """
    least, largest = SIDES
    return int(min(largest, max(least, np.median([max(size) for size in sizes]))))


def _classes(found):
    """Returns the names of the classes of the usable rows; raises ConfigError unless they do."""
    usable = [found.rows[i] for i in found.usable]
    classes = tuple(sorted({row.believed for row in usable}))
    what = None
    if len(usable) < 4:
        bad = next((row for row in found.rows if row.reason), None)
        why = f'; {excerpt(bad.path)}: {excerpt(bad.reason)}' if bad else ''
        what = f'{len(usable)} images that can be read{why}', 'name a folder with more images'
    elif len(classes) < 2:
        what = (
            f'one class, {excerpt(classes[0], 30)}',
            'put the images of each class into a folder of its own, or name a CSV with --labels',
        )
    elif len(classes) > MOST_CLASSES:
        what = f'{len(classes):,} classes', f'name a folder of at most {MOST_CLASSES:,} classes'
    if what:
        raise ConfigError(
            f'no labels can be corrected in {excerpt(found.path, 200)}', seen=what[0], fix=what[1]
        )
    return classes


def _header(path):
    """Returns why a file is unusable or ``''``, its height and width, and whether it is grey."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return 'not a file', None, False
        if status.st_size == 0:
            return 'empty', None, False
        if status.st_size > LARGEST_FILE:
            return 'too large', None, False
        with Image.open(path, formats=formats_of_anybody()) as image:
            return '', (image.height, image.width), image.mode in GREY
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return 'too large', None, False
    except FileNotFoundError:
        return 'missing', None, False
    except PermissionError:
        return 'cannot be opened', None, False
    except MemoryError:
        raise
    # Damaged files make Pillow raise nearly anything.
    except Exception:
        return 'no image of a known format', None, False


def _look(path, channels, size, keep):
    """Returns why a file is unusable or ``''``, the digest of its pixels, the image and colour."""
    try:
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content), formats=formats_of_anybody()) as image:
            whole = turned(pixels(image, MODES[channels]), image)
    except MemoryError:
        raise
    except Exception as error:
        return f'damaged: {excerpt(reason(error))}', b'', None, 0
    digest = hashlib.sha256(repr(whole.size).encode() + whole.tobytes()).digest()[:16]
    scaled = whole.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(scaled).reshape(size, size, channels).transpose(2, 0, 1)
    return '', digest, np.ascontiguousarray(array) if keep else None, array.mean(axis=(1, 2))


def same(digests):
    """Returns the group of each image that is the same as another: ``(N,)``, int64, 0 for none.

    Args:
        digests (sequence of bytes): Of each image.
    """
    _, inverse, counts = np.unique(np.array(digests), return_inverse=True, return_counts=True)
    repeated = counts > 1
    return np.where(repeated, np.cumsum(repeated), 0)[inverse]
