"""Reads a finished trial back from the files in its folder."""

import contextlib
from dataclasses import dataclass

import chainer
import numpy as np

from chainer_jo import store
from chainer_jo.datasets.label_files import load_noise
from chainer_jo.errors import ConfigError, DataError
from chainer_jo.methods.base import Method
from chainer_jo.training import data, nets, result, state
from chainer_jo.training.assembly import assemble


@dataclass(eq=False)
class Finished:
    """What :func:`read` returns.

    Attributes:
        method (Method): The method with its net after the last epoch, on the device.
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

    The method is rebuilt and its saved values are loaded: nothing is trained.

    Raises:
        DataError: A file is missing or damaged, or belongs to another result.
    """
    folder = machine.folder(config.trial)
    expected = store.read_sealed(folder / 'result.json')
    digests = expected['digests']
    weights = nets.weights(config.net, machine.weights)
    made = assemble(config, data.prepare(dataset, config, noisy_labels), machine, weights)
    method = made.method
    model = _arrays(folder / 'model.arrays', digests['model'])
    if method.predicts_itself:
        own = _arrays(folder / 'method.arrays', digests.get('method'))
        state.restore(method, state.on_host(method) | own)
    state.restore(method.net, model)
    y = _arrays(folder / 'labels.arrays', digests['labels'])['y']
    noisy, index = _noise(folder / 'noisy_labels.arrays')
    _check(folder / 'noisy_labels.arrays', store.digest(noisy), expected['noise']['digest'])
    mean = chainer.get_device('@numpy').send(made.train.mean)
    return Finished(method, mean, y, noisy, index)


def origin(result):
    """Returns the digests of ``data`` and initial ``weights`` (or ``None``) of a result (dict)."""
    return {'data': result['data']['digest'], 'weights': result.get('weights')}


def check_origin(folder, made_from, present):
    """Raises ConfigError if a finished trial was made from other data or weights than the present.

    Args:
        folder (pathlib.Path): The trial's folder.
        made_from (dict): Its :func:`origin`.
        present (dict): The same of today; what is ``None`` is not known, and not compared.
    """
    for what, title in (('data', 'data'), ('weights', 'initial weights')):
        if present[what] and present[what] != made_from[what]:
            raise ConfigError(
                f'{folder} has a result from other {title}',
                seen=f'{what} {made_from[what]}, now {present[what]}',
                fix=f'use the same {what}, or choose another folder with --out',
            )


def _arrays(path, expected):
    with _restored(path):
        arrays = store.read_arrays(path)
    _check(path, result.digest(arrays), expected)
    return arrays


def _noise(path):
    with _restored(path):
        noisy, _, index = load_noise(path)
    return noisy, index


@contextlib.contextmanager
def _restored(path):
    """Names the remedy for a damaged file of a finished trial, in place of that of any file."""
    try:
        yield
    except DataError as error:
        raise DataError(error.problem, seen=error.seen, fix=_fix(path)) from error


def _check(path, found, expected):
    if found != expected:
        raise DataError(
            f'{path} does not belong to its result',
            seen=f'digest {found[:16]}…, not {str(expected)[:16]}…',
            fix=_fix(path),
        )


def _fix(path):
    # Other files are written again by the same command; those of a finished trial are not.
    return f'restore it from a copy, or delete {path.parent} and run the same command again'
