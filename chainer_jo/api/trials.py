"""One trial from Python, on a named data set or on your own arrays."""

from __future__ import annotations

import contextlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import chainer
import numpy as np
from numpy.typing import NDArray

from chainer_jo import config, datasets, store
from chainer_jo.api import checks
from chainer_jo.datasets import Dataset
from chainer_jo.datasets.image_folder import MOST_CLASSES
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.datasets.split import validation_size
from chainer_jo.errors import ConfigError, StoppedError
from chainer_jo.report.collect import read_log
from chainer_jo.training import finished, saved_net, trial
from chainer_jo.training.machine import Machine


def image_set(
    images: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.integer],
    *,
    true_labels: Sequence[int] | NDArray[np.integer] | None = None,
    test: tuple[NDArray[np.uint8], Sequence[int] | NDArray[np.integer]] | None = None,
    classes: Sequence[str] | None = None,
    flips: Mapping[int, int] | None = None,
    name: str = 'arrays',
) -> Dataset:
    """Makes a data set from arrays, to train on with :func:`train`.

    Args:
        images: ``(N, channels, H, W)``, uint8, 1 or 3 channels; not copied.
        labels: Possibly wrong labels, ``(N,)``, integers in ``[0, C)``.
        true_labels: True labels, ``(N,)``, if they are known. Label accuracy is measured against
            them, and the validation split is stratified by them. If ``labels`` are correct and
            noise is to be drawn, pass the same labels here.
        test: Test images, as above, and their true labels; ``None`` leaves out the test accuracy.
        classes: Names of the ``C`` classes; by default ``'0'``, ``'1'``, ... up to the largest
            label.
        flips: Maps a true class to the class that it is mistaken for, for asymmetric noise.
        name: Name of the data set in results: lower-case letters, digits and ``_``, and not the
            name of a built-in data set.

    Raises:
        ConfigError: Shapes, dtypes or values are not as described.

    >>> import chainer_jo, numpy as np
    >>> images = np.zeros((300, 3, 32, 32), np.uint8)
    >>> dataset = chainer_jo.image_set(images, labels=[0, 1, 2] * 100)
    >>> len(dataset.train), dataset.classes, dataset.test
    (300, ('0', '1', '2'), None)
    """
    if not re.fullmatch('[a-z0-9_]+', checks.text(name, 'name', 'mine')) or name in datasets.NAMES:
        raise ConfigError(
            'the name of an image set may contain a-z, 0-9 and _, and must not be taken',
            seen=repr(name),
            fix="pass for example name='mine'",
        )
    if test is not None and (not isinstance(test, Sequence) or len(test) != 2):
        raise ConfigError(
            'test must be a pair of images and their labels',
            seen=type(test).__name__,
            fix='pass test=(images, labels)',
        )
    if classes is None:
        given = [labels, true_labels, test[1] if test else None]
        # At least two, so that labels which are all 0 are a valid set too.
        classes = [str(i) for i in range(max(2, *map(_classes_in, given)))]
    else:
        classes = checks.names(classes, 'classes', ['cat', 'dog'])
    train = _part(images, labels, true_labels, len(classes))
    test = _part(*test, None, len(classes)) if test else None
    if test is not None and test.shape != train.shape:
        raise ConfigError(
            'test images and training images have different shapes',
            seen=f'{test.shape} and {train.shape}',
            fix='resize them to one size',
        )
    flips = None if flips is None else checks.flips(flips, len(classes))
    digest = _digest(train, test, classes, flips)
    return Dataset(name, f'variant {digest[:8]}', digest, tuple(classes), train, test, flips=flips)


def _classes_in(labels):
    array = checks.array(labels, 'labels')
    # Anything that is no label at all is reported later, by the check of each part.
    count = int(array.max()) + 1 if array.dtype.kind in 'iu' and array.size else 0
    if count > MOST_CLASSES:
        raise ConfigError(
            f'labels up to {count - 1:,} would mean {count:,} classes',
            seen=f'{len(np.unique(array)):,} different labels',
            fix='number the classes from 0: classes, labels = np.unique(labels, '
            'return_inverse=True); or pass the names of all classes',
        )
    return count


def _digest(train, test, classes, flips):
    """Returns a digest of all that a trial depends on: different sets never share a result."""
    arrays = [part.images for part in (train, test) if part is not None]
    arrays += [part.labels for part in (train, test) if part is not None]
    arrays += [] if train.true_labels is None else [train.true_labels]
    return store.digest(*arrays, list(classes), sorted((flips or {}).items()))


def _part(images, labels, true_labels, n_class):
    # A view: an ArrayImages makes its arrays read-only, and these are the caller's.
    images = checks.images(images).view()
    as_given = checks.labels(labels, n_class, len(images))
    if true_labels is None:
        return ArrayImages(images, as_given)
    true = checks.labels(true_labels, n_class, len(images))
    # The same array for both marks the labels as correct: T is then the matrix that the noise is
    # drawn from, and need not be counted.
    return ArrayImages(images, as_given, as_given if (true == as_given).all() else true)


@dataclass(eq=False)
class Trained:
    """The outcome of a trial.

    Attributes:
        result: The content of ``result.json``: accuracies at the ``best`` and the ``last`` epoch,
            settings, digests; ``results/README.md`` explains every field.
        log: One dict per epoch.
        net: The net after the last epoch, on the device that trained it. It maps mean-subtracted
            images to logits ``(B, C)``.
        labels: The final labels, ``(n, C)``, float32, rows that sum to 1; corrected if the method
            corrects labels.
        noisy_labels: The labels at the start of training, ``(n,)``, int32.
        index: The training split: positions in the data set, ``(n,)``, integers, of the images that
            ``labels`` and ``noisy_labels`` belong to.
        mean: The mean image, subtracted from images in ``[0, 1]``, ``(channels, H, W)``, float32.
    """

    result: dict[str, Any]
    log: list[dict[str, Any]]
    net: chainer.Chain
    labels: NDArray[np.float32]
    noisy_labels: NDArray[np.int32]
    index: NDArray[np.integer]
    mean: NDArray[np.float32]
    _log_f: Callable[[Any], chainer.Variable] | None

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the method's output ``f`` for images: class probabilities, ``(B, C)``, float32.

        It is that of the net, and for the CNN-CRF that of the net and its ``b`` and ``W``.

        Args:
            images: ``(B, channels, H, W)``, uint8, of the same size as the training images.

        Raises:
            ConfigError: The images have another dtype or size.
        """
        images = checks.images_of(images, self.mean.shape)
        return saved_net.probabilities(self.net, self.mean, images, self._log_f)


def train(
    dataset: str | Dataset,
    method: str = 'ours',
    *,
    noise: str = 'none',
    rate: float | None = None,
    noisy_labels: Sequence[int] | NDArray[np.integer] | None = None,
    seed: int = 0,
    preset: str = 'paper',
    overrides: Sequence[str] = (),
    precision: str = 'float32',
    out: str | PathLike[str] | None = None,
    data: str | PathLike[str] | None = None,
    weights: str | PathLike[str] | None = None,
    device: str = 'auto',
    backend: str = 'auto',
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Trained:
    """Runs or resumes one trial, and returns its outcome.

    In the main thread it handles Ctrl-C: with ``out`` it saves a snapshot before it stops.

    Args:
        dataset: ``'cifar10'``, ``'fashion_mnist'`` or ``'clothing1m'``, or the return value of
            :func:`image_set`.
        method: One of ``python -m chainer_jo methods``; ``'ours'`` is the paper's method.
        noise: ``'symmetric'`` or ``'asymmetric'`` adds noise to the labels of the data set;
            ``'none'`` trains on them as they are.
        rate: Share of labels that the noise redraws, a fraction in ``[0, 1]``; ``None`` without
            noise.
        noisy_labels: Labels of all training images of the data set, ``(N,)``, integers, instead of
            ``noise``.
        seed: Determines every random choice. The same seed gives the same result on one machine.
        preset: The preset of the settings: ``'paper'`` takes GPU hours, ``'quick'`` minutes.
        overrides: ``'section.key=value'`` settings that override the preset, such as
            ``'ours.fine_tune.a=1.0'``. With arrays, 10 % are held out for validation (Sec. 4.1)
            unless an override changes that.
        precision: ``'float32'``, ``'strict_float32'``, ``'bfloat16'`` or ``'float16'``.
        out: Folder for the results; the trial is saved in ``out/runs/<trial id>``. A trial that was
            killed resumes from its snapshot, and a finished one is only read. ``None`` keeps
            nothing.
        data: Path of a named data set: its archive or its folder.
        weights: Path of a file of ImageNet weights, for the net that needs them: ResNet-50.
        device: ``'auto'``, ``'cpu'`` or ``'cuda:N'``.
        backend: ``'auto'``, or ``'chainer'`` for Chainer's own functions. The choice stays in
            effect for the whole process.
        on_epoch: Called with the log row of each epoch.

    Raises:
        ChainerJoError: The settings are wrong, the data cannot be read, training diverged, or a
            signal stopped the trial after a snapshot; see :mod:`chainer_jo.errors`.

    >>> import chainer_jo
    >>> tiny = ['common.train_images=500', 'common.validation_images=100', 'ours.correct.epochs=2',
    ...         'ours.correct.begin=2', 'ours.fine_tune.epochs=1']
    >>> trained = chainer_jo.train('fashion_mnist', 'ours', noise='symmetric', rate=0.5,
    ...                            preset='quick', overrides=tiny, device='cpu')
    >>> trained.result['epochs'], trained.labels.shape
    (3, (500, 10))
    """
    seed, overrides = checks.whole(seed, 'seed', 0), checks.overrides(overrides)
    checks.text(method, 'method', 'ours')
    checks.text(device, 'device', 'cpu')
    if not isinstance(dataset, str | Dataset):
        raise ConfigError(
            'the data set is neither a name nor an image set',
            seen=type(dataset).__name__,
            fix='make one from arrays: image_set(images, labels)',
        )
    loaded, name = dataset if isinstance(dataset, Dataset) else None, dataset
    if loaded is not None:
        name, overrides = loaded.name, [*_held_out(loaded, overrides), *overrides]
    data = None if data is None else str(data)
    if noisy_labels is not None:
        if noise not in ('none', 'file'):
            raise ConfigError(
                'both noisy_labels and noise are given',
                seen=f'noise={noise!r}',
                fix='leave out one of the two',
            )
        loaded = loaded or datasets.load(name, data)
        noise = 'file'
        noisy_labels = checks.labels(noisy_labels, len(loaded.classes), len(loaded.train))
    elif noise == 'file':
        raise ConfigError("noise 'file' needs labels", seen='none', fix='pass noisy_labels')
    digest = None if noisy_labels is None else store.digest(noisy_labels)
    # Described under a known name at first: the check of names would refuse a user's own data set.
    own = isinstance(dataset, Dataset) and name not in datasets.NAMES
    known = datasets.NAMES[0] if own else name
    settings = (seed, preset, overrides, precision, digest)
    described = replace(config.trial(method, known, noise, rate, *settings), dataset=name)
    with in_folder(out) as folder:
        weights = None if weights is None else str(weights)
        machine = Machine(folder, data, device, backend, weights=weights)
        return _run(described, machine, loaded, noisy_labels, on_epoch)


def _held_out(dataset, overrides):
    """Returns overrides by which an image set is used whole, and 10 % of it held out by default."""
    # The presets contain the sizes of the named data sets only.
    if dataset.name in datasets.NAMES:
        return []
    given = dict(
        map(str.strip, override.split('=', 1)) for override in overrides if '=' in override
    )
    n, train = len(dataset.train), _size_in(given, 'train_images')
    if dataset.validation is not None:
        return [] if train else [f'common.train_images={n}']
    held = _size_in(given, 'validation_images')
    if held is None:
        held = validation_size(n) if train is None else min(validation_size(n), n - train)
    train = n - held if train is None else train
    if min(train, held) < 1 or train + held > n:
        raise ConfigError(
            f'the image set has {n:,} images',
            seen=f'{train:,} to train and {held:,} to validate',
            fix='choose smaller numbers, each at least 1, or leave out one of them',
        )
    return [f'common.train_images={train}', f'common.validation_images={held}']


def _size_in(given, name):
    """Returns a number of images among overrides, ``None`` for one that is not given, or all."""
    text = given.get(f'common.{name}', 'all')
    # What is no number is refused with the other settings.
    return int(text) if re.fullmatch('[0-9_]+', text) else None


@contextlib.contextmanager
def in_folder(out: str | PathLike[str] | None) -> Iterator[Path]:
    """Yields the results folder; a temporary one if ``out`` is None."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix='chainer_jo-') as folder:
        try:
            yield Path(folder)
        except StoppedError as error:
            # Its own words promise a snapshot, which is deleted here.
            error.seen = 'no folder was given, so nothing is kept'
            error.fix = 'pass out=FOLDER, so that the next call resumes there'
            raise


def observer(on_epoch: Callable[[dict[str, Any]], None] | None) -> trial.Observer:
    """Returns an observer that calls ``on_epoch`` and issues messages as Python warnings."""
    heard = trial.Observer(warn=lambda line: warnings.warn(line, stacklevel=4))
    if on_epoch is not None:
        heard.epoch = on_epoch
    return heard


def _run(described, machine, dataset, noisy_labels, on_epoch):
    dataset = dataset or datasets.load(described.dataset, machine.data)
    result = trial.run(described, machine, observer(on_epoch), noisy_labels, dataset)
    made = finished.read(described, machine, dataset, noisy_labels)
    log = read_log(machine.folder(described.trial))
    method, noisy = made.method, made.noisy_labels
    # Only where it is needed: it keeps the method, with all past outputs, in the device's memory.
    log_f = method.log_f if method.predicts_itself else None
    return Trained(result, log, method.net, made.y, noisy, made.index, made.mean, log_f)
