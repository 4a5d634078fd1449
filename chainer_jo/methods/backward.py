"""Backward correction with the true transition matrix.

Paper      Patrini, Rozza, Menon, Nock, Qu. Making Deep Neural Networks Robust to Label Noise: a
           Loss Correction Approach. CVPR 2017. arXiv 1609.03683
Idea       Undo the noise in the loss: L = [T^-1 l]_y with l_j = -log f_j. Its mean over the noise
           is the clean loss, whatever the net.
Symbols    f = softmax output (B, C);  y = noisy labels, one-hot (B, C)
           T_ij = P(noisy = j | true = i), (C, C), of the noise in use
Differs    Not in the paper's tables. The loss has no lower bound: log f is clipped as in Patrini's
           code. A singular T (asymmetric noise at 0.5) is refused, or takes a pseudo-inverse.
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
        # The inverse is kept, so that a captured step need not solve a linear system.
        self.add_persistent('T_inverse', np.empty_like(T, 'f'))
        self.know(T)

    def know(self, T):
        """Takes ``T``, ``(C, C)``, for the noise's transition matrix."""
        # On the host: a matrix of this size is not worth loading cuSOLVER for.
        T_inverse = np.linalg.pinv(chainer.get_device('@numpy').send(T))
        self.T_inverse[...] = self.device.send(T_inverse)

    def train(self, batch):
        log_f = self.log_f(batch.x)
        return backward_loss(batch.y, log_f, self.T_inverse), log_f


def refuse_singular(T):
    """Raises ConfigError if ``T`` has no inverse: some noise cannot be undone."""
    rank = np.linalg.matrix_rank(T)
    if rank < len(T):
        raise ConfigError(
            'backward correction needs the inverse of T, and there is none at this noise',
            seen=f'rank {rank} of {len(T)}: some classes have the same noisy labels',
            fix='use --method forward, or --set backward.train.singular=pinv, a pseudo-inverse '
            'that cannot tell those classes apart',
        )
