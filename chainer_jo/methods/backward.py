"""Backward correction with the true transition matrix.

Paper      Patrini, Rozza, Menon, Nock, Qu. Making Deep Neural Networks Robust to Label Noise: a
           Loss Correction Approach. CVPR 2017. arXiv 1609.03683
Idea       Undo the noise in the loss: L = [T^-1 l]_y with l_j = -log f_j. For any net, its mean
           over the noise is the loss on clean labels.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C)
           T_ij = P(noisy = j | true = i), (C, C), of the noise in use
Differs    Not in the paper's tables. The loss has no lower bound, so log f is clipped as in
           Patrini's code. A singular T (asymmetric noise at 0.5) is refused, or a pseudo-inverse
           is used.
"""

import chainer
import numpy as np

from chainer_jo.errors import ConfigError
from chainer_jo.functions.loss_correction import backward_loss
from chainer_jo.methods.base import Method


class Backward(Method):
    @classmethod
    def uses_true_T(cls, stages):
        return True

    def setup(self, noisy_labels, T):
        if self.stages['train'].get('singular') == 'refuse':
            refuse_singular(T)
        # The inverse is stored, so that a captured step need not solve a linear system.
        self.add_persistent('T_inverse', np.empty_like(T, 'f'))
        self.know(T)

    def know(self, T):
        """Sets the transition matrix ``T``, ``(C, C)``."""
        # On the host: it is not worth loading cuSOLVER for a matrix of this size.
        T_inverse = np.linalg.pinv(chainer.get_device('@numpy').send(T))
        self.T_inverse[...] = self.device.send(T_inverse)

    def train(self, batch):
        log_f = self.log_f(batch.x)
        return backward_loss(batch.y, log_f, self.T_inverse), log_f


def refuse_singular(T):
    """Raises ConfigError if ``T`` is singular, so that the noise cannot be undone."""
    rank = np.linalg.matrix_rank(T)
    if rank < len(T):
        raise ConfigError(
            'backward correction needs the inverse of T, but T is singular for this noise',
            seen=f'rank {rank} of {len(T)}: some classes have equally distributed noisy labels',
            fix='use --method forward, or --set backward.train.singular=pinv for a pseudo-inverse, '
            'which cannot tell those classes apart',
        )
