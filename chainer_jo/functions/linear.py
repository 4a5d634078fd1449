"""The linear function of a net's last layer."""

import chainer.functions as F
from chainer.utils import type_check

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction


def linear(x, W, b):
    """Returns ``x W' + b``, with a kernel that can be captured if the backend has one.

    CuPy refuses to capture cuBLAS, which Chainer's own function calls.

    Args:
        x (Variable or array): ``(N, I)``.
        W (Variable or array): ``(O, I)``.
        b (Variable or array): ``(O,)``.

    Returns:
        Variable: ``(N, O)``.
    """
    if backends.op('linear', x, W, b):
        return _Linear().apply((x, W, b))[0]
    return F.linear(x, W, b)


class _Linear(FirstOrderFunction):
    def check_type_forward(self, in_types):
        x, W, b = in_types
        type_check.expect(x.ndim == 2, W.ndim == 2, b.ndim == 1)
        type_check.expect(x.shape[1] == W.shape[1], W.shape[0] == b.shape[0])

    def forward(self, inputs):
        self.x, self.W, _ = inputs
        return (self.backend.linear(*inputs),)

    def gradients(self, indexes, gy):
        found = {}
        # One kernel computes both gradients: b counts as the weight of an input that is always 1.
        if 0 in indexes:
            found[0] = self.backend.linear_gradient_x(self.W, gy)
        if 1 in indexes or 2 in indexes:
            found[1], found[2] = self.backend.linear_gradient_W(self.x, gy)
        return [found[i] for i in indexes]
