"""A trained net saved in a folder, with everything needed to label new images."""

import itertools
import os
from pathlib import Path

import chainer
import numpy as np

from chainer_jo import store
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError, DataError, excerpt
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import device as devices
from chainer_jo.training import evaluation, state
from chainer_jo.training.images import ResidentImages


class SavedNet:
    """A trained net with its mean image and class names.

    Args:
        net (chainer.Chain): Maps centred images to logits, on its device.
        mean (numpy.ndarray): Mean of images in ``[0, 1]``, ``(channels, H, W)``, float32.
        facts (dict): Plain JSON values: ``classes``, ``settings`` and ``precision`` of the net, and
            any other information to keep.
    """

    def __init__(self, net, mean, facts):
        self.net, self.mean, self.facts = net, mean, facts

    @property
    def classes(self):
        """The names of the ``C`` classes, a list."""
        return self.facts['classes']

    def probabilities(self, images):
        """Returns the class probabilities ``f``, ``(B, C)``, float32, rows that sum to 1.

        Args:
            images (numpy.ndarray): ``(B, channels, H, W)``, uint8, of the shape of ``mean``.
        """
        return probabilities(self.net, self.mean, images)

    def save(self, folder):
        """Writes the net to a folder, ``net.json`` last. Raises WriteError."""
        folder = Path(folder)
        store.make_folder(folder)
        arrays = state.on_host(self.net) | {'mean': self.mean}
        store.write_arrays(folder / 'net.arrays', arrays)
        store.write_sealed(folder / 'net.json', self.facts | {'arrays': _digest(arrays)})


def probabilities(net, mean, images, log_f=None):
    """Returns the class probabilities that a net gives images; see :class:`SavedNet`.

    Args:
        log_f (callable): Maps centred images to log-probabilities, for a method that does not
            predict by the net alone.
    """
    log_f = log_f or (lambda x: log_softmax(net(x)))
    resident = ResidentImages(net.device.send(images), net.device.send(mean))
    f = evaluation.collect(log_f, resident)
    return np.exp(chainer.get_device('@numpy').send(f))


def load(folder, device='auto', backend='auto'):
    """Returns the :class:`SavedNet` in a folder.

    Args:
        folder (str or os.PathLike): A folder that :meth:`SavedNet.save` wrote.
        device (str), backend (str): As for :func:`chainer_jo.training.device.choose`.

    Raises:
        ConfigError: There is no net in the folder, or the device cannot be used.
        DataError: A file is damaged, or the files do not belong together.
    """
    folder = Path(folder)
    if not os.path.exists(folder / 'net.json'):
        raise ConfigError(
            f'there is no trained net in {folder}',
            seen='no net.json',
            fix='name the --out folder of a correct command that has finished',
        )
    fix = 'restore both files of the net from a copy, or run the correct command again'
    try:
        facts = store.read_sealed(folder / 'net.json')
        arrays = store.read_arrays(folder / 'net.arrays')
    except DataError as error:
        raise DataError(error.problem, seen=error.seen, fix=fix) from error
    chosen = chainer.get_device(devices.choose(device, backend))
    chosen.use()
    try:
        net, mean = _built(facts, arrays, chosen)
    # The digest of each file is right, but this package did not write them, or not together.
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(
            f'the files of the net in {folder} do not fit together',
            seen=excerpt(f'{type(error).__name__}: {error}', 200),
            fix=fix,
        ) from error
    return SavedNet(net, mean, facts)


def _built(facts, arrays, device):
    """Builds the net from the content of the files; returns it and its mean."""
    arrays, classes = dict(arrays), facts['classes']
    mean = arrays.pop('mean')
    if mean.ndim != 3 or not all(isinstance(name, str) for name in classes):
        raise ValueError('the mean or a class name has the wrong type')
    _check_size(facts['settings'], len(mean), len(classes), arrays)
    net = PreActResNet(
        len(mean),
        len(classes),
        **facts['settings'],
        precision=facts['precision'],
        # Any seed will do: the weights are replaced below.
        rng=rng(0, 'init'),
    )
    net.to_device(device)
    state.restore(net, arrays)
    # Weights of another net of this size load as well, and would give wrong labels.
    if facts['arrays'] != _digest(arrays | {'mean': mean}):
        raise ValueError('net.arrays has the weights of another net')
    return net, mean


def _digest(arrays):
    return store.digest(*itertools.chain(*sorted(arrays.items())))


def _check_size(settings, channels, n_class, arrays):
    """Raises ValueError if the settings describe a net larger than the saved arrays.

    Checked before the net is made, because wrong settings could ask for any amount of memory.
    """
    widths = [channels, *settings['filters']]
    most = max(array.size for array in arrays.values())
    pairs = [*itertools.pairwise(widths), *((width, width) for width in widths[2:])]
    if (
        any(type(number) is not int or number < 1 for number in (*widths, *settings['blocks']))
        or any(9 * a * b > most for a, b in pairs)
        or n_class * widths[-1] > most
        or sum(settings['blocks']) > len(arrays)
    ):
        raise ValueError(f'settings {settings} of a net that does not fit the arrays')
