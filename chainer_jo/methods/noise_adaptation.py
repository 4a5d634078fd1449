"""Noise-adaptation layer: learns how labels are flipped while it learns to classify.

Paper      Sukhbaatar, Bruna, Paluri, Bourdev, Fergus. Training Convolutional Networks with Noisy
           Labels. ICLR 2015 workshop. arXiv 1406.2080
Idea       A layer Q after the softmax turns the probabilities of the true classes into those of the
           noisy labels. Train without it first, then both together. Many pairs of net and Q explain
           the labels; the penalty looks for the Q with the smallest trace. Test without it.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C)
           Q_ij = P(noisy = j | true = i), rows sum to 1: the softmax of free logits
           L = -1/n sum_i log (Q^T f(x_i))_y + penalty tr(Q)
Differs    The paper gives neither our schedule nor the form of Q: softmax rows, which start at
           `initial` times the identity before the softmax, are ours. Weight decay acts on the
           logits too (D-17), which draws Q to uniform rows. A penalty that is too
           large makes the layer swap classes, since the trace of such a Q is smaller still.
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
            # Present from the first stage on, though unused: earlier snapshots would lack a
            # parameter that came later.
            self.logits = chainer.Parameter(np.zeros((self.n_class, self.n_class), 'f'))

    def begin(self, stage):
        super().begin(stage)
        if stage == 'adapt':
            # Also called on resume; the snapshot is read afterwards and overwrites this.
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
        # Rows of Q are softmax and f sums to 1, so no entry is 0.
        log_noisy = F.log(product(F.exp(log_f), Q))
        return cross_entropy(batch.y, log_noisy) + self.hyper.penalty * trace, log_f
