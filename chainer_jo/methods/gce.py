"""Generalised cross entropy, plain and truncated.

Paper      Zhang, Sabuncu. Generalized Cross Entropy Loss for Training Deep Neural Networks with
           Noisy Labels. NeurIPS 2018. arXiv 1805.07836
Idea       A loss between cross entropy (q -> 0), which fits fast, and mean absolute error (q = 1),
           on which wrong labels have little influence. Truncated: images whose label has an output
           below `k` in the best net so far are left out; the choice is renewed every `prune_every`
           epochs from `prune_from` on.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C);  f_y = f of the label
           L_q(f_y) = (1 - f_y^q) / q;  w = 1 if L_q(f_y) < L_q(k), else 0
           L = 1/n sum_i w_i (L_q(f_y) - L_q(k)), or L_q alone if `truncated` is false
Differs    The best net is the one with the best validation accuracy; the public code takes the best
           test accuracy. w is computed on images without augmentation, in that code on augmented
           ones. The first learning rate is that of cross entropy; there it is 0.01, for ResNet-34.
"""

import chainer.functions as F
import numpy as np

from chainer_jo.methods.base import Method


def L_q(log_f_y, q):
    """``L_q(f_y) = (1 - f_y^q) / q`` for each image, ``(B,)``; ``q`` in ``(0, 1]``."""
    return (1 - F.exp(q * log_f_y)) / q


class GCE(Method):
    def setup(self, noisy_labels, T):
        n = len(noisy_labels)
        # Persistent, so that a resumed trial leaves out the same images; none at first.
        self.add_persistent('w', np.ones(n, 'f'))
        self.add_persistent('best_f_y', np.ones(n, 'f'))
        self.add_persistent('best_accuracy', np.zeros((), 'd'))

    def train(self, batch):
        q, k = self.hyper.q, self.hyper.k
        log_f = self.log_f(batch.x)
        loss = L_q(F.sum(batch.y * log_f, axis=1), q)
        if self.hyper.truncated:
            loss = self.w[batch.index] * (loss - (1 - k**q) / q)
        # Divided by the batch size, as in the equation: the fewer images are left, the smaller the
        # step.
        return F.mean(loss), log_f

    def end_epoch(self, epoch, probe):
        if not self.hyper.truncated:
            return
        if probe.validation_accuracy > self.best_accuracy:
            # Labels are one-hot here, so the sum selects the output of the label.
            self.best_f_y[...] = (self.labels.y * probe.outputs()).sum(axis=1)
            self.best_accuracy[...] = probe.validation_accuracy
        since = epoch - self.hyper.prune_from
        if since >= 0 and since % self.hyper.prune_every == 0:
            # L_q decreases with f_y, so this is L_q(f_y) < L_q(k).
            self.w[...] = self.best_f_y > self.hyper.k
