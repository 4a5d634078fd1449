"""Makes the Fashion-MNIST subset that is part of the package, from files of a Debian package.

    apt-get install dataset-fashion-mnist
    python reproduce/fashion_mnist_subset.py [--source FOLDER] [--out FILE]

The subset is the first 600 training and the first 200 test images of every class, in the original
order. Every run makes the same arrays; ``chainer_jo/datasets/fashion_mnist.py`` contains the digest
that it prints.
"""

import argparse
import gzip
import io
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from chainer_jo import store  # noqa: E402

ARRAYS = ('x_train', 't_train', 'x_test', 't_test')
PER_CLASS = {'train': 600, 't10k': 200}


def read_idx(path):
    """Returns the array in a gzipped IDX file of unsigned bytes."""
    with gzip.open(path) as file:
        magic, rank = file.read(3), file.read(1)[0]
        if magic != b'\0\0\x08':
            raise SystemExit(f'{path} is not an IDX file of unsigned bytes')
        shape = np.frombuffer(file.read(4 * rank), '>i4')
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def subset(source, part):
    """Returns the first images and labels of every class of one part, in official order."""
    images = read_idx(source / f'{part}-images-idx3-ubyte.gz')
    labels = read_idx(source / f'{part}-labels-idx1-ubyte.gz')
    firsts = [np.flatnonzero(labels == c)[: PER_CLASS[part]] for c in range(10)]
    index = np.sort(np.concatenate(firsts))
    return images[index, None], labels[index].astype(np.int32)


def main():
    parser = argparse.ArgumentParser(description='Make the embedded Fashion-MNIST subset.')
    parser.add_argument('--source', type=Path, default=Path('/usr/share/datasets/fashion-mnist'))
    parser.add_argument('--out', type=Path, default=ROOT / 'chainer_jo/datasets/fashion_mnist.npz')
    arguments = parser.parse_args()
    arrays = [*subset(arguments.source, 'train'), *subset(arguments.source, 't10k')]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(zip(ARRAYS, arrays, strict=True)))
    store.write_bytes(arguments.out, buffer.getvalue())
    print(f'{arguments.out}: {arguments.out.stat().st_size:,} bytes')
    print(f'digest of the arrays: {store.digest(*arrays)}')


if __name__ == '__main__':
    main()
