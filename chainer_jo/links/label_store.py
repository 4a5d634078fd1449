"""Training labels, and the past outputs from which they are corrected."""

import operator

import chainer
import numpy as np

from chainer_jo import backends
from chainer_jo.functions import scatter


class Window(chainer.Link):
    """The outputs of the last ``length`` epochs for every image, in a ring buffer.

    Attributes:
        history (array): ``(length, N, C)``, float32; zero until there is an output.
    """

    def __init__(self, length, n, n_class):
        super().__init__()
        # A persistent value, not a parameter: it goes to the device and into snapshots, but no
        # optimizer sees it.
        self.add_persistent('history', np.zeros((length, n, n_class), 'f'))

    def record(self, f, index, turn):
        """As :meth:`LabelStore.record`."""
        length, n, n_class = self.history.shape
        if record := backends.op('record', self.history, f):
            record(self.history, f, index, turn)
        else:
            # A flat view indexed by epoch and image, so that even a batch with images of two epochs
            # is one write.
            scatter.put(self.history.reshape(-1, n_class), turn % length * n + index, f)

    def record_all(self, f, turn):
        """As :meth:`LabelStore.record_all`."""
        self.history[turn % len(self.history)] = f

    def mean(self):
        """Returns the mean output for every image, ``(N, C)``, rows that sum to 1.

        The row of an image without outputs is zero.
        """
        total = self.history.sum(axis=0)
        # Each output sums to 1, so the sum of a row counts them; at first there are fewer than the
        # window has slots.
        count = total.sum(axis=1, keepdims=True)
        return total / self.xp.where(count == 0, np.float32(1), count)

    def recorded(self):
        """Returns which images have at least one output, ``(N,)``, bool."""
        return self.history.any(axis=(0, 2))


class AllPast(chainer.Link):
    """The mean over all past outputs, in memory that does not grow with the epochs.

    Attributes:
        total (array): Sum of the outputs for each image, ``(N, C)``, float32.
        count (array): Number of these outputs, ``(N,)``, int32.
    """

    def __init__(self, n, n_class):
        super().__init__()
        self.add_persistent('total', np.zeros((n, n_class), 'f'))
        self.add_persistent('count', np.zeros(n, 'i'))

    def record(self, f, index, turn):
        """As :meth:`LabelStore.record`; ``turn`` does not matter."""
        scatter.add(self.total, index, f)
        # Counted per image: a batch can reach into the next epoch, so the counts may differ by one.
        scatter.add(self.count, index, self.xp.ones(len(index), 'i'))

    def record_all(self, f, turn):
        """As :meth:`LabelStore.record_all`; ``turn`` does not matter."""
        self.total += f
        self.count += 1

    def mean(self):
        """As :meth:`Window.mean`."""
        # Dividing by int32 would make the quotient float64.
        return self.total / self.xp.maximum(self.count, 1)[:, None].astype('f')

    def recorded(self):
        """As :meth:`Window.recorded`."""
        return self.count > 0


class LabelStore(chainer.Chain):
    """Soft labels ``y`` and the net's past outputs for every training image.

    All arrays are persistent values, so every snapshot contains the labels and their history.

    Args:
        labels (numpy.ndarray): Noisy labels, shape ``(N,)``, integers in ``[0, C)``.
        n_class (int): ``C``.
        window (int or str): Number of past outputs kept for each image; 0 for none; ``'all'`` for
            the mean of all of them.

    Attributes:
        y (array): ``(N, C)``, float32, rows that sum to 1. One-hot noisy labels at first.
        pinned (array): Which labels never change, ``(N,)``, bool; ``None`` if all may.
        past (Window or AllPast): The outputs; ``None`` without a window.
        change (callable): Calls a function that changes the arrays. If several processes share the
            arrays, it is replaced by one that makes the call in one process only.
    """

    pinned = None

    def __init__(self, labels, n_class, window=0):
        super().__init__()
        self.change = operator.call
        # Rows of float32 from the start, so that noisy and corrected labels have the same form.
        self.add_persistent('y', np.eye(n_class, dtype='f')[labels])
        n = len(labels)
        with self.init_scope():
            if window == 'all':
                self.past = AllPast(n, n_class)
            else:
                self.past = Window(window, n, n_class) if window else None

    def pin(self, known):
        """Marks labels that :meth:`average_outputs` must not change.

        Args:
            known (numpy.ndarray): Which ones, ``(N,)``, bool. They must still be one-hot.
        """
        self.add_persistent('pinned', known.copy())

    def record(self, f, index, turn):
        """Records outputs ``f`` (B, C) for images ``index`` (B,) in their epochs ``turn`` (B,)."""
        if self.past is not None:
            self.change(lambda: self.past.record(f, index, turn))

    def record_all(self, f, turn):
        """Records outputs ``f`` (N, C) for all images in epoch ``turn``, an integer."""
        if self.past is not None:
            self.change(lambda: self.past.record_all(f, turn))

    def average_outputs(self, hard=False):
        """Replaces every label by the mean of its recorded outputs (Sec. 3.1; D-01, D-02).

        Pinned labels stay as they are, and so do those of images without an output: an epoch may
        draw only some of the images.

        Args:
            hard (bool): Whether to keep only the most likely class, as in Algorithm 1.
        """
        self.change(lambda: self._average_outputs(hard))

    def _average_outputs(self, hard):
        # In place: a captured step reads the labels from this address, and copying a million rows
        # is slow.
        free = self.past.recorded()
        if self.pinned is not None:
            free &= ~self.pinned
        self.xp.copyto(self.y, self.past.mean(), where=free[:, None])
        if hard:
            self.y[...] = self.xp.eye(self.y.shape[1], dtype='f')[self.y.argmax(axis=1)]
