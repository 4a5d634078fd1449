"""Noise-adaptation layer: learns the transition matrix together with the classifier.

Paper      Sukhbaatar, Bruna, Paluri, Bourdev, Fergus. Training Convolutional Networks with Noisy
           Labels. ICLR 2015 workshop. arXiv 1406.2080
Idea       A layer Q after the softmax turns the probabilities of the true classes into those of the
           noisy labels. Train without it first, then both together. Many pairs of net and Q fit the
           labels equally well; the penalty selects the Q with the smallest trace. Q is not used in
           the test.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C)
           Q_ij = P(noisy = j | true = i), rows sum to 1: the softmax of free logits
           L = -1/n sum_i log (Q^T f(x_i))_y + penalty tr(Q)
Differs    The paper gives neither this schedule nor the form of Q: here its rows are the softmax of
           logits that start at `initial` times the identity. Weight decay acts on these logits too
           (D-17), and pulls Q towards uniform rows. With too large a penalty the layer swaps
           classes, since the trace of such a Q is even smaller.
"""

import chainer
import chainer.functions as F
import numpy as np

from chainer_jo.functions.losses import cross_entropy
from chainer_jo.functions.product import product
from chainer_jo.methods.base import Method


class NoiseAdaptation(Method):
    def setup(self, noisy_labels, T):
        with self.init_scope():
            # Created here although the first stage does not use it: otherwise the snapshots of
            # that stage would lack a parameter.
            self.logits = chainer.Parameter(np.zeros((self.n_class, self.n_class), 'f'))

    def begin(self, stage):
        super().begin(stage)
        if stage == 'adapt':
            # Also called on a resume; then the snapshot is loaded later and overwrites this.
            self.logits.array[...] = self.hyper.initial * self.xp.eye(self.n_class, dtype='f')

    def Q(self):
        """Returns the matrix of the layer, ``(C, C)``, rows that sum to 1."""
        return F.softmax(self.logits)

    def warm_up(self, batch):
        log_f = self.log_f(batch.x)
        return cross_entropy(batch.y, log_f), log_f

    def adapt(self, batch):
        log_f, Q = self.log_f(batch.x), self.Q()
        trace = F.sum(Q * self.xp.eye(self.n_class, dtype='f'))
        # No entry is 0, since the rows of Q are outputs of a softmax and f sums to 1.
        log_noisy = F.log(product(F.exp(log_f), Q))
        return cross_entropy(batch.y, log_noisy) + self.hyper.penalty * trace, log_f
