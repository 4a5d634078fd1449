"""A trained net in a folder of its own: what is needed to label new images, and nothing else."""

from pathlib import Path

import chainer
import numpy as np
from chainer.serializers import DictionarySerializer

from chainer_jo import store
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError
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
    mean = arrays.pop('mean')
    chosen = chainer.get_device(devices.choose(device, backend))
    chosen.use()
    net = PreActResNet(
        len(mean),
        len(facts['classes']),
        **facts['settings'],
        precision=facts['precision'],
        # The weights are about to be replaced.
        rng=rng(0, 'init'),
    )
    net.to_device(chosen)
    state.restore(net, arrays)
    return SavedNet(net, mean, facts)
