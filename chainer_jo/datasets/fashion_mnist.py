"""A subset of Fashion-MNIST that is part of the package, so that nothing has to be downloaded.

The images are Zalando's, under the MIT licence (``fashion_mnist_LICENSE``).
``reproduce/fashion_mnist_subset.py`` made the subset from the published files.
"""

from pathlib import Path

import numpy as np

from chainer_jo.datasets.dataset import Dataset
from chainer_jo.errors import ConfigError, DataError, excerpt

EMBEDDED = True
PATH = Path(__file__).with_name('fashion_mnist.npz')
DIGEST = '8f79cc76b53dce3d3a3550a23d1d969ff8ccf4d837680d440a7c8184539b45fe'
CLASSES = (
    't-shirt/top',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle boot',
)
# Ankle boot -> sneaker, sneaker -> sandal, pullover -> shirt, coat <-> dress: chosen by this
# package on the pattern of the CIFAR-10 map (D-37).
FLIPS = {9: 7, 7: 5, 2: 6, 4: 3, 3: 4}


def load(data=None, on_bytes=None, warn=None):
    """Loads the embedded images: 6,000 to train and validate, 2,000 to test, 28 x 28, grey.

    Args:
        data (None): Must be ``None``: the images are part of the package.
        on_bytes (callable): Never called: nothing is downloaded.
        warn (callable): Never called: nothing is left out.

    Returns:
        Dataset: Every class has the same number of images in each part.

    Raises:
        ConfigError: ``data`` is given.
        DataError: The file in the package is missing, or differs from the released one.
    """
    if data is not None:
        raise ConfigError(
            'fashion_mnist is part of the package and is not read from a folder',
            seen=f'data = {str(data)!r}',
            fix='leave out --data, or choose another preset (run) or --dataset (train)',
        )
    try:
        with open(PATH, 'rb') as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = [loaded[name] for name in ('x_train', 't_train', 'x_test', 't_test')]
        dataset = Dataset.of_arrays('fashion_mnist', 'embedded subset', arrays, CLASSES, FLIPS)
    # A damaged file can raise almost anything: MemoryError if its header declares a huge array.
    except Exception as error:
        raise _damaged(excerpt(str(error) or type(error).__name__, 200)) from error
    # Results carry the digest, so a file that differs by one bit must be refused.
    if dataset.digest != DIGEST:
        raise _damaged(f'digest {dataset.digest[:16]}, expected {DIGEST[:16]}')
    return dataset


def at_hand(data=None):
    """Returns ``True``: the images are part of the package."""
    return True


def _damaged(seen):
    return DataError(
        f'{PATH} is missing or damaged',
        seen=seen,
        fix='install the package again, or run reproduce/fashion_mnist_subset.py',
    )
