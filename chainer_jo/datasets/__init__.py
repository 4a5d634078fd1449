"""Image sets, their noisy labels, and every random choice of a training run.

Nothing here imports Chainer: arrays in, arrays out. A data set is a file here that has ``load``,
``at_hand`` and ``EMBEDDED``, and a line in :data:`TITLES`.
"""

import contextlib
import difflib
import importlib

from chainer_jo.datasets.dataset import Dataset
from chainer_jo.errors import ConfigError, DataError, excerpt

__all__ = ['NAMES', 'TITLES', 'Dataset', 'at_hand', 'is_embedded', 'load']

#: Name, and what tables call it.
TITLES = {
    'cifar10': 'CIFAR-10',
    'fashion_mnist': 'Fashion-MNIST',
}
NAMES = tuple(TITLES)


def load(name, data=None, on_bytes=None):
    """Loads a data set by name.

    Args:
        name (str): One of :data:`NAMES`.
        data (str or os.PathLike or None): A file or folder that the user named; see
            :func:`chainer_jo.datasets.cifar10.load`. ``fashion_mnist`` is part of the package and
            takes none.
        on_bytes (callable): Told of a download; see :func:`chainer_jo.datasets.cifar10.download`.

    Returns:
        Dataset: Its images and labels.

    Raises:
        ConfigError: There is no data set of that name, or it takes no ``data``.
        DataError: The data are missing, damaged, or not the published ones.
    """
    with _complaints(name):
        return _module(name).load(data, on_bytes)


def at_hand(name, data=None):
    """Returns whether :func:`load` needs no download.

    Args:
        name (str): One of :data:`NAMES`.
        data (str or os.PathLike or None): As for :func:`load`.

    Raises:
        ConfigError: There is no data set of that name.
        DataError: It cannot be found out, as where nobody's home folder is known.
    """
    with _complaints(name):
        return _module(name).at_hand(data)


def is_embedded(name):
    """Returns whether a data set is part of the package, hence read from no other place."""
    return _module(name).EMBEDDED


def _module(name):
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1) or NAMES
        raise ConfigError(
            'no such data set', seen=f'{name!r}', fix='write ' + ' or '.join(map(repr, near))
        )
    # Not before it is asked for: the names of all sets are in help texts.
    return importlib.import_module(f'{__name__}.{name}')


@contextlib.contextmanager
def _complaints(name):
    try:
        yield
    # A folder that one may not enter, a name too long, a home folder that nobody knows.
    except (OSError, RuntimeError) as error:
        raise DataError(
            f'cannot read the data set {name}',
            seen=excerpt(error, 200),
            fix='name a file or folder that you may read with --data',
        ) from error
