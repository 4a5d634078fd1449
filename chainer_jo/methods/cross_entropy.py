"""Cross entropy on the noisy labels.

Paper      Zhang et al., Improved Mix-up with KL-Entropy for Learning From Noisy Labels, Eq. (1)
Idea       Trust the labels. The net learns the clean ones first and memorises the wrong ones when
           the learning rate falls, so `last` is far below `best`.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C)
Differs    D-34 (schedule)
"""

from chainer_jo.functions.losses import cross_entropy
from chainer_jo.methods.base import Method


class CrossEntropy(Method):
    def train(self, batch):
        log_f = self.log_f(batch.x)
        return cross_entropy(batch.y, log_f), log_f
