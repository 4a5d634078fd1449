"""The worker process of one system in a benchmark, which runs commands that it is given."""

import re
import resource
import sys
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import chainer
import chainer.functions as F
import numpy as np

from chainer_jo import backends, config, paper
from chainer_jo.benchmark import workload as workloads
from chainer_jo.datasets import augment
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.errors import ConfigError
from chainer_jo.training import device as devices
from chainer_jo.training import evaluation
from chainer_jo.training.assembly import assemble
from chainer_jo.training.data import Part, TrialData
from chainer_jo.training.images import ResidentImages
from chainer_jo.training.machine import Machine, threads
from chainer_jo.version import __version__

PAD = paper.hyperparameters('paper')['common']['pad']
VERBOSE = 1  # cudaGraphDebugDotFlagsVerbose


def serve(task, commands):
    """Yields a greeting, then the answer to each command, as plain JSON values.

    Args:
        task (dict): ``device``, ``backend``, ``precision``; ``workload``, the fields of a
            :class:`~chainer_jo.benchmark.workload.Workload`; and, for the step of a trial,
            ``method``, ``stage`` and ``capture``.
        commands (iterable of str): ``step N``, ``evaluate``, ``augment``, ``memory`` or
            ``kernels``, one per line.
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
    with backends.binding_threads(device.name, threads()):
        for command in commands:
            name, *count = command.split()
            yield getattr(worker, name)(*map(int, count))


def _versions(device):
    array = device.xp
    return (
        f'chainer_jo {__version__}, Chainer {chainer.__version__}, '
        f'{array.__name__} {array.__version__}, {backends.describe(device.name)}'
    )


class _Worker:
    """A net with the workload's weights on the current device; a subclass trains it."""

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
        """Takes training steps; returns the mean time of a step and the loss of the last one."""
        self._synchronize()
        start = time.perf_counter()
        for _ in range(count):
            self.train()
        # A GPU works asynchronously: without this, only the launches would be timed.
        self._synchronize()
        seconds = (time.perf_counter() - start) / count
        return {'seconds': seconds, 'loss': self.loss()}

    def _synchronize(self):
        if self.device.xp is not np:
            self.device.xp.cuda.runtime.deviceSynchronize()

    def evaluate(self):
        """Evaluates one batch, from images in bytes to outputs on the host."""
        images = ResidentImages(self.images[: self.workload.evaluation_images], self.mean)
        self._synchronize()
        start = time.perf_counter()
        chainer.get_device('@numpy').send(evaluation.collect(self.net, images))
        return {'seconds': time.perf_counter() - start}

    def augment(self):
        """Augments one training batch."""
        n, generator = self.workload.batch, np.random.default_rng(0)
        index = np.arange(n, dtype=np.int32)
        offset, flip = augment.crops(generator, (n,), 2 * PAD), augment.flips(generator, (n,))
        start = time.perf_counter()
        augment.augment(self.images, self.mean, index, offset, flip, PAD)
        return {'seconds': time.perf_counter() - start}

    def memory(self):
        """Returns the peak memory so far: CuPy's memory pool on a GPU, else the process."""
        if self.device.xp is not np:
            return {'bytes': self.device.xp.get_default_memory_pool().total_bytes()}
        # macOS counts bytes, Linux kibibytes.
        unit = 1 if sys.platform == 'darwin' else 1024
        return {'bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}

    def kernels(self):
        """Returns how many kernels a step launches; ``None`` if they cannot be counted."""
        return {'kernels': None}


class _PlainWorker(_Worker):
    """Trains as a user of Chainer would write it, from batches that are ready."""

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
        # The loss is kept, but must not keep the graph of this step alive during the next.
        self._loss.unchain()

    def loss(self):
        return float(self._loss.array)


class _TrialWorker(_Worker):
    """Runs the training step of a trial, with all images on the device."""

    def __init__(self, task, device):
        super().__init__(task, device)
        work = self.workload
        machine = Machine(Path(), None, task['device'], task['backend'], task['capture'])
        assembly = assemble(_config(task, work), _data(work), machine)
        assembly.method.net.copyparams(self.net.to_device(device))
        self.net = assembly.method.net
        self.updater = assembly.updater(task['stage'])
        self.updater.optimizer.lr = work.optimizer['learning_rate']
        self._seen = 0.0, 0

    def train(self):
        self.updater.update()

    def loss(self):
        """Returns the mean loss since the last call, or since the start of the epoch."""
        total, images, _ = self.updater.sums.tolist()
        before, self._seen = self._seen, (total, images)
        # The sums start again in each epoch.
        if images <= before[1]:
            before = 0.0, 0
        return (total - before[0]) / (images - before[1])

    def memory(self):
        held = super().memory()['bytes']
        captured = self.updater.captured
        return {'bytes': held + (captured.pool.total_bytes() if captured else 0)}

    def kernels(self):
        captured = self.updater.captured
        graph = captured and captured.graph
        return {'kernels': graph and count_kernels(graph.debug_dot_str(VERBOSE))}


def _config(task, work):
    """Returns the configuration of a trial with the workload's net and optimizer."""
    trial = config.trial(task['method'], 'cifar10', 'symmetric', 0.5, workloads.SEED)
    settings = {key: work.optimizer[key] for key in ('momentum', 'weight_decay')}
    common = trial.common | settings | {'batch_size': work.batch}
    return replace(trial, common=common, net=work.net, precision=task['precision'])


def _data(work):
    """Returns the workload's images as training data, with one of them for validation."""
    images, mean, t = workloads.draw_images(work.images)
    source = ArrayImages(images, t, t)
    train, one = (Part(source, np.arange(n), t[:n]) for n in (len(t), 1))
    return TrialData(workloads.CLASSES, train, one, None, t, mean, np.eye(workloads.CLASSES))


def count_kernels(dot):
    """Returns the number of kernels in a CUDA graph, as ``cudaGraphDebugDotPrint`` writes it."""
    return len(re.findall(r'label="{\s*KERNEL\b', dot))
