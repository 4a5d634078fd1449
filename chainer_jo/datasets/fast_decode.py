"""Decodes JPEG files in about half of Pillow's time, within two of 255 levels (D-55).

simplejpeg decodes to the same pixels as Pillow. cykooz_resizer implements Pillow's filter with
vector instructions, and rounds differently. Both come with the extra ``[turbojpeg]``.
"""

import importlib.util
import math
import threading

import numpy as np
from PIL import Image

from chainer_jo.datasets import decode as with_pillow
from chainer_jo.errors import ConfigError

PACKAGES = ('simplejpeg', 'cykooz_resizer')
#: Colour spaces that simplejpeg decodes; it converts CMYK to other colours than Pillow does.
COLOURS = ('YCbCr', 'Gray', 'RGB')
#: Bytes that a thread keeps; larger images are rare.
LARGEST_BUFFER = 2**24
_of_thread = threading.local()


def missing():
    """Returns which of :data:`PACKAGES` are not installed: a list of names."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def check():
    """Raises ConfigError if this decoder is not installed."""
    if names := missing():
        raise ConfigError(
            'the decoder turbojpeg is not installed',
            seen=f'no {" and no ".join(names)}',
            fix='pip install ".[turbojpeg]", or verify the data with --decoder pillow',
        )


def decode(path, channels, size, crop=None, offset=(0, 0)):
    """Returns an image as :func:`chainer_jo.datasets.decode.decode` does, to which it may defer.

    Pillow decodes everything but plain colour JPEGs; files that simplejpeg refuses, so that the
    reason given for a damaged file is the same; and large JPEGs, which it scales while decoding.
    """
    pixels = _pixels(path, size) if channels == 3 else None
    if pixels is None:
        return with_pillow.decode(path, channels, size, crop, offset)
    return _scaled(pixels, size, crop or size, offset).transpose(2, 0, 1)


def _pixels(path, size):
    """Returns the pixels of a JPEG as ``(h, w, 3)``, uint8; ``None`` if Pillow is to decode it.

    The next call in the same thread overwrites them.
    """
    import simplejpeg

    try:
        with open(path, 'rb') as file:
            content = file.read()
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        scaled = height >= 4 * size[0] and width >= 4 * size[1]
        if scaled or colours not in COLOURS or height * width > Image.MAX_IMAGE_PIXELS:
            return None
        return simplejpeg.decode_jpeg(content, 'RGB', buffer=_buffer(3 * height * width))
    except (OSError, ValueError):
        return None


def _buffer(size):
    """Returns an array of ``size`` bytes, uint8; small ones are parts of one array per thread."""
    if size > LARGEST_BUFFER:
        return np.empty(size, np.uint8)
    # New memory for every image would cost page faults.
    if getattr(_of_thread, 'buffer', np.empty(0)).size < size:
        _of_thread.buffer = np.empty(size, np.uint8)
    return _of_thread.buffer[:size]


def _scaled(pixels, size, crop, offset):
    """Returns a crop of the scaled image, ``(h, w, 3)``, without computing pixels outside it."""
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions

    (H, W), (h, w), (top, left) = size, crop, offset
    height, width = pixels.shape[:2]
    if (height, width) == (H, W):
        return pixels[top : top + h, left : left + w].copy()
    rows, y, box_height = _needed(top, h, height / H, height)
    columns, x, box_width = _needed(left, w, width / W, width)
    # Only what is needed, because the resizer copies its input twice.
    source = pixels[rows, columns]
    part = ImageData(w, h, PixelType.U8x3)
    _resizer().resize(
        ImageData(source.shape[1], source.shape[0], PixelType.U8x3, source.tobytes()),
        part,
        ResizeOptions(
            resize_alg=ResizeAlg.convolution(FilterType.bilinear),
            crop_box=CropBox(x, y, box_width, box_height),
        ),
    )
    return np.frombuffer(part.get_buffer(), np.uint8).reshape(h, w, 3)


def _needed(start, length, scale, size):
    """Returns the pixels that a crop needs along one axis, as a slice, and its box within them.

    Args:
        start, length (int): The crop, in pixels of the scaled image.
        scale (float): Pixels of the image per pixel of the scaled image.
        size (int): Pixels of the image.
    """
    first = start * scale
    # Rounding may push the end past the edge, and the resizer refuses such a box.
    end = min(first + length * scale, size)
    # The filter reaches as far as one pixel of the scaled image, and at least one of the image.
    reach = math.ceil(max(scale, 1)) + 1
    low = max(0, math.floor(first) - reach)
    return slice(low, math.ceil(end) + reach), first - low, end - first


def _resizer():
    # One per thread, because a resizer reuses its buffers from image to image.
    from cykooz_resizer import Resizer

    if not hasattr(_of_thread, 'resizer'):
        _of_thread.resizer = Resizer()
    return _of_thread.resizer
