"""Labels that are corrected by the net's own past outputs, for use without a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainer_jo.api import checks
from chainer_jo.errors import ConfigError
from chainer_jo.links import label_store


class LabelStore:
    """Soft labels of all training images, and the past outputs that replace them (Algorithm 1).

    Args:
        labels: Noisy labels, ``(N,)``, integers in ``[0, n_class)``.
        n_class: Number of classes ``C``.
        window: How many past outputs of an image are averaged: 10 in Tanaka's public code (D-02);
            ``'all'`` averages every output since the first.

    Attributes:
        link: The Chainer Link that holds the arrays, to send to a device or to serialize.

    Raises:
        ConfigError: The labels or the window are not as described.

    >>> import chainer_jo, numpy as np
    >>> store = chainer_jo.LabelStore([0, 1], n_class=2, window=2)
    >>> store.record(np.array([[0.5, 0.5], [0.75, 0.25]], np.float32), [0, 1], epoch=0)
    >>> store.record(np.array([[0.25, 0.75], [1, 0]], np.float32), [0, 1], epoch=1)
    >>> store.correct()
    array([[0.375, 0.625],
           [0.875, 0.125]], dtype=float32)
    """

    def __init__(
        self,
        labels: Sequence[int] | NDArray[np.integer],
        n_class: int,
        window: int | str = 10,
    ) -> None:
        if window != 'all':
            checks.whole(window, "window, unless it is 'all',", 1)
        self.link = label_store.LabelStore(checks.labels(labels, n_class), n_class, window)

    @property
    def y(self) -> Any:
        """A copy of the labels, ``(N, C)``, float32, rows that sum to 1; one-hot at first."""
        return self.link.y.copy()

    def record(self, f: Any, index: Any, epoch: int) -> None:
        """Records outputs of the net.

        Args:
            f: ``(B, C)``, float32, rows that sum to 1, such as the output of a softmax.
            index: The image of each output, ``(B,)``, integers in ``[0, N)``; each at most twice.
            epoch: The epoch, counted from 0. An output replaces that of the same image in the same
                epoch, and that of ``window`` epochs before. With ``'all'`` it replaces none: the
                mean is over all outputs recorded, whatever their epoch.

        Raises:
            ConfigError: Shapes, dtypes or values are not as described.
        """
        n, n_class = self.link.y.shape
        index = self.link.xp.asarray(index)
        if index.ndim != 1 or index.dtype.kind not in 'iu':
            raise ConfigError(
                'index must be one integer per output',
                seen=f'shape {index.shape}, {index.dtype}',
                fix='pass the positions of the images in the training set, (B,)',
            )
        checks.rows(f, 'f', (len(index), n_class))
        if not 0 <= int(index.min()) <= int(index.max()) < n:
            raise ConfigError(
                f'an index is out of range for {n} images',
                seen=f'from {index.min()} to {index.max()}',
                fix=f'number the images from 0 to {n - 1}',
            )
        # Unsigned positions would turn into floats when numbers are added to them.
        index = index.astype('i')
        turn = self.link.xp.full(len(index), checks.whole(epoch, 'epoch', 0), 'i')
        self.link.record(f, index, turn)

    def correct(self, hard: bool = False) -> Any:
        """Replaces every label by the mean of its recorded outputs, and returns all labels.

        Args:
            hard: Whether to keep only the most likely class, as in Algorithm 1 (D-01).

        Returns:
            ``(N, C)``, float32: :attr:`y`.

        Raises:
            ConfigError: No output was recorded for some image.
        """
        # An error only here: in training an epoch may draw some of the images only, and the others
        # keep their labels.
        missing = ~self.link.past.recorded()
        if missing.any():
            raise ConfigError(
                'labels can be corrected only after an output of every image was recorded',
                seen=f'no output for {int(missing.sum())} images, the first is {missing.argmax()}',
                fix='record the outputs of at least one whole epoch first',
            )
        self.link.average_outputs(hard)
        return self.y
