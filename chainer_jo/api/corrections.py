"""Finds and corrects wrong labels of your own images, given as arrays."""

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
    """What :func:`correct` found out about the labels of ``N`` images.

    Attributes:
        labels: The corrected ones, ``(N,)``, int32: as given where ``is_label_issue`` is false.
        predicted_label: The likeliest class, ``(N,)``, int32.
        label_score: The probability that the given label is right, ``(N,)``, float32; low is bad.
        is_label_issue: Whether the given label is taken for wrong, ``(N,)``, bool.
        entropy: Of ``probabilities``, in nats, ``(N,)``, float32.
        probabilities: Of the classes, ``(N, C)``, float32, rows that sum to 1.
        held_out: Which images were not trained on, ``(N,)``, bool.
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
        """Returns the probabilities of the classes of new images, ``(B, C)``, float32.

        Args:
            images: ``(B, channels, H, W)``, uint8, of the size that was trained on.

        Raises:
            ConfigError: They are of another dtype or size.
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

    It trains the paper's method with a small net, and holds out one image of ten to watch it. On
    folders of files ``python -m chainer_jo correct`` does the same. To be called from the main
    thread: Ctrl-C takes a snapshot before it stops.

    Args:
        images: ``(N, channels, H, W)``, uint8, 1 or 3 channels.
        labels: Perhaps wrong, ``(N,)``, integers in ``[0, C)``.
        known: Which labels are known to be right, ``(N,)``; none by default. The net is trained on
            them as they are, and they are no issue.
        threshold: A label with a score below it, and not the likeliest class, is an issue.
        seed: Drives every random choice.
        overrides: ``'section.key=value'`` over the preset ``correct``.
        out: Folder of results, in which a run that was killed goes on; ``None`` keeps nothing.
        device: ``'auto'``, ``'cpu'`` or ``'cuda:N'``.
        backend: As for :func:`train`.
        on_epoch: Called with the log row of each epoch.

    Raises:
        ChainerJoError: The arguments are not as above, training diverged, or a signal stopped it.

    >>> import chainer_jo, numpy as np
    >>> true = np.arange(200) % 2  # Dark and bright images; each fiftieth label is wrong.
    >>> noise = np.random.default_rng(0).integers(0, 40, (200, 1, 8, 8))
    >>> images = (200 * true[:, None, None, None] + noise).astype(np.uint8)
    >>> labels = np.where(np.arange(200) % 50 == 5, 1 - true, true)
    >>> small = ['net.filters=[8, 8, 8, 8]', 'common.batch_size=16']
    >>> found = chainer_jo.correct(images, labels, overrides=small, device='cpu')
    >>> np.flatnonzero(found.is_label_issue), bool((found.labels == true).all())
    (array([  5,  55, 105, 155]), True)
    """
    dataset = image_set(images, labels)
    labels = dataset.train.labels
    if len(np.unique(labels)) < 2:
        raise ConfigError(
            'all labels are of one class', seen=f'class {labels[0]}', fix='bring images of another'
        )
    if not 0 <= checks.positive(threshold, 'threshold') <= 1:
        raise ConfigError(
            'the threshold is a fraction', seen=f'{threshold}', fix='write for example 0.8'
        )
    known = np.zeros(len(labels), bool) if known is None else np.asarray(known)
    if known.shape != labels.shape or known.dtype != bool:
        raise ConfigError(
            'known says of every label whether it is right',
            seen=f'{known.dtype} {known.shape}',
            fix=f'give {len(labels)} of True and False',
        )
    if known.any():
        dataset = replace(dataset, known=known)
    described = corrections.describe(dataset, labels, seed, overrides)
    with in_folder(out) as folder:
        where = Machine(folder, None, device, backend)
        trained = corrections.run(described, dataset, labels, where, observer(on_epoch))
    groups = image_folder.same([hashlib.sha256(image).digest() for image in dataset.train.images])
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
