"""Base class of functions whose gradients are plain arrays."""

import chainer

from chainer_jo import backends
from chainer_jo.functions.tape import Activation


class FirstOrderFunction(chainer.FunctionNode):
    """A function on oneDNN or cuDNN without second derivatives.

    A subclass implements ``gradients`` instead of ``backward``, and keeps what it needs for that in
    attributes. A call is a node of Chainer's graph, or an entry of a tape if the first input is an
    :class:`~chainer_jo.functions.tape.Activation`.

    Chainer requires that ``backward`` consists of differentiable functions, and builds a graph of
    the gradients. No method here needs second derivatives. Plain arrays save the nodes of that
    graph, and allow gradients to be added in place.

    Attributes:
        backend (module): The backend that computed the result; it also computes the gradients. See
            :func:`chainer_jo.backends.of`.
    """

    def gradients(self, indexes, gy):
        """Returns the gradient of each input in ``indexes``: a new array, or ``gy`` itself.

        Args:
            indexes (sequence of int): The inputs whose gradients are needed.
            gy (array): The gradient of the only output.
        """
        raise NotImplementedError

    def apply(self, inputs):
        self.backend = backends.of(*inputs)
        if isinstance(inputs[0], Activation):
            return (inputs[0].tape.apply(self, inputs),)
        return super().apply(inputs)

    def backward_accumulate(self, target_input_indexes, grad_outputs, grad_inputs):
        """Adds the gradients to those from other paths in place, with the backend."""
        if chainer.config.enable_backprop:
            raise NotImplementedError(
                f'{self.label} has no second derivative; '
                "call chainer_jo.backends.use('chainer') first"
            )
        # By default Chainer adds new Variables itself, which costs another array, and a pass over
        # memory, for each path that meets here.
        gy = grad_outputs[0].array
        gxs, add = self.gradients(target_input_indexes, gy), self.backend.accumulate
        return tuple(
            chainer.Variable(gx if other is None else add(gx, other.array, gy))
            for gx, other in zip(gxs, grad_inputs, strict=True)
        )
