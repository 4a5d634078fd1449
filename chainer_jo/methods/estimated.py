"""The stage that estimates the transition matrix, for all methods that need an estimate."""

import numpy as np

from chainer_jo.functions.anchors import estimate_transition
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.functions.losses import cross_entropy
from chainer_jo.methods.base import Method


class EstimatedTransition(Method):
    """Trains on the noisy labels, estimates ``T`` from the outputs, and passes it to ``know(T)``.

    A mixin for a method that has ``know``; the method never sees the true ``T``. The estimate comes
    from the epoch with the best validation accuracy. Later the net memorises the noisy labels, and
    its outputs no longer tell ``P(noisy | x)``.
    """

    @classmethod
    def uses_true_T(cls, stages):
        return False

    def setup(self, noisy_labels, T):
        # The identity: no correction until the noise has been estimated.
        super().setup(noisy_labels, np.eye(self.n_class))
        self.add_persistent('best_accuracy', np.full((), -1.0))

    def estimate(self, batch):
        log_f = log_softmax(self.net(batch.x))
        return cross_entropy(batch.y, log_f), log_f

    def end_epoch(self, epoch, probe):
        if self.stage != 'estimate':
            super().end_epoch(epoch, probe)
        elif probe.validation_accuracy > self.best_accuracy:
            # `know` writes to the method's own matrix, which the next stage and snapshots read.
            share = self.labels.y.mean(axis=0)
            self.know(estimate_transition(probe.outputs(), self.hyper.drop, share))
            self.best_accuracy[...] = probe.validation_accuracy
