"""One system of a benchmark, in a process of its own: does what it is told, when it is told."""

import resource
import sys
import time

import chainer
import chainer.functions as F
import numpy as np

import chainer_jo
from chainer_jo import backends
from chainer_jo.benchmark import workload as workloads
from chainer_jo.datasets import augment
from chainer_jo.training import evaluation

PAD = 4


def serve(task, commands):
    """Yields a greeting, then the answer to each command, as plain JSON values.

    Args:
        task (dict): ``backend``, ``precision`` and ``workload``, the fields of a
            :class:`~chainer_jo.benchmark.workload.Workload`.
        commands (iterable of str): ``step``, ``evaluate``, ``augment`` or ``memory``, one a line.
    """
    backends.use(task['backend'])
    chainer.config.type_check = False  # as in a trial
    worker = _Worker(workloads.Workload(**task['workload']), task['precision'])
    yield {'versions': _versions(), 'parameters': int(worker.net.count_params())}
    for command in commands:
        yield getattr(worker, command.strip())()


def _versions():
    return (
        f'chainer_jo {chainer_jo.__version__}, Chainer {chainer.__version__}, '
        f'NumPy {np.__version__}, {backends.describe()}'
    )


class _Worker:
    def __init__(self, workload, precision):
        arrays = workload.read()
        self.x, self.t = arrays.pop('x'), arrays.pop('t').astype(np.int32)
        generator = np.random.default_rng(0)
        self.net = workloads.build(workload.net, precision, rng=generator)
        counters = workloads.is_counter
        chainer.serializers.NpzDeserializer(arrays, ignore_names=counters).load(self.net)
        self.optimizer = workloads.optimizer(workload, self.net)
        shape = (max(workload.evaluation_images, workload.batch), *self.x.shape[1:])
        self.images = generator.integers(256, size=shape, dtype=np.uint8)
        self.mean = np.zeros(shape[1:], np.float32)
        self.evaluation_images = workload.evaluation_images

    def step(self):
        """One step of training: the loss before it, and how long it took."""
        start = time.perf_counter()
        loss = F.softmax_cross_entropy(self.net(self.x), self.t)
        self.net.cleargrads()
        loss.backward()
        self.optimizer.update()
        loss = float(loss.array)
        return {'seconds': time.perf_counter() - start, 'loss': loss}

    def evaluate(self):
        """One batch of evaluation, from the images' bytes."""
        start = time.perf_counter()
        evaluation.collect(self.net, self.images[: self.evaluation_images], self.mean)
        return {'seconds': time.perf_counter() - start}

    def augment(self):
        """The augmentation of one training batch."""
        n, generator = len(self.x), np.random.default_rng(0)
        index = np.arange(n, dtype=np.int32)
        offset, flip = augment.crops(generator, (n,), PAD), augment.flips(generator, (n,))
        start = time.perf_counter()
        augment.augment(self.images, self.mean, index, offset, flip, PAD)
        return {'seconds': time.perf_counter() - start}

    def memory(self):
        """The largest resident memory of this process so far, libraries included."""
        unit = 1 if sys.platform == 'darwin' else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {'bytes': peak * unit}
