"""Data sets as arrays, their noisy labels, and every random choice of a training run.

Nothing here imports Chainer: arrays in, arrays out.
"""

import contextlib
import difflib
import importlib

from chainer_jo.datasets.dataset import Dataset
from chainer_jo.errors import ConfigError, DataError, excerpt

__all__ = ['NAMES', 'Dataset', 'at_hand', 'is_embedded', 'load']

NAMES = ('cifar10', 'fashion_mnist')


def load(name, data=None):
    """Loads a data set by name.

    Args:
        name (str): One of :data:`NAMES`.
        data (str or os.PathLike or None): A file or folder that the user named; see
            :func:`chainer_jo.datasets.cifar10.load`. ``fashion_mnist`` is part of the package and
            takes none.

    Returns:
        Dataset: Its arrays.

    Raises:
        ConfigError: There is no data set of that name, or it takes no ``data``.
        DataError: The data are missing, damaged, or not the published ones.
    """
    with _complaints(name):
        return _module(name).load(data)


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
        # What is part of the package has nothing to look for.
        return is_embedded(name) or _module(name).at_hand(data)


def is_embedded(name):
    """Returns whether a data set is part of the package, hence read from no other place."""
    return not hasattr(_module(name), 'at_hand')


def _module(name):
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1) or NAMES
        raise ConfigError(
            'no such data set', seen=f'{name!r}', fix='write ' + ' or '.join(map(repr, near))
        )
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
