"""One image file as an array: decoded, in the wanted colours and size."""

import contextlib
import functools
import warnings

import numpy as np
from PIL import Image

from chainer_jo.errors import DataError

MODES = {1: 'L', 3: 'RGB'}
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

# Pillow only warns about an image of 90 million pixels, which takes 270 MB per thread as an array.
warnings.simplefilter('error', Image.DecompressionBombWarning)


@functools.cache
def formats_of_anybody():
    """Returns Pillow's names of the formats that are read of files that anybody made: a tuple.

    Its other readers are for rare formats, and one of them runs a program.
    """
    # Which of them Pillow has depends on how it was built, and it fails on names it lacks.
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def decode(path, channels, size, crop=None, offset=(0, 0), *, upright=False, formats=None):
    """Returns the image in a file, or a part of it, ``(channels, h, w)``, uint8.

    An image that already has the wanted size is not resampled: its pixels are those of the file.
    By default what EXIF says of a rotation does not count: as in all public codes, pixels stay as
    stored.

    Args:
        path (str or os.PathLike): Of one of ``formats``.
        channels (int): 1 for grey, 3 for colour.
        size (tuple): ``(H, W)`` to which the image is scaled, whatever its own shape.
        crop (tuple): ``(h, w)`` of the part, at most ``size``; all of it by default.
        offset (tuple): Row and column of the part's corner.
        upright (bool): Whether to turn the image as EXIF says.
        formats (sequence of str): Pillow's names, such as those of :func:`formats_of_anybody`;
            all that it reads by default.

    Raises:
        DataError: There is no such file, or it is no image.
    """
    image = opened(path, channels, size, upright, formats)
    array = np.asarray(scaled(image, size, crop or size, offset))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def opened(path, channels, size, upright=False, formats=None):
    """Returns the whole image in a file, decoded, a ``PIL.Image``; arguments as :func:`decode`."""
    try:
        with Image.open(path, formats=formats) as image:
            # A JPEG of at least four times the size is scaled by 1/2, 1/4 or 1/8 while it is
            # decoded, to no less than twice the size. That takes half the time or less and changes
            # the result by about 0.6 of 255 levels; scaling down to the size itself would change it
            # by 1 to 5.
            image.draft(image.mode, (2 * size[1], 2 * size[0]))
            turn = turned if upright else lambda image, _: image
            return turn(pixels(image, MODES[channels]), image)
    except MemoryError:
        raise
    # Damaged files make Pillow raise nearly anything: SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        raise DataError(
            f'cannot read the image {path}',
            seen=reason(error),
            fix='bring the file again, or leave it out of the data set',
        ) from error


def scaled(image, size, crop, offset):
    """Returns the part of the scaled image; no other pixel of it is worked out."""
    (H, W), (h, w), (top, left) = size, crop, offset
    if image.size == (W, H):
        return image.crop((left, top, left + w, top + h))
    y, x = image.height / H, image.width / W
    part = (left * x, top * y, (left + w) * x, (top + h) * y)
    return image.resize((w, h), Image.Resampling.BILINEAR, part)


def pixels(image, mode):
    """Returns an opened image in another of Pillow's modes.

    Colours under a transparent place count as they are stored. Of 16 bits a pixel the upper 8 are
    taken, where Pillow alone would make white of all that is above 255.
    """
    image.load()
    if image.mode.startswith('I'):
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray((deep.clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    # Not converted without need: Pillow would copy the pixels.
    return image if image.mode == mode else image.convert(mode)


def turned(pixels, image):
    """Returns the pixels of an image turned and mirrored as its EXIF says, if it says so."""
    # The EXIF data may be damaged although the pixels are not.
    with contextlib.suppress(Exception):
        if (way := TURNS.get(image.getexif().get(ORIENTATION))) is not None:
            return pixels.transpose(way)
    return pixels


def reason(error):
    """Returns the first line of what an exception says."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
