"""A folder of the user's own images: finds them, reports unreadable ones and duplicates."""

import contextlib
import difflib
import functools
import hashlib
import io
import os
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from chainer_jo import store
from chainer_jo.datasets import label_sheet
from chainer_jo.datasets.dataset import Dataset
from chainer_jo.datasets.decode import (
    FLOATS,
    MODES,
    decode,
    dropped,
    formats,
    pixels,
    reason,
    turned,
)
from chainer_jo.datasets.examine import GREY, LARGEST_FILE
from chainer_jo.datasets.image_files import ImageFiles, StandIn
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.errors import ConfigError, DataError, excerpt

#: An unreadable file with one of these endings gets a row with the reason. A file with another
#: ending counts as an image only if it can be read.
ENDINGS = {
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.gif', '.bmp', '.webp', '.tif', '.tiff', '.ppm',
    '.pgm', '.pbm', '.pnm', '.jp2', '.tga', '.ico', '.avif', '.heic', '.heif', '.jxl',
}  # fmt: skip
MOST_CLASSES = 1000
#: Limits of the default side of the net's square input; see :func:`side`.
SIDES = (8, 64)
#: Largest set in bytes that is kept in memory; larger ones are streamed from disk.
RESIDENT_BYTES = 1 << 30
MISSING = 'missing'
#: Reasons of images that only lack a label.
NO_FOLDER, NO_LABEL = UNLABELLED = ('not in a class folder', 'no label given')


@dataclass
class Row:
    """One image of a folder.

    Attributes:
        path (str): Path below the folder, with ``/``.
        label (str): The given label; ``''`` if there is none.
        reason (str): Why the image cannot be used; ``''`` if it can.
        size (tuple): Height and width; ``None`` if it cannot be read.
        grey (bool): Whether it has one channel.
        digest (bytes): First 16 bytes of the SHA-256 of the decoded, upright pixels, and of low
            bits and transparency that the net does not see.
        final (str): The label that a person wrote after review; ``''`` if there is none.
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
        """The label to train on: the reviewed one if there is one, else the given one."""
        return self.final or self.label


@dataclass
class Folder:
    """The images that :func:`find` found.

    Attributes:
        path (str): The folder.
        rows (list of Row): Every image, sorted by path.
        others (int): Number of files that are not images.
        levels (tuple of int): Smallest and largest value of a pixel in all images that
            :func:`examine` read, from 0 to 255.
    """

    path: str
    rows: list = field(default_factory=list)
    others: int = 0
    levels: tuple = (255, 0)

    @property
    def usable(self):
        """Indices of the rows that can be used, ``(N,)``, integers."""
        return np.array([i for i, row in enumerate(self.rows) if not row.reason], np.int64)

    @property
    def known(self):
        """Which of the usable rows have a reviewed label, ``(N,)``, bool."""
        return np.array([bool(self.rows[i].final) for i in self.usable])


def find(folder, labels=None):
    """Finds the images of a folder and their labels, and returns a :class:`Folder`.

    Labels come from a CSV file, or from one sub-folder per class. No image is decoded. Files and
    folders whose names begin with a dot are ignored.

    Args:
        folder (str or os.PathLike): The folder. Without ``labels`` it has one sub-folder per class,
            with images at any depth.
        labels (str or os.PathLike): A CSV file with paths below ``folder`` and labels. Sub-folders
            then have no meaning.

    Raises:
        ConfigError: The folder is missing, or has no images.
        DataError, WriteError: See :func:`chainer_jo.datasets.label_sheet.labels`; DataError also if
            no path in the file is in the folder.
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        seen = 'a file' if os.path.exists(folder) else 'nothing of that name'
        raise ConfigError(
            f'{excerpt(folder, 200)} is not a folder',
            seen=seen,
            fix='name the folder with the images',
        )
    given = None if labels is None else label_sheet.labels(labels)
    composed = {_composed(path): path for path in given or ()}
    found = Folder(folder)
    for path in _files(folder):
        if given is None:
            first, slash, _ = path.partition('/')
            row = Row(path, first) if slash else Row(path, '', NO_FOLDER)
        else:
            listed = path if path in given else composed.get(_composed(path), path)
            label = given.pop(listed, '')
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
            fix='write paths as they are below the folder, such as '
            + (excerpt(found.rows[0].path) if found.rows else 'cats/1.jpg'),
        )
    for path, label in (given or {}).items():
        _check_utf8(f'the table {excerpt(labels, 200)}', path)
        found.rows.append(Row(path, label, _absent(path)))
    found.rows.sort(key=lambda row: row.path)
    if not found.rows:
        raise ConfigError(
            f'there are no images in {excerpt(folder, 200)}',
            seen=f'{found.others:,} other files' if found.others else 'an empty folder',
            fix='put the images of each class into a separate folder, or name another folder',
        )
    return found


def answer(found, finals):
    """Sets the labels that a person wrote after review on the rows of a :class:`Folder`.

    Labels set earlier are removed. A label for a missing image gets a row too, so that it is not
    lost. Images that only lacked a label are used from the next :func:`examine` on.

    Args:
        found (Folder): Changed in place.
        finals (dict): Path to label.

    Raises:
        DataError: A label is not one of the classes, or the table is no longer UTF-8.
    """
    rows = {row.path: row for row in found.rows if row.label or row.reason != MISSING}
    classes = {row.label for row in found.rows if row.label}
    # Spreadsheets and people drop spaces at the ends of a name.
    stripped = {label.strip(): label for label in sorted(classes)}
    finals = {
        path: label if label in classes else stripped.get(label.strip(), label)
        for path, label in finals.items()
    }
    for path, label in finals.items():
        if path not in rows:
            _check_utf8('the table of reviewed labels', path)
        if label not in classes:
            _check_utf8('the table of reviewed labels', label)
            alike = {name.casefold(): name for name in sorted(classes)}
            near = difflib.get_close_matches(label.casefold(), alike, 1) or list(alike)[:3]
            near = ' or '.join(excerpt(alike[name]) for name in near)
            raise DataError(
                f'the final_label of {excerpt(path)} is not a class',
                seen=excerpt(label),
                fix=f'write a class, such as {near}, or leave the cell empty',
            )
    for row in rows.values():
        row.final = ''
    for path, label in finals.items():
        rows.setdefault(path, Row(path, '', MISSING)).final = label
    found.rows = sorted(rows.values(), key=lambda row: row.path)


def _check_utf8(table, name):
    """Raises DataError if a name in a table that fits nothing is not UTF-8.

    Names that fit are not asked, because names of files need not be UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f'{table} is not UTF-8',
            seen=f'{excerpt(name)}, which is neither an image nor a class',
            fix='save it as "CSV UTF-8", or remove the row',
        ) from error


def reviewed(found, classes, labels):
    """Returns the labels of the usable rows as reviewed by now, and which of them are known.

    Args:
        found (Folder): The images, after :func:`answer`.
        classes (sequence of str): Names of the classes.
        labels (numpy.ndarray): Labels that were trained on, ``(N,)``, int32; kept where a row has
            no label of a class any more.

    Returns:
        tuple: Labels, ``(N,)``, int32, and which are known, ``(N,)``, bool.
    """
    number = {name: i for i, name in enumerate(classes)}
    now = [number.get(found.rows[i].believed, -1) for i in found.usable]
    now = np.array(now, np.int32)
    return np.where(now < 0, labels, now), found.known & (now >= 0)


def _composed(path):
    """Returns a path with each letter and its accent as one character, if there is such a one.

    Some systems write them as two, so that a table and the files that it lists may differ.
    """
    return unicodedata.normalize('NFC', path)


def _absent(path):
    outside = os.path.isabs(path) or '..' in path.split('/')
    return 'leads out of the folder' if outside else MISSING


def _files(folder):
    """Yields the paths of all files below a folder; links to folders are followed, once each."""
    # Folders seen, by device and inode: a link to a parent would otherwise never end. Links come
    # last, so that images that are there twice have the class of the folder in which they lie.
    waiting, links, seen = [''], [], set()
    while waiting or links:
        inner = (waiting or links).pop()
        here = os.path.join(folder, inner)
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                f'cannot list the folder {excerpt(here, 200)}',
                seen=error.strerror,
                fix='make it readable, or move it away to do without its images',
            ) from error
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            path = f'{inner}/{entry.name}' if inner else entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else waiting).append(path)
            else:
                yield path


def _is_folder(entry):
    # A link to itself raises an error; it gets a row, with the reason.
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _opens(path):
    try:
        # A pipe would be waited for.
        if not os.path.isfile(path):
            return False
        with Image.open(path, formats=formats()):
            return True
    except Exception:
        return False


def examine(found, imap, size=None, on_file=None):
    """Reads every usable image of a :class:`Folder`, and returns a data set.

    The rows are updated: unusable images get a ``reason``.

    Args:
        found (Folder): As :func:`find` returned it.
        imap (callable): ``imap(function, arguments)`` computes the results in threads and yields
            them in order.
        size (int): Side of the net's square input; :func:`side` by default.
        on_file (callable): Called with the number of images read and the number of images.

    Returns:
        Dataset: The usable rows, in their order, with the classes sorted by name.

    Raises:
        ConfigError: There are fewer than four usable images, fewer than two classes, or too many.
    """
    for row in found.rows:
        # Not in `answer`: what a person writes during training must not change what was trained.
        if row.final and row.reason in UNLABELLED:
            row.reason = ''
    # Headers first: size and channels depend on all images, and are needed to decode the first.
    for i, facts in zip(found.usable, imap(_header, _paths(found)), strict=True):
        found.rows[i].reason, found.rows[i].size, found.rows[i].grey = facts
    _classes(found)
    size = size or side([found.rows[i].size for i in found.usable])
    channels = 1 if all(found.rows[i].grey for i in found.usable) else 3
    count = len(found.usable)
    resident = count * channels * size * size <= RESIDENT_BYTES
    look = functools.partial(_look, channels=channels, size=size, keep=resident)
    images, colours = [], np.zeros(channels)
    # found.usable is computed once here, although rows become unusable in the loop.
    for done, (i, seen) in enumerate(zip(found.usable, imap(look, _paths(found)), strict=True), 1):
        found.rows[i].reason, found.rows[i].digest, image, colour, levels = seen
        if not found.rows[i].reason:
            images.append(image)
            colours += colour
            found.levels = min(found.levels[0], levels[0]), max(found.levels[1], levels[1])
        if on_file:
            on_file(done, count)
    classes = _classes(found)
    usable = [found.rows[i] for i in found.usable]
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[row.believed] for row in usable], np.int32)
    if resident:
        source = ArrayImages(np.stack(images), labels)
    else:
        # At most 1 % may become unreadable: one bad file should not end the training.
        stand_in = StandIn((colours / len(usable)).astype(np.uint8), len(usable) // 100, _nobody)
        source = ImageFiles(
            _paths(found),
            labels,
            (size, size),
            channels=channels,
            stand_in=stand_in,
            decode=functools.partial(decode, upright=True),
        )
    # The digest is of pixels, not of paths: a folder that was moved or renamed is the same data.
    seen = np.frombuffer(b''.join(row.digest for row in usable), np.uint8)
    digest = store.digest(seen, labels, [size, channels, *classes])
    # None, not all False: a data set with known labels needs a method that can keep them.
    known = found.known if found.known.any() else None
    return Dataset('images', f'variant {digest[:8]}', digest, classes, source, known=known)


def _nobody(*_):
    """Ignores the warnings about images that become unreadable during training."""


def _paths(found):
    return [os.path.join(found.path, found.rows[i].path) for i in found.usable]


def side(sizes):
    """Returns the side of the net's square input: the median longer side, limited to 8 to 64.

    Args:
        sizes (sequence of tuple): Height and width of each image.
    """
    least, largest = SIDES
    return int(min(largest, max(least, np.median([max(size) for size in sizes]))))


def _classes(found):
    """Returns the class names of the usable rows; raises ConfigError if they cannot be trained."""
    usable = [found.rows[i] for i in found.usable]
    classes = tuple(sorted({row.believed for row in usable}))
    what = None
    separate = 'put the images of each class into a separate folder, or name a CSV with --labels'
    bad = next((row for row in found.rows if row.reason), Row('', ''))
    why = f'; {excerpt(bad.path)}: {excerpt(bad.reason)}' if bad.reason else ''
    if len(usable) < 4:
        fix = separate if bad.reason == NO_FOLDER else 'name a folder with more images'
        what = f'{len(usable)} images that can be used{why}', fix
    elif len(classes) < 2:
        what = f'one class, {excerpt(classes[0], 30)}{why}', separate
    elif len(classes) > MOST_CLASSES:
        what = f'{len(classes):,} classes', f'name a folder of at most {MOST_CLASSES:,} classes'
    if what:
        raise ConfigError(
            f'cannot correct labels in {excerpt(found.path, 200)}', seen=what[0], fix=what[1]
        )
    return classes


def _header(path):
    """Returns why a file is unusable (``''`` if it is not), its (height, width), and if it is grey.

    Only the header is read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return 'not a file', None, False
        if status.st_size == 0:
            return 'empty', None, False
        if status.st_size > LARGEST_FILE:
            return 'too large', None, False
        with Image.open(path, formats=formats()) as image:
            unusable = FLOATS if image.mode == 'F' else ''
            return unusable, (image.height, image.width), image.mode in GREY
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return 'too large', None, False
    except FileNotFoundError:
        return MISSING, None, False
    except PermissionError:
        return 'cannot be opened', None, False
    except MemoryError:
        raise
    # Damaged files make Pillow raise almost anything.
    except Exception:
        return 'not an image of a known format', None, False


def _look(path, channels, size, keep):
    """Returns why a file is unusable (``''`` if not), its digest, image, mean colour and levels.

    The image is ``None`` unless it is to be kept; levels are its smallest and largest value.
    """
    try:
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            whole = turned(pixels(image, MODES[channels]), image)
            unseen = dropped(image)
    except MemoryError:
        raise
    except Exception as error:
        return f'damaged: {excerpt(reason(error))}', b'', None, 0, None
    # With the size: a 2 x 8 and a 4 x 4 image can have the same bytes. With what the net does not
    # see: icons that differ in transparency alone are not the same image.
    content = repr(whole.size).encode() + whole.tobytes() + unseen
    digest = hashlib.sha256(content).digest()[:16]
    scaled = whole.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(scaled).reshape(size, size, channels).transpose(2, 0, 1)
    levels, colour = (int(array.min()), int(array.max())), array.mean(axis=(1, 2))
    return '', digest, np.ascontiguousarray(array) if keep else None, colour, levels


def same(digests):
    """Returns a number from 1 for each group of identical images, 0 for others: ``(N,)``, int64.

    Args:
        digests (sequence of bytes): Digest of each image.
    """
    _, inverse, counts = np.unique(np.array(digests), return_inverse=True, return_counts=True)
    repeated = counts > 1
    return np.where(repeated, np.cumsum(repeated), 0)[inverse]
