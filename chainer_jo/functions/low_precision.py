"""A part of a net computed in 16 bits, as one node of Chainer's graph.

Chainer's graph sees float32 images go in and float32 results come out. What lies between stays
inside the node, on a tape: Chainer has no bfloat16, and its mixed float16 would keep all that
Chainer's own functions keep.
"""

import chainer

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction
from chainer_jo.functions.tape import Activation, Tape


def in_precision(precision, function, x, links):
    """Returns ``function(x)`` in any precision.

    Args:
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.
        function, x: As for :func:`in_low_precision`.
        links (iterable of Link): All whose parameters ``function`` uses.
    """
    if precision == 'float32':
        return function(x)
    if precision == 'strict_float32':
        with backends.using_tensor_cores('never'):
            return function(x)
    return in_low_precision(precision, function, x, (p for link in links for p in link.params()))


def in_low_precision(precision, function, x, parameters):
    """Returns ``function(x)``, computed in 16 bits.

    Images, activations, their gradients and the weights of convolutions are rounded; sums,
    statistics and the parameters with their gradients stay float32.

    Args:
        precision (str): ``'bfloat16'``, on a CPU, or ``'float16'``, on a GPU.
        function (callable): Calls functions of this package only; its result is float32.
        x (Variable or array): ``(N, C, H, W)``, float32.
        parameters (iterable of Parameter): All that ``function`` uses.

    Returns:
        Variable: The result, to be differentiated once and not again.

    Raises:
        ConfigError: The device or its backend has no such precision.
    """
    backends.check_precision(precision, backends.name_for(x))
    node = _InLowPrecision(backends.DTYPES[precision], function, tuple(parameters))
    return node.apply((x, *node.parameters))[0]


class _InLowPrecision(FirstOrderFunction):
    def __init__(self, dtype, function, parameters):
        self.dtype, self.function, self.parameters = dtype, function, parameters

    def forward(self, inputs):
        # All weights at once: converting each by itself takes longer than some of the convolutions.
        weights = [p for p in self.parameters if p.ndim == 4]
        arrays = self.backend.all_weights([W.array for W in weights], self.dtype)
        converted = {id(W): array for W, array in zip(weights, arrays, strict=True)}
        self.tape = Tape(chainer.config.enable_backprop, converted)
        self.x = Activation(self.backend.convert(inputs[0], self.dtype), self.tape)
        self.y = self.function(self.x)
        return (self.y.array,)

    def gradients(self, indexes, gy):
        inputs = (self.x, *self.parameters)
        gradients = self.tape.gradients(self.y, gy, [inputs[i] for i in indexes])
        if indexes[0] == 0:
            gradients[0] = self.backend.convert_gradient(gradients[0], backends.FLOAT32)
        return gradients
