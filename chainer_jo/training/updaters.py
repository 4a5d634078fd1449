"""One mini-batch: draw by the epoch's tables, augment, loss of the stage, backward, step."""

import numpy as np
from chainer import training

from chainer_jo.functions import epoch_sums
from chainer_jo.functions.augment import augment
from chainer_jo.methods.base import Batch
from chainer_jo.training import state, tables
from chainer_jo.training.optimizer import MomentumSGD


class StageUpdater(training.Updater):
    """Trains a method through one stage.

    Nothing is drawn here: row ``iteration`` of the epoch's tables says which images a step takes,
    and how they are cropped and flipped. :meth:`prepare` puts it where :meth:`step` reads it: all
    that changes from one step to the next lies in arrays, so that a step can be captured.

    Args:
        method (Method): Already at its stage.
        optimizer (chainer.Optimizer): Set up with ``method``.
        data (TrialData): Training images and their mean, on the method's device.
        config (TrialConfig): Seed, batch size, crops.
        capture (callable): None, or takes a step and a function that returns the arrays that it
            changes, and returns what is called in the step's place; see
            :func:`chainer_jo.backends.capturer`.

    Attributes:
        row (EpochTables): What the present step takes: one row of each table.
    """

    def __init__(self, method, optimizer, data, config, capture=None):
        self.method, self.optimizer, self.data, self.config = method, optimizer, data, config
        self.iteration = self.epoch = 0
        self.is_new_epoch = False
        # Sums over the steps of this epoch: loss, images, hits. Read once an epoch.
        self.sums = method.device.send(np.zeros(3))
        self.row = self._tables = None
        self._run = capture(self.step, self.changing) if capture else self.step

    @property
    def epoch_detail(self):
        return self.iteration * self.config.common['batch_size'] / len(self.data.images)

    def first_iteration(self, epoch):
        """Returns the first iteration of ``epoch`` (0 for the first)."""
        return -(-epoch * len(self.data.images) // self.config.common['batch_size'])

    def changing(self):
        """Returns the arrays that a step changes: those of a snapshot."""
        return list(state.arrays(self).values())

    def update(self):
        self.prepare()
        self._run()
        self.iteration += 1
        self.is_new_epoch = self.iteration == self.first_iteration(self.epoch + 1)
        self.epoch += self.is_new_epoch

    def prepare(self):
        """The part of a step before the device's: draws an epoch's tables, copies a row."""
        if self.is_new_epoch:
            self.sums[...] = 0
        if self._tables is None or self.is_new_epoch:
            self._tables = self.draw().to_device(self.method.device)
        s = self.iteration - self.first_iteration(self.epoch)
        self.row = self._tables.copy_row(s, self.row)

    def draw(self):
        """Returns the host's :class:`EpochTables` of the current epoch."""
        config, n = self.config, len(self.data.images)
        return tables.draw(config.seed, self.method.stage, self.epoch, n, config.common)

    def step(self):
        """The part on the device: never waits for it, and takes nothing from the host."""
        batch = self.batch()
        loss, log_f = self.method(batch)
        self.method.cleargrads()
        loss.backward()
        self.method.after_backward(batch)
        self.optimizer.update()
        self.record(batch, log_f)
        epoch_sums.add(self.sums, loss, log_f, batch.y)

    def batch(self):
        """Returns the augmented :class:`Batch` of the row."""
        row, data, pad = self.row, self.data, self.config.common['pad']
        x = augment(data.images, data.mean, row.index, row.offset, row.flip, pad)
        return Batch(x, row.index, self.method.labels.y[row.index], row.partner, row.lam)

    def record(self, batch, log_f):
        """Called after each step with the outputs that the net had before it."""

    def report(self):
        """Returns the epoch's mean ``main/loss`` and ``main/accuracy`` (fraction)."""
        loss, images, hits = self.sums.tolist()
        return {'main/loss': loss / images, 'main/accuracy': hits / images}

    def get_optimizer(self, name):
        return self.optimizer

    def get_all_optimizers(self):
        return {'main': self.optimizer}

    def finalize(self):
        # What captured the step has memory of its own, and refers to this updater.
        self._tables = self._run = None

    def serialize(self, serializer):
        self.iteration = int(serializer('iteration', self.iteration))
        self.epoch = int(serializer('epoch', self.epoch))
        self.is_new_epoch = bool(serializer('is_new_epoch', self.is_new_epoch))
        self.sums = serializer('sums', self.sums)
        self.optimizer.serialize(serializer['optimizer'])
        self.method.serialize(serializer['method'])


class LabelCorrectionUpdater(StageUpdater):
    """Step 1 (Algorithm 1): records the net's outputs in training into the label store."""

    def record(self, batch, log_f):
        if self.method.hyper.label_pass == 'train':
            f = self.method.xp.exp(log_f.array)
            self.method.labels.record(f, batch.index, self.row.turn)


class MixUpUpdater(StageUpdater):
    """Step 2 (Algorithm 2): gives every batch its mix-up partners and weights."""

    def draw(self):
        drawn, hyper = super().draw(), self.method.hyper
        tables.add_mixing(
            drawn, self.config.seed, self.method.stage, self.epoch, hyper.a, hyper.mix_lambda
        )
        return drawn


def create(method, data, config, capture=None):
    """Returns the updater that the method's current stage asks for, with a fresh optimizer.

    A stage with a ``window`` records outputs, one with an ``a`` mixes. ``capture``: see
    :class:`StageUpdater`.
    """
    common = config.common
    optimizer = MomentumSGD(common['momentum'], common['weight_decay']).setup(method)
    stage = method.stages[method.stage]
    kinds = {'window': LabelCorrectionUpdater, 'a': MixUpUpdater}
    kind = next((kind for key, kind in kinds.items() if key in stage), StageUpdater)
    return kind(method, optimizer, data, config, capture)
