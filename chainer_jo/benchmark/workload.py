"""The training step that every system of a benchmark runs: net, weights, images, optimizer."""

from dataclasses import asdict, dataclass
from pathlib import Path

import chainer
import numpy as np

from chainer_jo import config, paper, store
from chainer_jo.datasets import augment
from chainer_jo.datasets.streams import rng
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.links.resnet50 import ResNet50
from chainer_jo.training import epoch_tables, evaluation, state

CHANNELS, SIZE, CLASSES = 3, 32, 10  # CIFAR-10's
RESNET50 = {'name': 'resnet50', 'size': 224, 'n_class': 14}
SEED, STAGE = 0, 'train'
EPOCH_IMAGES = paper.hyperparameters('paper')['common']['train_images']
BATCHES = 2


@dataclass(frozen=True)
class Workload:
    """The workload of a worker process, as plain JSON values.

    Attributes:
        net (dict): ``filters``, ``blocks`` and ``stem_stride``; or ``RESNET50``.
        optimizer (dict): ``learning_rate``, ``momentum`` and ``weight_decay`` of SGD.
        images (int): Number of training images, which :func:`images` draws.
        evaluation_images (int): Images in a batch of evaluation.
        arrays (str): Path of a file of float32 values: the arrays of ``shapes``, concatenated.
        shapes (dict): Name to shape: ``x``, the first batches of an epoch, ready for the net;
            ``t``, their classes; and every parameter and statistic of the net by its name in
            Chainer.
    """

    net: dict
    optimizer: dict
    images: int
    evaluation_images: int
    arrays: str
    shapes: dict

    @property
    def title(self):
        """Prefix of the names of result files: the net's name, if it has one."""
        return f'{self.net["name"]}_' if 'name' in self.net else ''

    @property
    def epoch_images(self):
        """Images in an epoch of the paper's experiment, on Clothing1M or else CIFAR-10."""
        return 1_000_000 if self.title else EPOCH_IMAGES

    @property
    def batch(self):
        """Images in a step."""
        return self.shapes['x'][1]

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


def papers(folder, images=BATCHES * 128, **options):
    """Returns the paper's net, mini-batch and optimizer, with weights and images in ``folder``."""
    described = config.trial('cross_entropy', 'cifar10', 'symmetric', 0.5, 0)
    common = described.common
    optimizer = {key: common[key] for key in ('momentum', 'weight_decay')}
    # High enough that an error in the gradients would show in the second loss.
    optimizer['learning_rate'] = 0.1
    return create(folder, described.net, optimizer, common['batch_size'], images, **options)


def resnet50(folder, **_):
    """Returns ResNet-50 with the mini-batch and the optimizer of the experiments on Clothing1M.

    The numbers of images that :func:`papers` takes are ignored, since no trial is measured.
    """
    # At this rate an error in the gradients shows in the second loss, and 16 bits still agree.
    optimizer = {'learning_rate': 1e-3, 'momentum': 0.9, 'weight_decay': 1e-3}
    # One batch of an evaluation, so that no system does in several batches what others do in one.
    size = evaluation.batch_size(np, (3, 224, 224))
    return create(folder, RESNET50, optimizer, 32, BATCHES * 32, evaluation_images=size)


def create(folder, net, optimizer, batch, images, evaluation_images=evaluation.BATCH_SIZE):
    """Draws weights and images, writes them to ``folder`` and returns the :class:`Workload`."""
    link = build(net, rng=rng(SEED, 'benchmark/weights'))
    if 'name' in net:
        _calm(link)
    batches = first_batches(images, batch) if 'filters' in net else ready_batches(net, batch)
    arrays = {
        **dict(zip(('x', 't'), batches, strict=True)),
        **{name: array for name, array in state.on_host(link).items() if not is_constant(name)},
    }
    # Plain numbers, which the environment of PyTorch can read without this package.
    values = np.concatenate([array.astype(np.float32).ravel() for array in arrays.values()])
    path = Path(folder) / 'workload.float32'
    store.write_bytes(path, values.tobytes())
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    return Workload(net, optimizer, images, evaluation_images, str(path), shapes)


def draw_images(n, size=SIZE):
    """Returns training images ``(n, C, H, W)``, uint8, their mean, and classes ``(n,)``, int32."""
    # Random pixels will do, since speed does not depend on the content of images.
    generator = rng(SEED, 'benchmark/images')
    shape = (CHANNELS, size, size)
    images = generator.integers(256, size=(n, *shape), dtype=np.uint8)
    return images, np.full(shape, 0.5, 'f'), generator.integers(CLASSES, size=n, dtype=np.int32)


def first_batches(n, batch):
    """Returns the first batches of a trial on ``n`` images: ``(BATCHES, batch, ...)``."""
    common = paper.hyperparameters('paper')['common'] | {'batch_size': batch}
    images, mean, t = draw_images(n)
    drawn = epoch_tables.draw(SEED, STAGE, 0, n, common)
    x = [
        augment.augment(
            images, mean, drawn.index[row], drawn.offset[row], drawn.flip[row], common['pad']
        )
        for row in range(BATCHES)
    ]
    return np.stack(x), t[drawn.index[:BATCHES]]


def _calm(net):
    """Scales down the residual branches of an untrained ResNet-50, as training would.

    Otherwise each of the sixteen blocks doubles rounding errors, and no two systems would agree.
    """
    for name, param in net.namedparams():
        if name.endswith('bn3/gamma'):
            param.array[...] = 0.1


def ready_batches(net, batch):
    """Returns batches for a named net: images ``(BATCHES, batch, ...)`` and classes."""
    images, mean, _ = draw_images(BATCHES * batch, net['size'])
    x = augment.evaluation_batch(images, mean, slice(None))
    t = rng(SEED, 'benchmark/classes').integers(net['n_class'], size=(BATCHES, batch))
    return x.reshape(BATCHES, batch, *x.shape[1:]), t


def is_constant(name):
    """Returns whether a name is not part of the workload: a counter or a constant of the net."""
    return name.endswith('/N') or name in ('mean', 'std')


def build(net, precision='float32', **options):
    """Returns the net for the images of :func:`create`."""
    if 'name' in net:
        return ResNet50(net['n_class'], precision=precision, **options)
    return PreActResNet(CHANNELS, CLASSES, **net, precision=precision, **options)


def optimizer(workload, net):
    """Returns Chainer's optimizer for ``net``."""
    settings = workload.optimizer
    made = chainer.optimizers.MomentumSGD(settings['learning_rate'], settings['momentum'])
    made.setup(net)
    made.add_hook(chainer.optimizer_hooks.WeightDecay(settings['weight_decay']))
    return made
