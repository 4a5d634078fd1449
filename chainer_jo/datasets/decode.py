"""One image file as an array: decoded, in the wanted colours and size."""

import warnings

import numpy as np
from PIL import Image

from chainer_jo.errors import DataError

MODES = {1: 'L', 3: 'RGB'}

# Pillow only warns of an image of 90 million pixels, which as an array fills 270 MB a thread.
warnings.simplefilter('error', Image.DecompressionBombWarning)


def decode(path, channels, size, crop=None, offset=(0, 0)):
    """Returns the image in a file, or a part of it, ``(channels, h, w)``, uint8.

    An image that already has the wanted size is not resampled: its pixels are those of the file.
    What EXIF says of a rotation does not count: as in all public codes, pixels stay as stored.

    Args:
        path (str or os.PathLike): Any format that Pillow reads.
        channels (int): 1 for grey, 3 for colour.
        size (tuple): ``(H, W)`` to which the image is scaled, whatever its own shape.
        crop (tuple): ``(h, w)`` of the part, at most ``size``; all of it by default.
        offset (tuple): Row and column of the part's corner.

    Raises:
        DataError: There is no such file, or it is no image.
    """
    try:
        with Image.open(path) as image:
            # A JPEG of twice the size or more is scaled by 1/2, 1/4 or 1/8 while it is decoded, to
            # no less than twice the size: in time that is half or less, in the result about 0.6
            # of 255 levels. To once the size it would be 1 to 5.
            image.draft(image.mode, (2 * size[1], 2 * size[0]))
            image = pixels(image, MODES[channels])
    except MemoryError:
        raise
    # Damaged files make Pillow raise nearly anything: SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        raise DataError(
            f'cannot read the image {path}',
            seen=reason(error),
            fix='bring the file again, or leave it out of the data set',
        ) from error
    array = np.asarray(_scaled(image, size, crop or size, offset))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _scaled(image, size, crop, offset):
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
    # Pillow would copy it.
    return image if image.mode == mode else image.convert(mode)


def reason(error):
    """Returns the first line of what an exception says."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
