"""Mix-up alone, on the noisy labels: the control experiment for step 2 of "Our method".

Paper      Zhang, Cisse, Dauphin, Lopez-Paz. mixup: Beyond Empirical Risk Minimization. ICLR 2018.
           arXiv 1710.09412
Idea       Train only on mixtures of two images and their labels. The net rarely sees a wrong label
           unmixed, so it is harder to memorise.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C)
           lam ~ Beta(a, a);  x~ = lam x_i + (1 - lam) x_j;  y~ = lam y_i + (1 - lam) y_j
Differs    For comparison, the schedule is that of cross entropy (D-34) and `a` is that of Table 1;
           the public code trains for 200 epochs with `a` = 1. D-11 and D-12 (one lam and partners
           per mini-batch). The logged training accuracy is that on the mixed images.
"""

from chainer_jo.functions.losses import mix_up_loss
from chainer_jo.methods.base import Method


class MixUp(Method):
    def train(self, batch):
        log_f_mixed = self.log_f(batch.x_mixed)
        return mix_up_loss(batch.y, batch.partner, batch.lam, log_f_mixed), log_f_mixed
