"""Finds and corrects wrong labels in your own arrays of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainer_jo.api import checks
from chainer_jo.api.trials import image_set, in_folder, observer
from chainer_jo.datasets import image_folder, judgement
from chainer_jo.errors import ConfigError
from chainer_jo.training import corrections
from chainer_jo.training.machine import Machine
from chainer_jo.training.saved_net import SavedNet


@dataclass(eq=False)
class Corrections:
    """What :func:`correct` found in the labels of ``N`` images.

    Attributes:
        labels: Corrected labels, ``(N,)``, int32: ``predicted_label`` where ``is_label_issue`` is
            true and Bayes' rule makes that class more likely than the given label, elsewhere the
            given label.
        predicted_label: The most likely class, ``(N,)``, int32.
        label_score: The probability that the given label is correct, ``(N,)``, float32; low is bad.
        is_label_issue: Whether the given label is judged to be wrong, ``(N,)``, bool.
        entropy: The entropy of each row of ``probabilities``, in nats, ``(N,)``, float32.
        probabilities: Class probabilities, ``(N, C)``, float32, rows that sum to 1.
        held_out: Which images were held out of training, ``(N,)``, bool.
        result: The content of the trial's ``result.json``.
    """

    labels: NDArray[np.int32]
    predicted_label: NDArray[np.int32]
    label_score: NDArray[np.float32]
    is_label_issue: NDArray[np.bool_]
    entropy: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    held_out: NDArray[np.bool_]
    result: dict[str, Any]
    _net: SavedNet

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the class probabilities of new images, ``(B, C)``, float32.

        Args:
            images: ``(B, channels, H, W)``, uint8, of the same size as the training images.

        Raises:
            ConfigError: The images have another dtype or size.
        """
        return self._net.probabilities(checks.images_of(images, self._net.mean.shape))


def correct(
    images: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.integer],
    *,
    known: Sequence[bool] | NDArray[np.bool_] | None = None,
    threshold: float = judgement.THRESHOLD,
    seed: int = 0,
    overrides: Sequence[str] = (),
    out: str | PathLike[str] | None = None,
    device: str = 'auto',
    backend: str = 'auto',
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Corrections:
    """Finds and corrects wrong labels; neither true labels nor a noise rate are needed.

    Trains the paper's method with a small net, and holds out one image in ten for validation. The
    command ``python -m chainer_jo correct`` does the same for folders of image files. In the main
    thread it handles Ctrl-C: with ``out`` it saves a snapshot before it stops.

    Args:
        images: ``(N, channels, H, W)``, uint8, 1 or 3 channels.
        labels: Possibly wrong labels, ``(N,)``, integers in ``[0, C)``.
        known: Which labels are known to be correct, ``(N,)``, bool; none by default. The net is
            trained on these labels as they are, and they are never reported as issues.
        threshold: A label is an issue if its score is below this and it is not the most likely
            class.
        seed: Determines every random choice.
        overrides: ``'section.key=value'`` settings that override the preset ``correct``.
        out: Folder for the results, in which a run that was killed resumes; ``None`` keeps nothing.
        device: ``'auto'``, ``'cpu'`` or ``'cuda:N'``.
        backend: As for :func:`train`.
        on_epoch: Called with the log row of each epoch.

    Raises:
        ChainerJoError: The arguments are not as described, training diverged, or a signal stopped
            the run.

    >>> import chainer_jo, numpy as np
    >>> true = np.arange(200) % 2  # Dark and bright images; every fiftieth label is wrong.
    >>> noise = np.random.default_rng(0).integers(0, 40, (200, 1, 8, 8))
    >>> images = (200 * true[:, None, None, None] + noise).astype(np.uint8)
    >>> labels = np.where(np.arange(200) % 50 == 5, 1 - true, true)
    >>> small = ['net.filters=[8, 8, 8, 8]', 'common.batch_size=16']
    >>> found = chainer_jo.correct(images, labels, overrides=small, device='cpu')
    >>> np.flatnonzero(found.is_label_issue), bool((found.predicted_label == true).all())
    (array([  5,  55, 105, 155]), True)
    """
    dataset = image_set(images, labels)
    labels = dataset.train.labels
    _check_classes(labels)
    checks.fraction(threshold, 'threshold')
    checks.text(device, 'device', 'cpu')
    seed, overrides = checks.whole(seed, 'seed', 0), checks.overrides(overrides)
    known = np.zeros(len(labels), bool) if known is None else checks.array(known, 'known')
    if known.shape != labels.shape or known.dtype != bool:
        raise ConfigError(
            'known must say for each label whether it is correct',
            seen=f'{known.dtype} {known.shape}',
            fix=f'pass {len(labels)} booleans',
        )
    if known.any():
        dataset = replace(dataset, known=known)
    described = corrections.describe(dataset, labels, seed, overrides)
    with in_folder(out) as folder:
        where = Machine(folder, None, device, backend)
        trained = corrections.run(described, dataset, labels, where, observer(on_epoch))
    # Copies of one image are judged together, as `correct` does with copies of a file.
    groups = image_folder.same(
        [hashlib.sha256(image.tobytes()).digest() for image in dataset.train.images]
    )
    judged = judgement.judge(trained.probabilities, labels, threshold, groups, known)
    return Corrections(
        judged.corrected,
        judged.predicted,
        judged.score,
        judged.issue,
        judged.entropy,
        trained.probabilities,
        trained.held_out,
        trained.result,
        trained.net,
    )


def _check_classes(labels):
    # With a single class no label could be judged wrong.
    if len(np.unique(labels)) < 2:
        raise ConfigError(
            'all labels are of one class',
            seen=f'class {labels[0]}',
            fix='add images of another class',
        )
    # With classes that no image has, the net finds few of the wrong labels.
    if len(gaps := np.setdiff1d(np.arange(labels.max()), labels)):
        raise ConfigError(
            f'no image has the label {gaps[0]}',
            seen=f'labels up to {labels.max()}',
            fix='number the classes from 0: classes, labels = np.unique(labels, '
            'return_inverse=True)',
        )
