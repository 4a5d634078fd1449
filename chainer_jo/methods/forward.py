"""Forward correction with the true transition matrix ("Forward" in the paper's tables).

Paper      Patrini, Rozza, Menon, Nock, Qu. Making Deep Neural Networks Robust to Label Noise: a
           Loss Correction Approach. CVPR 2017. arXiv 1609.03683
Idea       The net predicts the clean label, and T turns this into a prediction of the noisy label,
           which is compared with the given one: L = -log [T' f]_y. The minimum is at the clean
           posterior.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C)
           T_ij = P(noisy = j | true = i), (C, C), of the noise in use
Differs    The paper does not say where its T comes from; "T" is the true one in Patrini et al. The
           schedule is theirs. The sum is a logsumexp; their code clips instead.
"""

import numpy as np

from chainer_jo.functions.loss_correction import forward_loss
from chainer_jo.methods.base import Method


class Forward(Method):
    @classmethod
    def uses_true_T(cls, stages):
        return True

    def setup(self, noisy_labels, T):
        # In float32: a float64 matrix would make the whole loss float64.
        self.add_persistent('T', np.empty_like(T, 'f'))
        self.know(T)

    def know(self, T):
        """Sets the transition matrix ``T``, ``(C, C)``."""
        self.T[...] = T

    def train(self, batch):
        log_f = self.log_f(batch.x)
        return forward_loss(batch.y, log_f, self.T), log_f
