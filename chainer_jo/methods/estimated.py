"""The stage that estimates the transition matrix, for all methods that want one."""

import numpy as np

from chainer_jo.functions.anchors import estimate_transition
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.functions.losses import cross_entropy
from chainer_jo.methods.base import Method


class EstimatedTransition(Method):
    """Trains on the noisy labels, reads ``T`` off the outputs, and hands it to ``know(T)``.

    Mixed in before a method that has ``know``; the true ``T`` is kept from that method. The
    estimate is the one of the epoch with the best validation accuracy: later the net memorises the
    noise and its outputs say nothing of it.
    """

    @classmethod
    def uses_true_T(cls, stages):
        return False

    def setup(self, noisy_labels, T):
        # No correction until the noise has been estimated.
        super().setup(noisy_labels, np.eye(self.n_class))
        self.add_persistent('best_accuracy', np.full((), -1.0))

    def estimate(self, batch):
        log_f = log_softmax(self.net(batch.x))
        return cross_entropy(batch.y, log_f), log_f

    def end_epoch(self, epoch, probe):
        if self.stage != 'estimate':
            super().end_epoch(epoch, probe)
        elif probe.validation_accuracy > self.best_accuracy:
            self.best_accuracy[...] = probe.validation_accuracy
            # In place in the method's own matrix, where the next stage and the snapshot find it.
            self.know(estimate_transition(probe.outputs(), self.hyper.drop))
