"""Computes a part of a net in 16 bits, as one node of Chainer's graph.

The node's inputs and outputs are float32 for Chainer. All 16-bit values stay inside the node, on a
tape: Chainer has no bfloat16, and its own mixed16 mode would keep more arrays for the backward
pass.
"""

import chainer

from chainer_jo import backends
from chainer_jo.functions.first_order import FirstOrderFunction
from chainer_jo.functions.tape import Activation, Tape


def in_precision(precision, function, x, links):
    """Returns ``function(x)``, computed in any precision.

    Args:
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.
        function, x: As for :func:`in_low_precision`.
        links (iterable of Link): All Links whose parameters ``function`` uses.
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
        parameters (iterable of Parameter): All parameters that ``function`` uses.

    Returns:
        Variable: The result; it has no second derivative.

    Raises:
        ConfigError: The device or its backend does not support the precision.
    """
    backends.check_precision(precision, backends.name_for(x))
    node = _InLowPrecision(backends.DTYPES[precision], function, tuple(parameters))
    return node.apply((x, *node.parameters))[0]


class _InLowPrecision(FirstOrderFunction):
    def __init__(self, dtype, function, parameters):
        self.dtype, self.function, self.parameters = dtype, function, parameters

    def forward(self, inputs):
        # All weights at once: to convert them one by one takes longer than some convolutions.
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
