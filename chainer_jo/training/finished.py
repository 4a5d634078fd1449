"""Reads a finished trial back from the files in its folder."""

from dataclasses import dataclass

import chainer
import numpy as np

from chainer_jo import store
from chainer_jo.datasets.label_files import load_noise
from chainer_jo.errors import DataError
from chainer_jo.methods.base import Method
from chainer_jo.training import data, nets, state
from chainer_jo.training.assembly import assemble


@dataclass(eq=False)
class Finished:
    """What :func:`read` returns.

    Attributes:
        method (Method): The method; its net is that after the last epoch, on the device.
        mean (numpy.ndarray): The mean that is subtracted from images, ``(channels, H, W)``,
            float32.
        y (numpy.ndarray): The final labels of the training images, ``(n, C)``, float32.
        noisy_labels (numpy.ndarray): Their labels at the start, ``(n,)``, int32.
        index (numpy.ndarray): Their positions in the data set, ``(n,)``, integers.
    """

    method: Method
    mean: np.ndarray
    y: np.ndarray
    noisy_labels: np.ndarray
    index: np.ndarray


def read(config, machine, dataset, noisy_labels=None):
    """Returns the :class:`Finished` of a trial; arguments as for ``training.trial.run``.

    The net is rebuilt and its saved weights are loaded: nothing is trained.

    Raises:
        DataError: A file is missing or damaged.
    """
    folder = machine.folder(config.trial)
    weights = nets.weights(config.net, machine.weights)
    made = assemble(config, data.prepare(dataset, config, noisy_labels), machine, weights)
    state.restore(made.method.net, _arrays(folder / 'model.arrays'))
    noisy, _, index = load_noise(folder / 'noisy_labels.arrays')
    y = _arrays(folder / 'labels.arrays')['y']
    mean = chainer.get_device('@numpy').send(made.train.mean)
    return Finished(made.method, mean, y, noisy, index)


def _arrays(path):
    try:
        return store.read_arrays(path)
    except DataError as error:
        # Other files are written again by the same command; those of a finished trial are not.
        fix = f'restore it from a copy, or delete {path.parent} and run the same command again'
        raise DataError(error.problem, seen=error.seen, fix=fix) from error
