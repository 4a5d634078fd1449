"""A part of a net computed in bfloat16, as one node of Chainer's graph.

Chainer has no bfloat16: its graph sees float32 images go in and float32 results come out. What lies
between stays inside the node, on a tape.
"""

import chainer

from chainer_jo import backends
from chainer_jo.backends import onednn
from chainer_jo.functions.first_order import FirstOrderFunction
from chainer_jo.functions.tape import Activation, Tape


def in_bfloat16(function, x, parameters):
    """Returns ``function(x)``, computed in bfloat16.

    Images, activations, their gradients and the weights of convolutions are rounded to bfloat16;
    sums, statistics and the parameters with their gradients stay float32.

    Args:
        function (callable): Calls functions of this package only; its result is float32.
        x (Variable or array): ``(N, C, H, W)``, float32.
        parameters (iterable of Parameter): All that ``function`` uses.

    Returns:
        Variable: The result, to be differentiated once and not again.

    Raises:
        ConfigError: This processor, the backend or the device has no bfloat16.
    """
    backends.check_precision('bfloat16', x)
    parameters = tuple(parameters)
    return _InBFloat16(function, parameters).apply((x, *parameters))[0]


class _InBFloat16(FirstOrderFunction):
    def __init__(self, function, parameters):
        self.function, self.parameters = function, parameters

    def forward(self, inputs):
        self.tape = Tape(chainer.config.enable_backprop)
        self.x = Activation(onednn.convert(inputs[0], onednn.BFLOAT16), self.tape)
        self.y = self.function(self.x)
        return (self.y.array,)

    def gradients(self, indexes, gy):
        inputs = (self.x, *self.parameters)
        gradients = self.tape.gradients(self.y, gy, [inputs[i] for i in indexes])
        if indexes[0] == 0:
            gradients[0] = onednn.convert(gradients[0], onednn.FLOAT32)
        return gradients
