"""Image sets, their noisy labels, and every random choice of a training run.

Nothing here imports Chainer: arrays in, arrays out. To add a data set, write a file here with
``load``, ``at_hand`` and ``EMBEDDED``, and add a line to :data:`TITLES`.
"""

import contextlib
import difflib
import importlib

from chainer_jo.datasets.dataset import Dataset
from chainer_jo.errors import ConfigError, DataError, excerpt

__all__ = ['NAMES', 'TITLES', 'Dataset', 'at_hand', 'is_embedded', 'load']

#: The name of each data set on the command line, and its title in tables.
TITLES = {
    'cifar10': 'CIFAR-10',
    'fashion_mnist': 'Fashion-MNIST',
    'clothing1m': 'Clothing1M',
}
NAMES = tuple(TITLES)


def load(name, data=None, on_bytes=None, warn=None):
    """Loads a data set by name.

    Args:
        name (str): One of :data:`NAMES`.
        data (str or os.PathLike or None): A file or folder that the user named; see
            :func:`chainer_jo.datasets.cifar10.load`. ``fashion_mnist`` is part of the package and
            takes none.
        on_bytes (callable): Called during a download; see
            :func:`chainer_jo.datasets.cifar10.download`.
        warn (callable): Called with lines of text that say which images are left out.

    Returns:
        Dataset: Its images and labels.

    Raises:
        ConfigError: There is no data set of that name, or it takes no ``data``.
        DataError: The data are missing, damaged, or not the published ones.
    """
    with _complaints(name):
        return _module(name).load(data, on_bytes, warn)


def at_hand(name, data=None):
    """Returns whether :func:`load` needs no download.

    Args:
        name (str): One of :data:`NAMES`.
        data (str or os.PathLike or None): As for :func:`load`.

    Raises:
        ConfigError: There is no data set of that name.
        DataError: The place cannot be looked up, for example if the home folder is unknown.
    """
    with _complaints(name):
        return _module(name).at_hand(data)


def verify(name, data, imap, **options):
    """Reads every file of a data set that is verified once, and returns what was found.

    Args:
        name (str): One of :data:`NAMES`.
        data (str or os.PathLike): The folder.
        imap (callable): ``imap(function, arguments)`` computes the results in threads and yields
            them in order.
        **options: See :func:`chainer_jo.datasets.clothing1m.verify`.

    Returns:
        dict: Plain JSON values.

    Raises:
        ConfigError: The data set needs no such pass, because every load verifies it.
        DataError, WriteError: See :func:`chainer_jo.datasets.clothing1m.verify`.
    """
    with _complaints(name):
        module = _module(name)
        if not hasattr(module, 'verify'):
            raise ConfigError(
                f'{name} is verified whenever it is loaded',
                seen=f'data verify {name}',
                fix='there is nothing to do; doctor shows which data it finds',
            )
        return module.verify(data, imap, **options)


def summary(name, facts):
    """Returns what :func:`verify` found as lines of text."""
    return _module(name).summary(facts)


def check(name, facts):
    """Raises DataError if :func:`verify` found too many unusable images."""
    _module(name).check(facts)


def is_embedded(name):
    """Returns whether a data set is part of the package and never read from elsewhere."""
    return _module(name).EMBEDDED


def _module(name):
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1) or NAMES
        raise ConfigError(
            'no such data set', seen=f'{name!r}', fix='write ' + ' or '.join(map(repr, near))
        )
    # Imported on use: help texts list every name and should not load every reader.
    return importlib.import_module(f'{__name__}.{name}')


@contextlib.contextmanager
def _complaints(name):
    try:
        yield
    # OSError: no permission, or a name that is too long. RuntimeError: an unknown home folder.
    except (OSError, RuntimeError) as error:
        raise DataError(
            f'cannot read the data set {name}',
            seen=excerpt(error, 200),
            fix='name a file or folder that you may read with --data',
        ) from error
