"""The images and labels of one trial: split and noise, which are functions of the seed alone."""

from dataclasses import dataclass

import numpy as np

from chainer_jo.datasets import noise
from chainer_jo.datasets.source import LabelledImages
from chainer_jo.datasets.split import split
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of a source, with the labels to use for them.

    Attributes:
        source: The source of the images.
        index: Their indices in the source, ``(n,)``, integers; ``None`` for all, in their order.
            Only reading needs it: training numbers the images of a part from 0 to ``n - 1``.
        labels: ``(n,)``, int32.
    """

    source: LabelledImages
    index: np.ndarray | None
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def places(self, chosen=slice(None)):
        """Returns the indices in the source of images of the part, integers.

        Args:
            chosen (slice or numpy.ndarray): Selects images of the part; all by default.
        """
        if self.index is not None:
            return self.index[chosen]
        return np.arange(len(self))[chosen] if isinstance(chosen, slice) else chosen


@dataclass(frozen=True, eq=False)
class TrialData:
    """The images and labels of a trial, on the host.

    Attributes:
        n_class: ``C``.
        train: Training images with the noisy labels.
        validation: Validation images, which choose the best epoch.
        test: Test images, or ``None``.
        true_labels: True labels of the training images, ``(n,)``, int32, used for measuring only;
            ``None`` if unknown.
        mean: The data set's own mean, or ``None``; see :class:`~chainer_jo.datasets.Dataset`.
        T: The true ``T[i, j] = P(noisy = j | true = i)``, ``(C, C)``, float64; ``None`` if the true
            labels are unknown. In a counted matrix the row of a class without images is NaN.
        known: Which labels of ``train`` are known to be right, ``(n,)``, bool, or ``None``.
    """

    n_class: int
    train: Part
    validation: Part
    test: Part | None
    true_labels: np.ndarray | None
    mean: np.ndarray | None
    T: np.ndarray | None
    known: np.ndarray | None = None

    @property
    def wrong(self):
        """The share of wrong training labels, a fraction; ``None`` if unknown."""
        if self.true_labels is None:
            return None
        return float((self.train.labels != self.true_labels).mean())


def prepare(dataset, config, given_labels=None):
    """Splits a data set and draws its noise, identically for all methods.

    Args:
        dataset (Dataset): The loaded data set.
        config (TrialConfig): Seed, split and noise.
        given_labels (numpy.ndarray): Noisy labels of ``dataset.train``, ``(N,)``, for the noise
            ``file``.

    Returns:
        TrialData: The parts of the trial.
    """
    source, common = dataset.train, config.common
    held = common['validation_images'] if dataset.validation is None else 0
    # Split by the true class, so that all methods and noise rates of a seed have the same
    # validation images.
    n_train = None if common['train_images'] == 'all' else common['train_images']
    if dataset.validation is None or n_train:
        train, held_out = split(_clean(source), held, rng(config.seed, 'split'), n_train=n_train)
    else:
        # All images are used. None stands for them and saves an index of a million entries.
        train = held_out = None
    noisy = _noisy(dataset, config, given_labels, train, 'noise')
    if dataset.validation is not None:
        validation = _whole(dataset.validation)
    elif common['validation_labels'] == 'noisy':
        labels = _noisy(dataset, config, given_labels, held_out, 'noise/validation')
        validation = Part(source, held_out, labels)
    else:
        # Clean labels, as in the public codes, though users have none. They only choose which epoch
        # is `best` (D-19).
        validation = Part(source, held_out, _clean(source)[held_out])
    true = None if source.true_labels is None else _of(source.true_labels, train)
    return TrialData(
        len(dataset.classes),
        Part(source, train, noisy),
        validation,
        None if dataset.test is None else _whole(dataset.test),
        true,
        dataset.mean,
        None if true is None else _transition(dataset, config, noisy, true),
        None if dataset.known is None else _of(dataset.known, train),
    )


def _clean(source):
    """Returns the true labels, or the given ones if the true ones are unknown."""
    return source.labels if source.true_labels is None else source.true_labels


def _of(labels, index):
    return labels if index is None else labels[index]


def _whole(source):
    return Part(source, None, _clean(source))


def _noisy(dataset, config, given, index, purpose):
    if given is not None:
        return _of(given, index)
    settings, labels = config.noise, _of(dataset.train.labels, index)
    if settings['kind'] == 'none':
        return labels
    return noise.noisy_labels(
        labels,
        len(dataset.classes),
        rng(config.seed, purpose),
        kind=settings['kind'],
        # The rate of clean labels is None.
        rate=settings['rate'] or 0.0,
        sampling=settings['sampling'],
        exclude_true=settings['exclude_true'],
        flips=dataset.flips,
    )


def _transition(dataset, config, noisy, true):
    """Returns the matrix from which noise was drawn, or the counted one if it was not drawn."""
    n_class, settings = len(dataset.classes), config.noise
    # The same array means that all labels were right before noise was drawn.
    as_drawn = dataset.train.labels is dataset.train.true_labels
    if settings['kind'] == 'file' or not as_drawn:
        counts = np.zeros((n_class, n_class))
        np.add.at(counts, (true, noisy), 1)
        with np.errstate(invalid='ignore'):
            # A class without images divides by 0. Its row is NaN, and `check` refuses the methods
            # that need T.
            return counts / counts.sum(axis=1, keepdims=True)
    return noise.transition_matrix(
        settings['kind'],
        settings['rate'] or 0.0,
        n_class,
        exclude_true=settings['exclude_true'],
        flips=dataset.flips,
    )


def check(data, method, needs_T, pins):
    """Checks before training that a method can train on these data.

    Args:
        data (TrialData): The data of the trial.
        method (str): The method's name, for the message.
        needs_T (bool): Whether the method uses the true ``T``.
        pins (bool): Whether the method can keep labels that are known to be right.

    Raises:
        ConfigError: The method needs the true ``T``, and it or one of its rows is unknown; or some
            labels are known to be right, and the method cannot keep them.
    """
    if data.known is not None and not pins:
        raise ConfigError(
            f'{method} cannot use labels that are known to be right',
            seen=f'{data.known.sum():,} such labels',
            fix='choose the method ours or tanaka, which keep them',
        )
    if not needs_T:
        return
    if data.T is None:
        raise ConfigError(
            f'{method} needs the true transition matrix T',
            seen='the true labels of these images are unknown',
            fix=f'choose {method}_estimated, which estimates T, or another method',
        )
    absent = np.flatnonzero(np.isnan(data.T).any(axis=1))
    if absent.size:
        raise ConfigError(
            f'{method} needs the true transition matrix T, and one of its rows cannot be counted',
            seen=f'no training image of class {absent[0]} ({absent.size} such classes)',
            fix=f'train on more images, or choose {method}_estimated, which estimates T',
        )
