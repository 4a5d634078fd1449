"""One mini-batch: draw by the epoch's tables, augment, loss of the stage, backward, step."""

import chainer
import numpy as np
from chainer import training

from chainer_jo.datasets.augment import augment
from chainer_jo.methods.base import Batch
from chainer_jo.training import tables


class StageUpdater(training.Updater):
    """Trains a method through one stage.

    Nothing is drawn here: row ``iteration`` of the epoch's tables says which images a step takes,
    and how they are cropped and flipped.

    Args:
        method (Method): Already at its stage.
        optimizer (chainer.Optimizer): Set up with ``method``.
        data (TrialData): Training images and their mean, on the method's device.
        config (TrialConfig): Seed, batch size, crops.
    """

    def __init__(self, method, optimizer, data, config):
        self.method, self.optimizer, self.data, self.config = method, optimizer, data, config
        self.iteration = self.epoch = 0
        self.is_new_epoch = False
        # Sums over the steps of this epoch: loss, images, hits. Read once an epoch.
        self.sums = method.xp.zeros(3, np.float64)
        self._tables = None

    @property
    def epoch_detail(self):
        return self.iteration * self.config.common['batch_size'] / len(self.data.images)

    def first_iteration(self, epoch):
        """Returns the first iteration of ``epoch`` (0 for the first)."""
        return -(-epoch * len(self.data.images) // self.config.common['batch_size'])

    def update(self):
        if self.is_new_epoch:
            self.sums[...] = 0
        if self._tables is None or self.is_new_epoch:
            self._tables = self.draw().to_device(self.method.device)
        self.update_core(self.iteration - self.first_iteration(self.epoch))
        self.iteration += 1
        self.is_new_epoch = self.iteration == self.first_iteration(self.epoch + 1)
        self.epoch += self.is_new_epoch

    def draw(self):
        """Returns the host's :class:`EpochTables` of the current epoch."""
        config, n = self.config, len(self.data.images)
        return tables.draw(config.seed, self.method.stage, self.epoch, n, config.common)

    def update_core(self, row):
        batch = self.batch(row)
        loss, log_f = self.method(batch)
        self.method.cleargrads()
        loss.backward()
        self.method.after_backward(batch)
        self.optimizer.update()
        self.record(batch, row, log_f)
        hits = log_f.array.argmax(axis=1) == batch.y.argmax(axis=1)
        self.sums[0] += loss.array * len(hits)
        self.sums[1] += len(hits)
        self.sums[2] += hits.sum()

    def batch(self, row):
        """Returns the augmented :class:`Batch` of one row of the tables."""
        t, data = self._tables, self.data
        x = augment(
            data.images, data.mean, t.index[row], t.offset[row], t.flip[row],
            self.config.common['pad'],
        )  # fmt: skip
        return Batch(x, t.index[row], self.method.labels.y[t.index[row]])

    def record(self, batch, row, log_f):
        """Called after each step with the outputs that the net had before it."""

    def report(self):
        """Returns the epoch's mean ``main/loss`` and ``main/accuracy`` (fraction)."""
        loss, images, hits = (float(value) for value in self.sums)
        return {'main/loss': loss / images, 'main/accuracy': hits / images}

    def get_optimizer(self, name):
        return self.optimizer

    def get_all_optimizers(self):
        return {'main': self.optimizer}

    def finalize(self):
        self._tables = None

    def serialize(self, serializer):
        self.iteration = int(serializer('iteration', self.iteration))
        self.epoch = int(serializer('epoch', self.epoch))
        self.is_new_epoch = bool(serializer('is_new_epoch', self.is_new_epoch))
        self.sums = serializer('sums', self.sums)
        self.optimizer.serialize(serializer['optimizer'])
        self.method.serialize(serializer['method'])


class LabelCorrectionUpdater(StageUpdater):
    """Step 1 (Algorithm 1): records the net's outputs in training into the label store."""

    def record(self, batch, row, log_f):
        if self.method.hyper.label_pass == 'train':
            f = self.method.xp.exp(log_f.array)
            self.method.labels.record(f, batch.index, self._tables.turn[row])


class MixUpUpdater(StageUpdater):
    """Step 2 (Algorithm 2): gives every batch its mix-up partners and weights."""

    def draw(self):
        drawn, hyper = super().draw(), self.method.hyper
        tables.add_mixing(
            drawn, self.config.seed, self.method.stage, self.epoch, hyper.a, hyper.mix_lambda
        )
        return drawn

    def batch(self, row):
        batch = super().batch(row)
        batch.partner, batch.lam = self._tables.partner[row], self._tables.lam[row]
        return batch


def create(method, data, config):
    """Returns the updater that the method's current stage asks for, with a fresh optimizer.

    A stage with a ``window`` records outputs, one with an ``a`` mixes.
    """
    common = config.common
    optimizer = chainer.optimizers.MomentumSGD(momentum=common['momentum']).setup(method)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(common['weight_decay']))
    stage = method.stages[method.stage]
    kinds = {'window': LabelCorrectionUpdater, 'a': MixUpUpdater}
    kind = next((kind for key, kind in kinds.items() if key in stage), StageUpdater)
    return kind(method, optimizer, data, config)
