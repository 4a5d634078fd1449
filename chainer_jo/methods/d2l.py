"""Dimensionality-driven learning (D2L).

Paper      Ma, Wang, Houle, Zhou, Erfani, Xia, Wijewickrema, Bailey. Dimensionality-Driven Learning
           with Noisy Labels. ICML 2018. arXiv 1806.02612
Idea       While a net learns, its features span fewer and fewer dimensions; when it begins to
           memorise, they span more again. From this turning point on, the labels are mixed with
           the net's predictions: more in later epochs, and more at a higher dimensionality.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C);  t of T epochs
           LID_t = local intrinsic dimensionality of the features, mean over some training images
           turning point: LID_t - mean(LID_{t-w..t-1}) > 2 std(LID_{t-w..t-1}), for t >= begin + w
           alpha = exp(-t/T LID_t / min LID);  y* = alpha y + (1 - alpha) onehot(argmax f)
           L = -1/n sum_i sum_j y*_ij log f_j(x_i)
Differs    From the public code: plain cross entropy before the turning point (its versions differ);
           the LID of the untrained net does not count; no return to an earlier net (that code loads
           the current one); the same weight decay as in all methods.
"""

import numpy as np

from chainer_jo.functions.dimensionality import local_intrinsic_dimensionality
from chainer_jo.functions.losses import cross_entropy
from chainer_jo.methods.base import Method


class D2L(Method):
    def setup(self, noisy_labels, T):
        # Of fixed length, since a snapshot holds arrays, not lists that grow.
        self.add_persistent('lid', np.zeros(self.stages['train']['epochs'], 'd'))
        self.add_persistent('alpha', np.ones((), 'f'))

    def train(self, batch):
        log_f = self.log_f(batch.x)
        # From the array, not the Variable: the prediction is part of a label, and no gradient may
        # flow through it.
        guess = self.xp.eye(log_f.shape[1], dtype='f')[log_f.array.argmax(axis=1)]
        return cross_entropy(self.alpha * batch.y + (1 - self.alpha) * guess, log_f), log_f

    def end_epoch(self, epoch, probe):
        self.lid[epoch - 1] = self._mean_lid(probe)
        lid = self.lid[:epoch]
        # There is no way back after the turning point.
        if self.alpha < 1 or self._turns(lid):
            self.alpha[...] = self.xp.exp(-epoch / self.hyper.epochs * lid[-1] / lid.min())

    def _turns(self, lid):
        before = lid[-1 - self.hyper.lid_window : -1]
        long_enough = len(lid) >= self.hyper.begin + self.hyper.lid_window
        return long_enough and lid[-1] - before.mean() > 2 * before.std()

    def _mean_lid(self, probe):
        n, hyper = len(self.labels.y), self.hyper
        index = probe.rng('lid').permutation(n)[: hyper.lid_images]
        features = probe.features(self.xp.asarray(index))
        # Neighbours are searched within groups; the public code searches within mini-batches.
        groups = self.xp.array_split(features, -(-len(index) // hyper.lid_batch))
        lid = [local_intrinsic_dimensionality(group, hyper.neighbours) for group in groups]
        # Without the points that have no estimate, such as copies of one image.
        return self.xp.nanmean(self.xp.concatenate(lid))
