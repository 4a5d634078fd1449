"""Examines image files in one pass: what kind each is, what is wrong with it, and duplicates."""

import contextlib
import functools
import hashlib
import io
import os
import stat
from dataclasses import dataclass

import numpy as np
from PIL import Image

from chainer_jo.datasets.decode import ORIENTATION, formats, pixels, reason

#: Unusual kinds of usable files, one bit each. All are converted to colour and trained on.
KINDS = ('grey', 'CMYK', 'palette', '16 bit', 'not JPEG', 'rotated by EXIF', 'duplicate')
#: Why a file cannot be used. The index file stores the position in this list; 0 is usable.
REASONS = (
    'usable',
    'missing',
    'leads out of the folder',
    'not a file',
    'cannot be opened',
    'empty',
    'no image',
    'too large',
    'damaged',
)
GREY = ('1', 'L', 'LA', 'I', 'I;16', 'I;16B', 'I;16L', 'F')
# Larger files are refused unread; images from the web are smaller.
LARGEST_FILE = 1 << 28
DIGEST_BYTES = 16


@dataclass
class FileFacts:
    """What was found in one file.

    Attributes:
        reason: Position in :data:`REASONS`.
        seen: The evidence, if the file is not usable.
        kinds: Bit ``i`` is set for ``KINDS[i]``.
        size: Height and width in pixels.
        length: Size of the file in bytes.
        digest: The first 16 bytes of the SHA-256 of the file.
        colour: Mean of each RGB channel, in ``[0, 1]``.
    """

    reason: int = 0
    seen: str = ''
    kinds: int = 0
    size: tuple = (0, 0)
    length: int = 0
    digest: bytes = bytes(DIGEST_BYTES)
    colour: tuple = (0.0, 0.0, 0.0)


class _UnusableError(Exception):
    def __init__(self, reason, seen=''):
        super().__init__(reason)
        self.facts = FileFacts(REASONS.index(reason), seen)


def examine(folder, relative):
    """Returns the :class:`FileFacts` of a file below a folder. A bad file does not raise.

    The file is read once and decoded completely.

    Args:
        folder (str): The folder, which may be a link. Links that lead out of it are not followed.
        relative (str): Path of the file below the folder.
    """
    try:
        content = _content(folder, relative)
        return _decoded(content)
    except _UnusableError as unusable:
        return unusable.facts


def _content(folder, relative):
    path = os.path.join(folder, relative)
    try:
        _check_inside(folder, path, relative)
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise _UnusableError('not a file', stat.filemode(found.st_mode))
        if found.st_size > LARGEST_FILE:
            raise _UnusableError('too large', f'{found.st_size:,} bytes')
        # Bounded, because the file may grow after its size was checked.
        with open(path, 'rb') as file:
            content = file.read(LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _UnusableError('missing', error.strerror) from None
    # ValueError: the path contains a NUL.
    except (OSError, ValueError) as error:
        raise _UnusableError(
            'cannot be opened', getattr(error, 'strerror', '') or str(error)
        ) from None
    if not content:
        raise _UnusableError('empty', '0 bytes')
    return content


def _check_inside(folder, path, relative):
    parent = _real(os.path.dirname(path))
    # realpath of every file would cost a system call per path component.
    real = os.path.realpath(path) if os.path.islink(path) else parent
    if '..' in relative.split('/') or os.path.commonpath([real, _real(folder)]) != _real(folder):
        raise _UnusableError('leads out of the folder', f'to {real}')


# A million files share a few thousand folders, so most calls hit the cache.
@functools.lru_cache(maxsize=1 << 14)
def _real(folder):
    return os.path.realpath(folder)


def _decoded(content):
    try:
        image = Image.open(io.BytesIO(content), formats=formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _UnusableError('too large', reason(error)) from None
    except Exception as error:
        raise _UnusableError('no image', _without_address(error)) from None
    with image:
        size, kinds = (image.height, image.width), _kinds(image)
        try:
            colour = _mean_colour(pixels(image, 'RGB'))
        except MemoryError:
            raise
        # Damaged files make Pillow raise almost anything.
        except Exception as error:
            raise _UnusableError('damaged', reason(error)) from None
    digest = hashlib.sha256(content).digest()[:DIGEST_BYTES]
    return FileFacts(0, '', kinds, size, len(content), digest, colour)


def _without_address(error):
    return 'no known image format' if 'BytesIO' in str(error) else reason(error)


def _kinds(image):
    orientation = 1
    # The EXIF data may be damaged although the pixels are intact.
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(ORIENTATION, 1)
    found = {
        'grey': image.mode in GREY,
        'CMYK': image.mode == 'CMYK',
        'palette': image.mode in ('P', 'PA'),
        '16 bit': image.mode.startswith('I'),
        'not JPEG': image.format not in ('JPEG', 'MPO'),
        'rotated by EXIF': orientation in range(2, 9),
    }
    return sum(found.get(name, False) << bit for bit, name in enumerate(KINDS))


def _mean_colour(image):
    # From integer counts, so the result is the same on every machine.
    counts = np.array(image.histogram()).reshape(3, 256)
    return tuple((counts @ np.arange(256) / (255 * image.width * image.height)).tolist())


def examine_all(paths, imap, on_file=None):
    """Examines every file of a sequence, and marks files that are identical byte for byte.

    Args:
        paths (PackedPaths): The files.
        imap (callable): ``imap(function, arguments)`` computes the results in threads and yields
            them in order. Threads help because Pillow releases the GIL while it decodes.
        on_file (callable): Called with the number of files examined and the :class:`FileFacts` of
            the last one.

    Returns:
        tuple: A dict of arrays, ``reason``, ``kinds`` (uint8), ``size`` (``(N, 2)``, uint32),
        ``length`` (uint32), ``digest`` (``(N, 16)``, uint8) and ``colour`` (``(N, 3)``, float32);
        and a list of ``(index, seen)`` for the files that cannot be used.
    """
    n = len(paths)
    facts = {
        'reason': np.zeros(n, 'u1'),
        'kinds': np.zeros(n, 'u1'),
        'size': np.zeros((n, 2), 'u4'),
        'length': np.zeros(n, 'u4'),
        'digest': np.zeros((n, DIGEST_BYTES), 'u1'),
        'colour': np.zeros((n, 3), 'f4'),
    }
    evidence = []
    # In groups of 16, so that handing work to the threads costs little.
    groups = (range(start, min(n, start + 16)) for start in range(0, n, 16))

    def examine_group(group):
        return [(i, examine(paths.folder, paths.relative(i))) for i in group]

    for i, found in (pair for group in imap(examine_group, groups) for pair in group):
        for name, array in facts.items():
            value = getattr(found, name)
            array[i] = np.frombuffer(value, 'u1') if name == 'digest' else value
        if found.reason:
            evidence.append((i, found.seen))
        if on_file:
            on_file(i + 1, found)
    facts['kinds'] |= _duplicates(facts) << KINDS.index('duplicate')
    return facts, evidence


def _duplicates(facts):
    """Returns 1 for every usable file that repeats an earlier one, else 0: ``(N,)``, uint8."""
    usable = np.flatnonzero(facts['reason'] == 0)
    keys = np.ascontiguousarray(facts['digest'][usable]).view(f'V{DIGEST_BYTES}')[:, 0]
    first = np.unique(keys, return_index=True)[1]
    marked = np.zeros(len(facts['reason']), 'u1')
    marked[np.delete(usable, first)] = 1
    return marked
