"""One system of a benchmark, in a process of its own: does what it is told, when it is told."""

import re
import resource
import sys
import time
from dataclasses import replace
from itertools import cycle

import chainer
import chainer.functions as F
import numpy as np

import chainer_jo
from chainer_jo import backends, config, methods
from chainer_jo.benchmark import workload as workloads
from chainer_jo.datasets import augment
from chainer_jo.errors import ConfigError
from chainer_jo.training import device as devices
from chainer_jo.training import evaluation, updaters
from chainer_jo.training.data import TrialData

PAD = 4
VERBOSE = 1  # cudaGraphDebugDotFlagsVerbose


def serve(task, commands):
    """Yields a greeting, then the answer to each command, as plain JSON values.

    Args:
        task (dict): ``device``, ``backend``, ``precision``; ``workload``, the fields of a
            :class:`~chainer_jo.benchmark.workload.Workload`; and, for the step of a trial,
            ``method``, ``stage`` and ``capture``.
        commands (iterable of str): ``step N``, ``evaluate``, ``augment``, ``memory`` or
            ``kernels``, one a line.
    """
    device = chainer.get_device(devices.choose(task['device'], task['backend']))
    device.use()
    if task['backend'] == 'auto' and not backends.is_fast(device.name):
        raise ConfigError(
            'there is no backend to measure',
            seen=backends.describe(device.name),
            fix='see python -m chainer_jo doctor',
        )
    chainer.config.type_check = False  # as in a trial
    worker = (_TrialWorker if 'method' in task else _PlainWorker)(task, device)
    yield {'versions': _versions(device), 'parameters': int(worker.net.count_params())}
    for command in commands:
        name, *count = command.split()
        yield getattr(worker, name)(*map(int, count))


def _versions(device):
    array = device.xp
    return (
        f'chainer_jo {chainer_jo.__version__}, Chainer {chainer.__version__}, '
        f'{array.__name__} {array.__version__}, {backends.describe(device.name)}'
    )


class _Worker:
    """A net with the workload's weights on the device in use; a subclass trains it."""

    def __init__(self, task, device):
        self.device, self.workload = device, workloads.Workload(**task['workload'])
        self.arrays = self.workload.read()
        self.net = workloads.build(
            self.workload.net, task['precision'], rng=np.random.default_rng(0)
        )
        constants = workloads.is_constant
        chainer.serializers.NpzDeserializer(self.arrays, ignore_names=constants).load(self.net)
        n = max(self.workload.evaluation_images, self.workload.batch)
        images, mean, _ = workloads.draw_images(n, self.workload.shapes['x'][-1])
        self.images, self.mean = self.device.send((images, mean))

    def step(self, count):
        """Steps of training: the time of one, and the loss of the last."""
        self._synchronize()
        start = time.perf_counter()
        for _ in range(count):
            self.train()
        self._synchronize()
        seconds = (time.perf_counter() - start) / count
        return {'seconds': seconds, 'loss': self.loss()}

    def _synchronize(self):
        if self.device.xp is not np:
            self.device.xp.cuda.runtime.deviceSynchronize()

    def evaluate(self):
        """One batch of evaluation, from the images' bytes to the host."""
        images = self.images[: self.workload.evaluation_images]
        self._synchronize()
        start = time.perf_counter()
        chainer.get_device('@numpy').send(evaluation.collect(self.net, images, self.mean))
        return {'seconds': time.perf_counter() - start}

    def augment(self):
        """The augmentation of one training batch."""
        n, generator = self.workload.batch, np.random.default_rng(0)
        index = np.arange(n, dtype=np.int32)
        offset, flip = augment.crops(generator, (n,), PAD), augment.flips(generator, (n,))
        start = time.perf_counter()
        augment.augment(self.images, self.mean, index, offset, flip, PAD)
        return {'seconds': time.perf_counter() - start}

    def memory(self):
        """The largest memory so far: on a GPU what CuPy took of it, else of the process."""
        if self.device.xp is not np:
            return {'bytes': self.device.xp.get_default_memory_pool().total_bytes()}
        unit = 1 if sys.platform == 'darwin' else 1024
        return {'bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}

    def kernels(self):
        """How many kernels a step launches; ``None`` where nothing counts them."""
        return {'kernels': None}


class _PlainWorker(_Worker):
    """The step as a user of Chainer writes it, from ready batches."""

    def __init__(self, task, device):
        super().__init__(task, device)
        self.net.to_device(self.device)
        x, t = self.device.send((self.arrays['x'], self.arrays['t'].astype(np.int32)))
        self.batches = cycle(zip(x, t, strict=True))
        self.optimizer = workloads.optimizer(self.workload, self.net)

    def train(self):
        x, t = next(self.batches)
        self._loss = F.softmax_cross_entropy(self.net(x), t)
        self.net.cleargrads()
        self._loss.backward()
        self.optimizer.update()
        self._loss.unchain()

    def loss(self):
        return float(self._loss.array)


class _TrialWorker(_Worker):
    """The step of a trial, with all its images on the device."""

    def __init__(self, task, device):
        super().__init__(task, device)
        work = self.workload
        images, mean, t = workloads.draw_images(work.images)
        trial = config.trial(task['method'], 'cifar10', 'symmetric', 0.5, workloads.SEED)
        settings = {key: work.optimizer[key] for key in ('momentum', 'weight_decay')}
        common = trial.common | settings | {'batch_size': work.batch}
        trial = replace(trial, common=common, net=work.net, precision=task['precision'])
        method = methods.load(task['method'])(
            self.net, t, workloads.CLASSES, trial.stages, np.eye(workloads.CLASSES)
        )
        method.to_device(self.device)
        method.begin(task['stage'])
        few = images[:1], t[:1]
        data = TrialData(images, mean, t, few, few).to_device(self.device)
        self.graph = None
        self._capturer = backends.capturer(self.device.name) if task['capture'] else None
        capture = self._capture if self._capturer else None
        self.updater = updaters.create(method, data, trial, capture)
        self.updater.optimizer.lr = work.optimizer['learning_rate']
        self._seen = 0.0, 0

    def _capture(self, step, state):
        self.graph = self._capturer(step, state)
        return self.graph

    def train(self):
        self.updater.update()

    def loss(self):
        """The mean loss since the last call, or since the epoch began."""
        total, images, _ = self.updater.sums.tolist()
        before, self._seen = self._seen, (total, images)
        if images <= before[1]:
            before = 0.0, 0
        return (total - before[0]) / (images - before[1])

    def memory(self):
        held = super().memory()['bytes']
        return {'bytes': held + (self.graph.pool.total_bytes() if self.graph else 0)}

    def kernels(self):
        graph = self.graph and self.graph.graph
        return {'kernels': graph and count_kernels(graph.debug_dot_str(VERBOSE))}


def count_kernels(dot):
    """Returns how many kernels are in a CUDA graph that ``cudaGraphDebugDotPrint`` wrote."""
    return len(re.findall(r'label="{\s*KERNEL\b', dot))
