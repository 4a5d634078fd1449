"""The logarithm of a net's output."""

import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction


def log_softmax(x):
    """Returns the logarithm of the softmax of each row, in one kernel on a GPU.

    Args:
        x (Variable or array): Logits, ``(B, C)``, float32.

    Returns:
        Variable: ``(B, C)``, float32, at most 0.
    """
    if backends.op('log_softmax', x):
        return _LogSoftmax().apply((x,))[0]
    return F.log_softmax(x)


class _LogSoftmax(FirstOrderFunction):
    def check_type_forward(self, in_types):
        type_check.expect(in_types[0].ndim == 2)

    def forward(self, inputs):
        # The gradient needs only the result, so the logits can be freed.
        self.y = self.backend.log_softmax(*inputs)
        return (self.y,)

    def gradients(self, indexes, gy):
        return [self.backend.log_softmax_gradient(self.y, gy)]
