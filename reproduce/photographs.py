"""Makes a folder of JPEGs for ``benchmark --decoding``, cut from photographs of scikit-image.

    .venv/bin/python -m pip install scikit-image
    .venv/bin/python reproduce/photographs.py DIR
    .venv/bin/python -m chainer_jo benchmark --decoding DIR

The wheel of scikit-image contains the five photographs below, all free to use. Each file is a part
of one of them, with sides of 300 to 620 pixels as in web shops. Every call makes the same files.
"""

import argparse
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from chainer_jo import store  # noqa: E402

NAMES = ('astronaut.png', 'chelsea.png', 'coffee.png', 'motorcycle_left.png', 'rocket.jpg')
FILES, SIDES, QUALITY = 600, (300, 620), 90


def read(folder):
    """Returns the photographs in the folder ``data`` of scikit-image."""
    return [Image.open(folder / name).convert('RGB') for name in NAMES]


def cut(photograph, width, height, rng):
    """Returns a random part of a photograph, which is enlarged first if it is too small."""
    scale = max(1, width / photograph.width, height / photograph.height)
    if scale > 1:
        larger = (round(scale * photograph.width), round(scale * photograph.height))
        photograph = photograph.resize(larger, Image.Resampling.BICUBIC)
    left = int(rng.integers(photograph.width - width + 1))
    top = int(rng.integers(photograph.height - height + 1))
    return photograph.crop((left, top, left + width, top + height))


def make(photographs, out, files):
    """Writes the files; returns their mean width and height, and their bytes."""
    rng = np.random.default_rng(0)
    store.make_folder(out)
    sizes, total = rng.integers(SIDES[0], SIDES[1] + 1, (files, 2)), 0
    for i, (width, height) in enumerate(sizes.tolist()):
        file = io.BytesIO()
        cut(photographs[i % len(photographs)], width, height, rng).save(
            file, 'JPEG', quality=QUALITY
        )
        store.write_bytes(out / f'{i:04d}.jpg', file.getvalue())
        total += file.tell()
    return (*sizes.mean(axis=0), total)


def main():
    parser = argparse.ArgumentParser(description='Make a folder of photographs.')
    parser.add_argument('out', type=Path, help='folder for the files')
    arguments = parser.parse_args()
    found = importlib.util.find_spec('skimage')
    if found is None:
        parser.error('scikit-image is not installed: .venv/bin/python -m pip install scikit-image')
    photographs = read(Path(found.submodule_search_locations[0]) / 'data')
    width, height, total = make(photographs, arguments.out, FILES)
    print(
        f'{arguments.out}: {FILES} files of {width:.0f} x {height:.0f} pixels and '
        f'{total / FILES / 1000:.0f} kB on average'
    )


if __name__ == '__main__':
    main()
