"""Updaters: one training step on a mini-batch.

A stage names one or several of :data:`KINDS` in ``hyperparameters.toml``. Each adds its part to the
step, so that a stage can both record outputs and use mix-up.
"""

import numpy as np
from chainer import training

from chainer_jo import paper
from chainer_jo.functions import epoch_sums
from chainer_jo.functions.losses import mix_up
from chainer_jo.methods.base import Batch
from chainer_jo.training import evaluation, state
from chainer_jo.training.processes import ALONE


class StageUpdater(training.updaters.StandardUpdater):
    """Trains a method through one stage.

    :meth:`update_core` makes the iterator write everything that changes between steps into arrays
    with fixed addresses. :meth:`step` reads it from there, so that it can be captured as a CUDA
    graph.

    Args:
        iterator (TableIterator): Iterator of the stage.
        optimizer (chainer.Optimizer): Optimizer, set up with the method, which is at its stage.
        capture (callable): ``capture(step, changing)`` returns a function to call instead of
            ``step``; ``changing`` returns the arrays that a step changes. ``None`` for no capture.
            See :func:`chainer_jo.backends.capturer`.
        ranks (Alone or Ranks): The processes that take each step together.

    Attributes:
        method (Method): The method that is trained.
        captured (callable): The function that ``capture`` returned, or ``None``.
        sums (array): Loss, images and hits, summed over the steps of this epoch; of this rank only,
            until the epoch ends.
        in_epoch_end (bool): Whether a snapshot was taken after the last step of an epoch, but
            before the end of that epoch was processed. The next update then trains nothing.
    """

    def __init__(self, iterator, optimizer, capture=None, ranks=ALONE):
        # Without this Chainer would call optimizer.new_epoch(), which counts epochs a second time.
        super().__init__(iterator, optimizer, auto_new_epoch=False)
        self.method, self.optimizer, self.iterator = optimizer.target, optimizer, iterator
        self.ranks = ranks
        # Summed on the device and read once per epoch: reading a loss waits for the device.
        self.sums = self.method.device.send(np.zeros(3))
        self.captured = capture(self.step, self.changing) if capture else None
        self.in_epoch_end = False

    @property
    def row(self):
        """The row of :class:`EpochTables` of the current step."""
        return self.iterator.row

    def changing(self):
        """Returns the arrays that a step may change: all arrays of a snapshot."""
        return list(state.arrays(self).values())

    def restored(self, epochs):
        """Called after a restore from a snapshot whose log has ``epochs`` rows of this stage."""
        # One row too few means that the snapshot was taken within the end of an epoch.
        self.in_epoch_end = epochs < self.epoch

    def update(self):
        if self.in_epoch_end:
            self.in_epoch_end = False
        else:
            super().update()

    def update_core(self):
        if self.is_new_epoch:
            # In place, as everywhere: a captured step reads and writes fixed addresses.
            self.sums[...] = 0
        next(self.iterator)
        (self.captured or self.step)()

    def step(self):
        """Runs on the device only: never waits for it, and takes no value from the host."""
        batch = self.batch()
        loss, log_f = self.method(batch)
        # cleargrads, not zerograds: Chainer then stores the first gradient instead of adding it to
        # zeros.
        self.method.cleargrads()
        loss.backward()
        self.method.after_backward(batch)
        self.ranks.mean_gradients(self.method)
        self.optimizer.update()
        # Outputs of the forward pass, from before the update: they cost nothing extra (D-03).
        self.record(batch, log_f)
        epoch_sums.add(self.sums, loss, log_f, batch.y)

    def batch(self):
        """Returns the augmented :class:`Batch` of the current row."""
        index = self.row.index
        return Batch(self.iterator.images(), index, self.method.labels.y[index])

    def record(self, batch, log_f):
        """Called after each step with the outputs from before the update; does nothing here."""

    def correct_labels(self):
        """Called after each epoch to change labels; does nothing here."""

    def report(self):
        """Returns the epoch's mean ``main/loss`` and ``main/accuracy``, a fraction.

        If any image could not be read, ``unreadable`` is their number.
        """
        loss, images, hits = self.sums.tolist()
        seen = {'main/loss': loss / images, 'main/accuracy': hits / images}
        # Told in the log, because a trial without these images could not be repeated.
        lost = len(self.iterator.dataset.lost)
        return seen | ({'unreadable': lost} if lost else {})

    def finalize(self):
        super().finalize()
        # Frees the memory of the captured graph, which also refers to this updater.
        self.captured = None

    def serialize(self, serializer):
        super().serialize(serializer)
        self.sums = serializer('sums', self.sums)


class LabelCorrectionUpdater(StageUpdater):
    """Step 1 (Algorithm 1): records the net's outputs and corrects the labels after each epoch.

    Its stage has ``window`` (D-02), ``label_pass`` (D-03), ``begin`` (D-04) and ``labels`` (D-01).
    """

    def record(self, batch, log_f):
        super().record(batch, log_f)
        if self.method.hyper.label_pass == 'train':
            # Each output is stored under the epoch to which its image belongs, because the last
            # batch of an epoch already has images of the next (D-35).
            f = self.method.xp.exp(log_f.array)
            # Every rank records all outputs, so that all ranks have the same labels.
            outputs = map(self.ranks.gather, (f, batch.index, self.row.turn))
            self.method.labels.record(*outputs)

    def correct_labels(self):
        super().correct_labels()
        hyper, labels = self.method.hyper, self.method.labels
        if hyper.label_pass == 'eval':
            # Chainer has already counted the epoch that has just ended.
            f = evaluation.outputs(self.method, self.iterator.dataset, ranks=self.ranks)
            labels.record_all(f, self.epoch - 1)
        if self.epoch >= hyper.begin:
            labels.average_outputs(hard=hyper.labels == 'hard')


class MixUpUpdater(StageUpdater):
    """Step 2 (Algorithm 2): mixes the images of every batch, Eq. (8).

    Its stage has ``a`` (D-10) and ``mix_lambda`` (D-11).
    """

    def batch(self):
        batch, row = super().batch(), self.row
        # `x` and `y` stay unmixed: L_c uses them, and L_mix mixes the labels itself.
        batch.partner, batch.lam = row.partner, row.lam
        batch.x_mixed = mix_up(batch.x, row.partner, row.lam)
        return batch


KINDS = {'label_correction': LabelCorrectionUpdater, 'mix_up': MixUpUpdater}


def kind(names):
    """Returns the updater class that combines the named kinds; :class:`StageUpdater` if none."""
    if not names:
        return StageUpdater
    for name in names:
        if name not in KINDS:
            raise paper.unknown('updater', name, KINDS)
    # Every base calls super(), so a subclass of several does what each of them does.
    parts = tuple(KINDS[name] for name in names)
    return parts[0] if len(parts) == 1 else type('And'.join(p.__name__ for p in parts), parts, {})
