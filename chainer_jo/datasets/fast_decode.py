"""JPEG files as arrays in about half of Pillow's time, to two levels of 255 (D-55).

simplejpeg decodes to the same pixels as Pillow; cykooz_resizer has Pillow's filter in vector
instructions, and rounds otherwise. Both come with the extra ``[turbojpeg]``.
"""

import importlib.util
import threading

import numpy as np
from PIL import Image

from chainer_jo.datasets import decode as with_pillow
from chainer_jo.errors import ConfigError

PACKAGES = ('simplejpeg', 'cykooz_resizer')
#: It converts CMYK to other colours than Pillow does.
COLOURS = ('YCbCr', 'Gray', 'RGB')
_of_thread = threading.local()


def missing():
    """Returns which of :data:`PACKAGES` are not installed: a list of names."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def check():
    """Raises ConfigError where this decoder is not installed."""
    if names := missing():
        raise ConfigError(
            'the decoder turbojpeg is not installed',
            seen=f'no {" and no ".join(names)}',
            fix='pip install ".[turbojpeg]", or verify the data with --decoder pillow',
        )


def decode(path, channels, size, crop=None, offset=(0, 0)):
    """Does what :func:`chainer_jo.datasets.decode.decode` does, which gets all but plain JPEGs.

    It gets what simplejpeg refuses too, so that a damaged file has one reason, and those files that
    it scales while it decodes them.
    """
    pixels = _pixels(path, size) if channels == 3 else None
    if pixels is None:
        return with_pillow.decode(path, channels, size, crop, offset)
    return _scaled(pixels, size, crop or size, offset).transpose(2, 0, 1)


def _pixels(path, size):
    """Returns the pixels of a colour JPEG, ``(h, w, 3)``, uint8; ``None`` leaves it to Pillow."""
    import simplejpeg

    try:
        with open(path, 'rb') as file:
            content = file.read()
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        scaled = height >= 4 * size[0] and width >= 4 * size[1]
        if scaled or colours not in COLOURS or height * width > Image.MAX_IMAGE_PIXELS:
            return None
        return simplejpeg.decode_jpeg(content, 'RGB')
    except (OSError, ValueError):
        return None


def _scaled(pixels, size, crop, offset):
    """Returns the part of the scaled image, ``(h, w, 3)``; no other pixel of it is worked out."""
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions

    (H, W), (h, w), (top, left) = size, crop, offset
    height, width = pixels.shape[:2]
    if (height, width) == (H, W):
        return pixels[top : top + h, left : left + w]
    y, x = height / H, width / W
    # Clipped: a product may be rounded up, and no box may reach beyond the edge.
    box = CropBox(left * x, top * y, min(w * x, width - left * x), min(h * y, height - top * y))
    part = ImageData(w, h, PixelType.U8x3)
    _resizer().resize(
        ImageData(width, height, PixelType.U8x3, pixels.tobytes()),
        part,
        ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.bilinear), crop_box=box),
    )
    return np.frombuffer(part.get_buffer(), np.uint8).reshape(h, w, 3)


def _resizer():
    # One per thread: it reuses its buffers from image to image.
    from cykooz_resizer import Resizer

    if not hasattr(_of_thread, 'resizer'):
        _of_thread.resizer = Resizer()
    return _of_thread.resizer
