"""The labels in training, and the past outputs from which they are corrected."""

import chainer
import numpy as np

from chainer_jo import backends
from chainer_jo.functions import scatter


class LabelStore(chainer.Link):
    """Soft labels ``y`` and the net's last outputs for every training image.

    All of it is persistent, hence in every snapshot: a resumed run keeps its labels.

    Args:
        labels (numpy.ndarray): Noisy labels, shape ``(N,)``, integers in ``[0, C)``.
        n_class (int): ``C``.
        window (int): Number of past outputs kept for each image; 0 for none.

    Attributes:
        y (array): ``(N, C)``, float32, rows that sum to 1. One-hot noisy labels at first.
        history (array): ``(window, N, C)``, float32: a ring of outputs, zero where none is yet.
    """

    def __init__(self, labels, n_class, window=0):
        super().__init__()
        self.add_persistent('y', np.eye(n_class, dtype='f')[labels])
        self.add_persistent('history', np.zeros((window, len(labels), n_class), 'f'))

    def record(self, f, index, turn):
        """Records outputs ``f`` (B, C) of images ``index`` (B,) in their epochs ``turn`` (B,)."""
        window, n, n_class = self.history.shape
        if not window:
            return
        if record := backends.op('record', self.history, f):
            record(self.history, f, index, turn)
        else:
            scatter.put(self.history.reshape(-1, n_class), turn % window * n + index, f)

    def record_all(self, f, turn):
        """Records outputs ``f`` (N, C) of all images in epoch ``turn``, an integer."""
        if len(self.history):
            self.history[turn % len(self.history)] = f

    def average_outputs(self, hard=False):
        """Replaces every label by the mean of its recorded outputs (Sec. 3.1; D-01, D-02).

        Args:
            hard (bool): Whether to keep only the most likely class, as Algorithm 1 has it.
        """
        total = self.history.sum(axis=0)
        # The sum of the rows counts the filled slots, which are fewer than the window at first.
        self.y[...] = total / total.sum(axis=1, keepdims=True)
        if hard:
            self.y[...] = self.xp.eye(self.y.shape[1], dtype='f')[self.y.argmax(axis=1)]
