"""The arrays of one trial: split, noise, mean image, on the device that trains."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainer_jo.datasets import augment, noise
from chainer_jo.datasets.split import split
from chainer_jo.datasets.streams import rng


@dataclass
class TrialData:
    """What a trial trains and is measured on.

    Attributes:
        images: Training images, ``(N, channels, H, W)``, uint8.
        mean: Their per-pixel mean in ``[0, 1]``, ``(channels, H, W)``, float32 (D-25).
        true_labels: ``(N,)``, int32; only measured against, never trained on.
        validation: Images (uint8) and labels (int32).
        test: The same for the test set.
    """

    images: Any
    mean: Any
    true_labels: Any
    validation: tuple
    test: tuple

    def to_device(self, device):
        """Returns the data with all arrays on a ``chainer.Device``."""
        send = device.send
        return TrialData(
            send(self.images),
            send(self.mean),
            send(self.true_labels),
            tuple(send(array) for array in self.validation),
            tuple(send(array) for array in self.test),
        )


def prepare(dataset, config, given_labels=None):
    """Splits a data set and draws its noise: functions of the seed alone, equal for all methods.

    Args:
        dataset (Dataset): As loaded.
        config (TrialConfig): Seed, split and noise.
        given_labels (numpy.ndarray): Noisy labels of all training images of the data set, ``(N,)``,
            for noise ``file``.

    Returns:
        tuple: :class:`TrialData` on the host, the noisy training labels ``(N,)``, int32, and the
        places ``(N,)`` of the training split in the data set.
    """
    common = config.common
    train, validation = split(
        dataset.t_train,
        common['validation_images'],
        rng(config.seed, 'split'),
        n_train=common['train_images'],
    )
    noisy = _noisy(dataset, config, given_labels, train, 'noise')
    t_validation = dataset.t_train[validation]
    if common['validation_labels'] == 'noisy':
        t_validation = _noisy(dataset, config, given_labels, validation, 'noise/validation')
    data = TrialData(
        dataset.x_train[train],
        augment.pixel_mean(dataset.x_train, train),
        dataset.t_train[train],
        (dataset.x_train[validation], t_validation),
        (dataset.x_test, dataset.t_test),
    )
    return data, noisy, train


def _noisy(dataset, config, given, index, purpose):
    if given is not None:
        return given[index]
    settings = config.noise
    return noise.noisy_labels(
        dataset.t_train[index],
        len(dataset.classes),
        rng(config.seed, purpose),
        kind=settings['kind'],
        rate=settings['rate'] or 0.0,
        sampling=settings['sampling'],
        exclude_true=settings['exclude_true'],
        flips=noise.FLIPS.get(dataset.name),
    )


def transition(dataset, config, noisy, true):
    """Returns the true ``T[i, j] = P(noisy = j | true = i)``, ``(C, C)``, float64.

    Where the labels come from a file it is counted from them.
    """
    n_class, settings = len(dataset.classes), config.noise
    if settings['kind'] == 'file':
        counts = np.zeros((n_class, n_class))
        np.add.at(counts, (true, noisy), 1)
        return counts / counts.sum(axis=1, keepdims=True)
    return noise.transition_matrix(
        settings['kind'],
        settings['rate'] or 0.0,
        n_class,
        exclude_true=settings['exclude_true'],
        flips=noise.FLIPS.get(dataset.name),
    )
