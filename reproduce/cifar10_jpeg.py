"""Makes a JPEG variant of CIFAR-10 from its official archive, as used in some committed results.

    .venv/bin/python reproduce/cifar10_jpeg.py ARCHIVE OUT_DIR
    bash reproduce/table2.sh --preset reduced --data OUT_DIR

Every image is encoded as JPEG at quality 75 with colour at half resolution (4:2:0), and decoded
again. Images keep their order and labels. Results identify their data by a digest. The encoder of
the committed ones is not known: another Pillow or libjpeg may give other pixels, and then the
printed digest differs.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from chainer_jo import store  # noqa: E402
from chainer_jo.datasets import cifar10  # noqa: E402
from chainer_jo.report.data_notes import VARIANTS  # noqa: E402

QUALITY, COLOUR_AT_HALF_RESOLUTION = 75, 2


def through_jpeg(image):
    """Returns an image ``(3, 32, 32)``, uint8, after one round through JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(
        file, 'JPEG', quality=QUALITY, subsampling=COLOUR_AT_HALF_RESOLUTION
    )
    with Image.open(file) as decoded:
        return np.asarray(decoded).transpose(2, 0, 1)


def batch_bytes(images, labels):
    """Returns the bytes of a file of the binary version: for each image its label, then pixels."""
    pixels = np.stack([through_jpeg(image) for image in images]).reshape(len(images), -1)
    return np.hstack([labels[:, None].astype(np.uint8), pixels]).tobytes()


def main():
    parser = argparse.ArgumentParser(description='Make a JPEG variant of CIFAR-10.')
    parser.add_argument('archive', help='the official archive, or the folder it unpacks to')
    parser.add_argument('out', type=Path, help='folder for the variant')
    arguments = parser.parse_args()
    official = cifar10.load(arguments.archive)
    folder = arguments.out / 'cifar-10-batches-bin'
    store.make_folder(folder)
    train, test = official.train, official.test
    size = len(train) // 5
    for number in range(5):
        part = slice(number * size, (number + 1) * size)
        content = batch_bytes(train.images[part], train.labels[part])
        store.write_bytes(folder / f'data_batch_{number + 1}.bin', content)
    store.write_bytes(folder / 'test_batch.bin', batch_bytes(test.images, test.labels))
    made = cifar10.load(arguments.out)
    known = 'that' if made.digest in VARIANTS else 'not that'
    print(f'{folder}: {made.variant}, digest {made.digest}, {known} of committed results')


if __name__ == '__main__':
    main()
