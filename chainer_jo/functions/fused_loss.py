"""The joint loss as one node of Chainer's graph, with one kernel forward and one backward."""

from chainer.utils import type_check

from chainer_jo.functions.first_order import FirstOrderFunction


def fused_loss(y, log_f, alpha=0.0, beta=0.0, kl=True):
    """Returns ``L_c + alpha L_p + beta L_e``, Eq. (3), a scalar Variable.

    Only for arrays whose backend has the function ``joint_loss``.
    :mod:`chainer_jo.functions.losses` describes ``y``, ``log_f`` and the terms.

    Args:
        kl (bool): Whether ``L_c`` is the KL divergence, Eq. (4), or the cross entropy, Eq. (1).
    """
    return _FusedLoss(y, alpha, beta, kl).apply((log_f,))[0]


class _FusedLoss(FirstOrderFunction):
    """The labels are not an input, because they are constants (D-07).

    The gradients of the three terms with respect to ``log f_j(x_i)`` are ``-y_ij / n``,
    ``-f_j(x_i) / (C n f_j)`` and ``-f_j(x_i) (log f_j(x_i) + 1) / n``, where ``f_j`` is the mean
    over the batch.
    """

    def __init__(self, y, alpha, beta, kl):
        self.y, self.factors, self.kl = y, (alpha, beta), kl

    def check_type_forward(self, in_types):
        type_check.expect(in_types[0].shape == self.y.shape)

    def forward(self, inputs):
        (self.log_f,) = inputs
        loss, self.f_sums = self.backend.joint_loss(self.y, self.log_f, *self.factors, self.kl)
        return (loss,)

    def gradients(self, indexes, gy):
        # `kl` does not matter here: KL divergence and cross entropy have the same gradient.
        given = self.y, self.log_f, *self.factors, self.f_sums, gy
        return [self.backend.joint_loss_gradient(*given)]
