"""One mini-batch: read the step's row, loss of the stage, backward, step of the optimizer.

A stage names its updater in ``hyperparameters.toml``, one of :data:`KINDS` or several: each adds
its own part to the step, so that a stage can both record outputs and mix.
"""

import numpy as np
from chainer import training

from chainer_jo.functions import epoch_sums
from chainer_jo.functions.losses import mix_up
from chainer_jo.methods.base import Batch
from chainer_jo.training import evaluation, state
from chainer_jo.training.processes import ALONE


class StageUpdater(training.updaters.StandardUpdater):
    """Trains a method through one stage.

    :meth:`update_core` lets the iterator put all that changes from one step to the next into
    arrays, and :meth:`step` reads it there, so that a step can be captured.

    Args:
        iterator (TableIterator): Of the stage.
        optimizer (chainer.Optimizer): Set up with the method, which is at its stage.
        capture (callable): None, or takes a step and a function that returns the arrays that it
            changes, and returns what is called in the step's place; see
            :func:`chainer_jo.backends.capturer`.
        ranks (Alone or Ranks): The processes that take each step together.

    Attributes:
        method (Method): What is trained.
        captured (callable): What ``capture`` returned, or None.
        sums (array): Over the steps of this epoch: loss, images, hits. Read once an epoch. Of this
            rank's images, until the epoch ends.
        in_epoch_end (bool): Whether the step before is done and the end of its epoch is not: the
            next update is that step's, and does nothing.
    """

    def __init__(self, iterator, optimizer, capture=None, ranks=ALONE):
        # Chainer would count epochs in the optimizer, too.
        super().__init__(iterator, optimizer, auto_new_epoch=False)
        self.method, self.optimizer, self.iterator = optimizer.target, optimizer, iterator
        self.ranks = ranks
        # On the device, and read once per epoch: reading each step's loss would mean waiting for
        # it.
        self.sums = self.method.device.send(np.zeros(3))
        self.captured = capture(self.step, self.changing) if capture else None
        self.in_epoch_end = False

    @property
    def row(self):
        """The :class:`EpochTables` row of the present step."""
        return self.iterator.row

    def changing(self):
        """Returns the arrays that a step changes: those of a snapshot."""
        return list(state.arrays(self).values())

    def restored(self, epochs):
        """Called after it was read from a snapshot that knows the rows of so many epochs."""
        self.in_epoch_end = epochs < self.epoch

    def update(self):
        if self.in_epoch_end:
            self.in_epoch_end = False
        else:
            super().update()

    def update_core(self):
        if self.is_new_epoch:
            # In place, here as everywhere: a captured step reads and writes fixed addresses.
            self.sums[...] = 0
        next(self.iterator)
        (self.captured or self.step)()

    def step(self):
        """The part on the device: never waits for it, and takes nothing from the host."""
        batch = self.batch()
        loss, log_f = self.method(batch)
        # None, not zero: Chainer then keeps the first gradient instead of adding it to zeros.
        self.method.cleargrads()
        loss.backward()
        self.method.after_backward(batch)
        self.ranks.mean_gradients(self.method)
        self.optimizer.update()
        # The outputs of the forward pass, from before the step: they cost nothing extra (D-03).
        self.record(batch, log_f)
        epoch_sums.add(self.sums, loss, log_f, batch.y)

    def batch(self):
        """Returns the augmented :class:`Batch` of the row."""
        index = self.row.index
        return Batch(self.iterator.images(), index, self.method.labels.y[index])

    def record(self, batch, log_f):
        """Called after each step with the outputs that the net had before it."""

    def correct_labels(self):
        """Called after each epoch; labels change here."""

    def report(self):
        """Returns the epoch's mean ``main/loss`` and ``main/accuracy`` (fraction)."""
        loss, images, hits = self.sums.tolist()
        return {'main/loss': loss / images, 'main/accuracy': hits / images}

    def finalize(self):
        super().finalize()
        # The captured graph has its own memory, and refers to this updater.
        self.captured = None

    def serialize(self, serializer):
        super().serialize(serializer)
        self.sums = serializer('sums', self.sums)


class LabelCorrectionUpdater(StageUpdater):
    """Step 1 (Algorithm 1): records the net's outputs and, at an epoch's end, corrects the labels.

    Its stage has ``window`` (D-02), ``label_pass`` (D-03), ``begin`` (D-04) and ``labels`` (D-01).
    """

    def record(self, batch, log_f):
        super().record(batch, log_f)
        if self.method.hyper.label_pass == 'train':
            # Each output is stored under the epoch in which its image was drawn: the last batch of
            # an epoch already holds images of the next (D-35).
            f = self.method.xp.exp(log_f.array)
            # Every rank records all outputs: they all hold the same labels.
            outputs = map(self.ranks.gather, (f, batch.index, self.row.turn))
            self.method.labels.record(*outputs)

    def correct_labels(self):
        super().correct_labels()
        hyper, labels = self.method.hyper, self.method.labels
        if hyper.label_pass == 'eval':
            # Chainer has already counted the epoch that ended with this step.
            labels.record_all(
                evaluation.outputs(self.method, self.iterator.dataset), self.epoch - 1
            )
        if self.epoch >= hyper.begin:
            labels.average_outputs(hard=hyper.labels == 'hard')


class MixUpUpdater(StageUpdater):
    """Step 2 (Algorithm 2): mixes the images of every batch, Eq. (8).

    Its stage has ``a`` (D-10) and ``mix_lambda`` (D-11).
    """

    def batch(self):
        batch, row = super().batch(), self.row
        # `x` and `y` stay unmixed: L_c needs them so, and L_mix mixes the labels itself.
        batch.partner, batch.lam = row.partner, row.lam
        batch.x_mixed = mix_up(batch.x, row.partner, row.lam)
        return batch


KINDS = {'label_correction': LabelCorrectionUpdater, 'mix_up': MixUpUpdater}


def kind(names):
    """Returns the updater class that has all the named parts; without names, the plain one."""
    if not names:
        return StageUpdater
    # Every base calls super(), so a class with several of them does what each does.
    parts = tuple(KINDS[name] for name in names)
    return parts[0] if len(parts) == 1 else type('And'.join(p.__name__ for p in parts), parts, {})
