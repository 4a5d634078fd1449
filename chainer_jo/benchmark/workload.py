"""The training step that every system of a benchmark runs: the same net, weights and images."""

from dataclasses import asdict, dataclass
from pathlib import Path

import chainer
import numpy as np
from chainer.serializers import DictionarySerializer

from chainer_jo import paper, store
from chainer_jo.datasets.streams import rng
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import evaluation

CHANNELS, SIZE, CLASSES = 3, 32, 10  # CIFAR-10's


@dataclass(frozen=True)
class Workload:
    """What a worker process is told, as plain JSON values.

    Attributes:
        net (dict): ``filters``, ``blocks`` and ``stem_stride``.
        optimizer (dict): ``learning_rate``, ``momentum`` and ``weight_decay`` of SGD.
        evaluation_images (int): Images in a batch of evaluation.
        arrays (str): A file of float32 values: the arrays of ``shapes`` one after the other.
        shapes (dict): Name to shape: ``x``, images; ``t``, their classes; and every parameter and
            statistic of the net under Chainer's name for it.
    """

    net: dict
    optimizer: dict
    evaluation_images: int
    arrays: str
    shapes: dict

    @property
    def batch(self):
        """Images in a step."""
        return self.shapes['x'][0]

    def as_dict(self):
        return asdict(self)

    def read(self):
        """Returns the arrays by name."""
        values = np.fromfile(self.arrays, np.float32)
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes.values()])
        parts = np.split(values, ends[:-1])
        return {
            name: part.reshape(shape)
            for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)
        }


def papers(folder):
    """Returns the paper's net, mini-batch and optimizer, with weights and images in ``folder``."""
    settings = paper.hyperparameters('paper')
    common = settings['common']
    optimizer = {key: common[key] for key in ('momentum', 'weight_decay')}
    # High enough for the second loss to show the gradients.
    optimizer['learning_rate'] = 0.1
    return create(folder, settings['net'], optimizer, common['batch_size'])


def create(folder, net, optimizer, batch, evaluation_images=evaluation.BATCH_SIZE):
    """Draws weights and images, writes them to ``folder`` and returns the :class:`Workload`."""
    generator = rng(0, 'benchmark')
    serializer = DictionarySerializer()
    build(net, rng=generator).serialize(serializer)
    arrays = {
        'x': generator.normal(size=(batch, CHANNELS, SIZE, SIZE)),
        't': generator.integers(CLASSES, size=batch),
        **{
            name: np.asarray(value)
            for name, value in serializer.target.items()
            if not is_counter(name)
        },
    }
    values = np.concatenate([array.astype(np.float32).ravel() for array in arrays.values()])
    path = Path(folder) / 'workload.float32'
    store.write_bytes(path, values.tobytes())
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    return Workload(net, optimizer, evaluation_images, str(path), shapes)


def is_counter(name):
    """Says whether a name is that of a batch normalisation's count of batches."""
    return name.endswith('/N')


def build(net, precision='float32', **options):
    """Returns the net for the images of :func:`create`."""
    return PreActResNet(CHANNELS, CLASSES, **net, precision=precision, **options)


def optimizer(workload, net):
    """Returns Chainer's optimizer for ``net``."""
    settings = workload.optimizer
    made = chainer.optimizers.MomentumSGD(settings['learning_rate'], settings['momentum'])
    made.setup(net)
    made.add_hook(chainer.optimizer_hooks.WeightDecay(settings['weight_decay']))
    return made
