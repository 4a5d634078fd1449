"""Decodes one image file to an array of the requested channels and size."""

import contextlib
import functools
import os
import stat
import warnings

import numpy as np
from PIL import Image

from chainer_jo.errors import DataError

FLOATS = 'floating-point pixels; save it with integers of 8 or 16 bits'
MODES = {1: 'L', 3: 'RGB'}
# Common formats only: Pillow's other readers are for rare ones, and its EPS reader runs a program.
_FORMATS = (
    'JPEG', 'MPO', 'PNG', 'GIF', 'BMP', 'WEBP', 'TIFF', 'PPM', 'JPEG2000', 'TGA', 'ICO', 'AVIF',
)  # fmt: skip
ORIENTATION = 0x0112  # The EXIF tag; 1 is upright.
_WAYS = Image.Transpose
TURNS = {
    2: _WAYS.FLIP_LEFT_RIGHT,
    3: _WAYS.ROTATE_180,
    4: _WAYS.FLIP_TOP_BOTTOM,
    5: _WAYS.TRANSPOSE,
    6: _WAYS.ROTATE_270,
    7: _WAYS.TRANSVERSE,
    8: _WAYS.ROTATE_90,
}

# Pillow only warns about an image of 90 million pixels, which takes 270 MB per reading thread.
warnings.simplefilter('error', Image.DecompressionBombWarning)


@functools.cache
def formats():
    """Returns Pillow's names of the formats that are read, a tuple."""
    # Which formats Pillow has depends on its build, and it fails on a name it does not have.
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def decode(path, channels, size, crop=None, offset=(0, 0), *, upright=False):
    """Returns the image in a file, or a crop of it, ``(channels, h, w)``, uint8.

    An image that already has ``size`` is not resampled. By default the EXIF orientation is ignored,
    as in the public codes.

    Args:
        path (str or os.PathLike): An image file.
        channels (int): 1 for grey, 3 for colour.
        size (tuple): ``(H, W)`` to which the image is scaled, whatever its aspect ratio.
        crop (tuple): ``(h, w)`` of the crop, at most ``size``; the whole image by default.
        offset (tuple): Row and column of the crop's corner in the scaled image.
        upright (bool): Whether to apply the EXIF orientation.

    Raises:
        DataError: There is no such file, or it is not an image in one of :func:`formats`.
    """
    image = opened(path, channels, size, upright)
    array = np.asarray(scaled(image, size, crop or size, offset))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def opened(path, channels, size, upright=False):
    """Returns the whole decoded image as a ``PIL.Image``; arguments as for :func:`decode`."""
    try:
        # A pipe would be waited for.
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise ValueError('not a file')
        with Image.open(path, formats=formats()) as image:
            # The JPEG decoder can scale an image of at least four times the size by 1/2, 1/4 or
            # 1/8, to no less than twice the size. That takes half the time or less and changes the
            # result by about 0.6 of 255 levels. Scaling in the decoder down to the size itself
            # would change it by 1 to 5 levels.
            image.draft(image.mode, (2 * size[1], 2 * size[0]))
            turn = turned if upright else lambda image, _: image
            return turn(pixels(image, MODES[channels]), image)
    except MemoryError:
        raise
    # Damaged files make Pillow raise almost anything: SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        raise DataError(
            f'cannot read the image {path}',
            seen=reason(error),
            fix='get another copy of the file, or remove it from the data set',
        ) from error


def scaled(image, size, crop, offset):
    """Returns a crop of the scaled image, without computing the pixels outside it."""
    (H, W), (h, w), (top, left) = size, crop, offset
    if image.size == (W, H):
        return image.crop((left, top, left + w, top + h))
    y, x = image.height / H, image.width / W
    part = (left * x, top * y, (left + w) * x, (top + h) * y)
    return image.resize((w, h), Image.Resampling.BILINEAR, part)


def pixels(image, mode):
    """Returns an opened image converted to one of Pillow's modes.

    Transparency is dropped, and the colours below it are kept as stored. Of 16-bit pixels the upper
    8 bits are kept; Pillow's own conversion would turn every value above 255 into white. Raises
    ValueError for floating-point pixels: whether their white is 1 or 255 is not known.
    """
    if image.mode == 'F':
        raise ValueError(FLOATS)
    image.load()
    if image.mode.startswith('I'):
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray((deep.clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    # convert() to the same mode would copy the pixels.
    return image if image.mode == mode else image.convert(mode)


def dropped(image):
    """Returns what :func:`pixels` drops of an image, as bytes: low bits and transparency."""
    if image.mode.startswith('I'):
        return image.tobytes()
    if image.mode in ('LA', 'PA', 'RGBA') or 'transparency' in image.info:
        alpha = image.convert('RGBA').getchannel('A')
        return b'' if alpha.getextrema() == (255, 255) else alpha.tobytes()
    return b''


def turned(pixels, image):
    """Returns the pixels of an image with its EXIF orientation applied, if it has one."""
    # The EXIF data may be damaged although the pixels are intact.
    with contextlib.suppress(Exception):
        if (way := TURNS.get(image.getexif().get(ORIENTATION))) is not None:
            return pixels.transpose(way)
    return pixels


def reason(error):
    """Returns the first line of an exception's message, or the name of its type."""
    # Without this an OSError begins with [Errno 2].
    text = getattr(error, 'strerror', None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
