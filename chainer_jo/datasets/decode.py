"""One image file as an array: decoded, in the wanted colours and size."""

import numpy as np
from PIL import Image

from chainer_jo.errors import DataError

MODES = {1: 'L', 3: 'RGB'}


def decode(path, channels, size):
    """Returns the image in a file, ``(channels, H, W)``, uint8.

    An image that already has the wanted size is not resampled: its pixels are those of the file.

    Args:
        path (str or os.PathLike): Any format that Pillow reads.
        channels (int): 1 for grey, 3 for colour.
        size (tuple): ``(H, W)`` to which the image is scaled, whatever its own shape.

    Raises:
        DataError: There is no such file, or it is no image.
    """
    try:
        with Image.open(path) as image:
            image = image.convert(MODES[channels])
        if image.size != size[::-1]:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    # Of a damaged file Pillow raises any of these, a SyntaxError for a PNG.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f'cannot read the image {path}',
            seen=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix='bring the file again, or leave it out of the data set',
        ) from error
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
