"""Measures whether images are read while the net trains.

The time of an epoch is compared with the time of its steps alone and of reading alone.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from chainer_jo import config, store
from chainer_jo.datasets.clothing1m import CLASSES
from chainer_jo.datasets.dataset import Dataset
from chainer_jo.datasets.source import ArrayImages, centre
from chainer_jo.training import data as trial_data
from chainer_jo.training.assembly import assemble
from chainer_jo.training.machine import Machine
from chainer_jo.training.read_ahead import read_ahead

BATCH = 32
SETTINGS = {'overrides': ['net.weights="none"']}
# A step of ResNet-50 takes seconds on a CPU.
CPU_STEPS = 2


@dataclass
class Epoch:
    """Mean seconds per batch in an epoch; each list has one number per turn.

    Attributes:
        step: Name of the step.
        resident: Times of steps with images in memory.
        reading: Times of reading the images without steps.
        streamed: Times of steps while images are read.
    """

    step: str
    resident: list
    reading: list
    streamed: list

    @property
    def ratio(self):
        """The time of an epoch over the longer of its two parts, each measured alone."""
        return median(self.streamed) / max(median(self.resident), median(self.reading))


def measure(source, device, rounds, say):
    """Measures two kinds of step, each with images in memory and with images that are read.

    The first is a step of ResNet-50 on Clothing1M; on a CPU it shares the cores with the decoding
    of images. The second computes nothing and waits, as for a GPU, exactly as long as it takes to
    read a batch, which is the hardest case for reading ahead.

    Args:
        source (LabelledImages): At least 64 colour images.
        device (str): As for ``--device``.
        rounds (int): Number of turns of each; the medians count.
        say (callable): Called with lines of progress.

    Returns:
        list of Epoch: One for each kind of step.
    """
    steps = min(CPU_STEPS, len(source) // BATCH) if device == 'cpu' else len(source) // BATCH
    reading = [_seconds_of_reading(source, len(source) // BATCH) for _ in range(rounds)]
    streamed, resident = (_assembly(images, device) for images in (source, _in_memory(source)))
    net = Epoch('ResNet-50', [], reading, [])
    waiting = Epoch('waiting for a device', [], reading, [])
    for i in range(rounds):
        say(f'epochs, round {i + 1} of {rounds}')
        for assembly, name in ((resident, 'resident'), (streamed, 'streamed')):
            getattr(net, name).append(_seconds_of_epoch(assembly, steps))
        wait = partial(time.sleep, median(reading))
        for assembly, name in ((resident, 'resident'), (streamed, 'streamed')):
            seconds = _seconds_of_epoch(assembly, len(source) // BATCH, wait)
            getattr(waiting, name).append(seconds)
    return [net, waiting]


def _seconds_of_reading(source, batches):
    """Returns the seconds to read a batch while nothing else computes."""
    groups = np.arange(batches * BATCH).reshape(batches, BATCH)
    start = time.perf_counter()
    for _ in read_ahead(lambda group: source.read(group, centre(source, BATCH)), groups):
        pass
    return (time.perf_counter() - start) / batches


def _in_memory(source):
    index = np.arange(len(source))
    images = np.concatenate(
        [
            source.read(index[start : start + BATCH], centre(source, BATCH))
            for start in range(0, len(index) - BATCH + 1, BATCH)
        ]
    )
    return ArrayImages(images, source.labels[: len(images)])


def _assembly(source, device):
    """Returns a trial of cross entropy on Clothing1M, with given images and random weights."""
    settings = config.trial('cross_entropy', 'clothing1m', 'none', None, 0, **SETTINGS)
    few = ArrayImages(np.zeros((BATCH, *source.shape), 'B'), np.zeros(BATCH, 'i'))
    mean = np.full((3, 1, 1), 0.5, 'f')
    dataset = Dataset('clothing1m', '', store.digest(''), CLASSES, source, few, few, mean=mean)
    return assemble(settings, trial_data.prepare(dataset, settings), Machine(Path(), device=device))


def _seconds_of_epoch(assembly, steps, step=None):
    """Returns the seconds per batch in the middle of a trial, with ``step`` instead of its own."""
    updater = assembly.updater('train')
    updater.captured = step or updater.captured
    try:
        # As many steps first as are measured, so that no measured batch was read in advance.
        for _ in range(steps):
            updater.update()
        updater.sums.tolist()
        start = time.perf_counter()
        for _ in range(steps):
            updater.update()
        updater.sums.tolist()
        return (time.perf_counter() - start) / steps
    finally:
        updater.iterator.finalize()
        updater.finalize()
