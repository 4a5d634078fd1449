"""A trained net in a folder of its own: what is needed to label new images, and nothing else."""

import itertools
from pathlib import Path

import chainer
import numpy as np
from chainer.serializers import DictionarySerializer

from chainer_jo import store
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError, DataError, excerpt
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import device as devices
from chainer_jo.training import evaluation, state
from chainer_jo.training.images import ResidentImages


class SavedNet:
    """A net with all that it asks of its images.

    Args:
        net (chainer.Chain): Centred images to logits, on its device.
        mean (numpy.ndarray): Subtracted from images in ``[0, 1]``, ``(channels, H, W)``, float32.
        facts (dict): Plain JSON values: ``classes``, ``settings`` and ``precision`` of the net, and
            whatever else is worth keeping.
    """

    def __init__(self, net, mean, facts):
        self.net, self.mean, self.facts = net, mean, facts

    @property
    def classes(self):
        """The names of the ``C`` classes, a list."""
        return self.facts['classes']

    def probabilities(self, images):
        """Returns ``f`` of images, ``(B, C)``, float32, rows that sum to 1.

        Args:
            images (numpy.ndarray): ``(B, channels, H, W)``, uint8, of the shape of ``mean``.
        """
        device = self.net.device
        resident = ResidentImages(device.send(images), device.send(self.mean))
        f = evaluation.collect(lambda x: log_softmax(self.net(x)), resident)
        return np.exp(chainer.get_device('@numpy').send(f))

    def save(self, folder):
        """Writes the net into a folder, its facts last. Raises WriteError."""
        folder = Path(folder)
        store.make_folder(folder)
        serializer = DictionarySerializer()
        self.net.serialize(serializer)
        arrays = {name: np.asarray(value) for name, value in serializer.target.items()}
        store.write_arrays(folder / 'net.arrays', arrays | {'mean': self.mean})
        store.write_sealed(folder / 'net.json', self.facts)


def load(folder, device='auto', backend='auto'):
    """Returns the :class:`SavedNet` of a folder.

    Args:
        folder (str or os.PathLike): That :meth:`SavedNet.save` wrote.
        device (str), backend (str): As for :func:`chainer_jo.training.device.choose`.

    Raises:
        ConfigError: There is no net in the folder, or the device cannot be used.
        DataError: A file of it is damaged.
    """
    folder = Path(folder)
    if not (folder / 'net.json').exists():
        raise ConfigError(
            f'there is no trained net in {folder}',
            seen='no net.json',
            fix='name the folder that correct wrote with --out, once it is done',
        )
    facts, arrays = store.read_sealed(folder / 'net.json'), store.read_arrays(folder / 'net.arrays')
    chosen = chainer.get_device(devices.choose(device, backend))
    chosen.use()
    try:
        net, mean = _built(facts, arrays, chosen)
    # Both have a right digest, and yet this package has not written them, or not together.
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(
            f'the files of the net in {folder} do not fit together',
            seen=excerpt(f'{type(error).__name__}: {error}', 200),
            fix='bring back copies of them, or run the correct command again',
        ) from error
    return SavedNet(net, mean, facts)


def _built(facts, arrays, device):
    """Returns the net and the mean that the content of the files describes."""
    arrays, classes = dict(arrays), facts['classes']
    mean = arrays.pop('mean')
    if mean.ndim != 3 or not all(isinstance(name, str) for name in classes):
        raise ValueError('a mean or names of classes that are none')
    _check_size(facts['settings'], len(mean), len(classes), arrays)
    net = PreActResNet(
        len(mean),
        len(classes),
        **facts['settings'],
        precision=facts['precision'],
        # The weights are about to be replaced.
        rng=rng(0, 'init'),
    )
    net.to_device(device)
    state.restore(net, arrays)
    return net, mean


def _check_size(settings, channels, n_class, arrays):
    """Raises ValueError for a net that has more numbers than the arrays, before it is made."""
    widths = [channels, *settings['filters']]
    most = max(array.size for array in arrays.values())
    pairs = [*itertools.pairwise(widths), *((width, width) for width in widths[2:])]
    if (
        any(type(number) is not int or number < 1 for number in (*widths, *settings['blocks']))
        or any(9 * a * b > most for a, b in pairs)
        or n_class * widths[-1] > most
        or sum(settings['blocks']) > len(arrays)
    ):
        raise ValueError(f'settings {settings} of a net that the arrays are not of')
