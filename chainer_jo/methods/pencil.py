"""PENCIL: labels as parameters, learned by gradient descent ("PENCIL" in the tables).

Paper      Yi, Wu. Probabilistic End-to-end Noise Correction for Learning with Noisy Labels.
           CVPR 2019. arXiv 1903.07788
Idea       Train on the noisy labels at a high learning rate; then train net and labels together,
           where each label is pulled towards the net's output and held back by the given label;
           then train the net alone.
Symbols    f = softmax output (B, C);  yt = label logits, at first K times one-hot
           y^d = softmax(yt);  L_c = KL(f || y^d);  L_o = -log y^d at the noisy label
           L_e = entropy of f;  c = C
           L = 1/c L_c + alpha L_o + beta/c L_e;  yt <- yt - lambda dL/dyt
Differs    D-16 (the momentum is 0 at the start of each stage). The public code has two slips, which
           are settings here: it applies a second softmax in L_o (`softmax` = "twice"), and
           floor-divides the last learning rate, 0.2 // 10 = 0 (`division` = "floor"). All batches
           are full here; in a smaller one the labels would take larger steps, and beyond lambda
           (1/c + alpha) / B = 2 they overshoot (D-50). Not all of the
           paper's settings could be confirmed: see `evidence` in [[pencil_settings]].
"""

import chainer
import chainer.functions as F
import numpy as np

from chainer_jo.functions import scatter
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.functions.losses import cross_entropy, entropy
from chainer_jo.methods.base import Method

#: Labels that are computed at a time: all would take half as much memory again.
BLOCK = 1 << 16


def reversed_kl(log_f, log_yd):
    """``L_c = 1/n sum_i KL(f(x_i) || y^d_i)``, nats; both Variables ``(B, C)``."""
    return F.sum(F.exp(log_f) * (log_f - log_yd)) / len(log_f)


class Pencil(Method):
    def setup(self, noisy_labels, T):
        self.labels.add_persistent('noisy', self.labels.y.copy())
        K = np.float32(self.stages['correct']['K'])
        self.labels.add_persistent('logits', K * self.labels.y)
        self.add_persistent('lam', np.zeros((), 'f'))

    def begin(self, stage):
        super().begin(stage)
        if stage == 'correct':
            # Also called on a resume; then the snapshot is loaded later and overwrites this.
            self.lam[...] = self.hyper.lambda_first

    def warm_up(self, batch):
        log_f = self.log_f(batch.x)
        return cross_entropy(batch.y, log_f), log_f

    def correct(self, batch):
        log_f, c = self.log_f(batch.x), self.n_class
        # A Variable, so that `backward` stores the gradient of the labels in it. Not a Parameter of
        # the optimizer: label logits have their own learning rate, and no momentum or weight decay.
        self.yt = chainer.Variable(self.labels.logits[batch.index])
        log_yd = log_softmax(self.yt)
        L_c, L_e = reversed_kl(log_f, log_yd), entropy(log_f)
        L_o = self._compatibility(self.labels.noisy[batch.index], log_yd)
        return L_c / c + self.hyper.alpha * L_o + self.hyper.beta / c * L_e, log_f

    def _compatibility(self, noisy, log_yd):
        if self.hyper.softmax == 'twice':
            log_yd = log_softmax(F.exp(log_yd))
        return cross_entropy(noisy, log_yd)

    def after_backward(self, batch):
        if self.stage == 'correct':
            # An image that is in the batch twice takes both steps, in the same order on any device.
            index = self.gather(batch.index)
            # Each process divides its loss by the number of images in its own part.
            share = len(batch.index) / len(index)
            step = -self.lam * share * self.gather(self.yt.grad)
            self.labels.change(lambda: scatter.add(self.labels.logits, index, step))

    def end_epoch(self, epoch, probe):
        if self.stage == 'correct':
            # What is logged and saved as labels; the losses read the logits.
            self.labels.change(self._write_labels)
            self.lam[...] = self._lam(epoch)

    def _write_labels(self):
        for begin in range(0, len(self.labels.y), BLOCK):
            rows = slice(begin, begin + BLOCK)
            self.labels.y[rows] = F.softmax(self.labels.logits[rows]).array

    def _lam(self, epoch):
        """Returns lambda after ``epoch`` epochs: linear, or a single jump (D-52)."""
        first, last = self.hyper.lambda_first, self.hyper.lambda_last
        jump = getattr(self.hyper, 'lambda_jump', None)
        if jump is not None:
            return last if epoch >= jump else first
        return first + epoch / self.hyper.epochs * (last - first)

    def fine_tune(self, batch):
        log_f = self.log_f(batch.x)
        # An array, not a Variable: labels do not change in this stage.
        log_yd = log_softmax(self.labels.logits[batch.index])
        return reversed_kl(log_f, log_yd) / log_f.shape[1], log_f
