"""Functions whose gradients are plain arrays."""

import chainer

from chainer_jo import backends
from chainer_jo.functions.tape import Activation


class FirstOrderFunction(chainer.FunctionNode):
    """A function on oneDNN or cuDNN that can be differentiated once.

    A subclass gives ``gradients`` instead of ``backward``, and keeps what that needs in attributes:
    its call is a node of Chainer's graph, or an entry of a tape if the first input is an
    :class:`~chainer_jo.functions.tape.Activation`.

    Chainer wants ``backward`` in terms of functions that can be differentiated again, and keeps a
    graph of the gradients for that. No method here needs second derivatives: plain arrays save
    the nodes, and let gradients be added in place.

    Attributes:
        backend (module): What computed the result, and so what computes its gradients; see
            :func:`chainer_jo.backends.of`.
    """

    def gradients(self, indexes, gy):
        """Returns an array, new or ``gy`` itself, for each index of an input.

        Args:
            indexes (sequence of int): The inputs whose gradients are wanted.
            gy (array): The gradient of the one output.
        """
        raise NotImplementedError

    def apply(self, inputs):
        self.backend = backends.of(*inputs)
        if isinstance(inputs[0], Activation):
            return (inputs[0].tape.apply(self, inputs),)
        return super().apply(inputs)

    def backward_accumulate(self, target_input_indexes, grad_outputs, grad_inputs):
        """Adds to the gradients from other paths in place, by the backend."""
        if chainer.config.enable_backprop:
            raise NotImplementedError(
                f'{self.label} has no second derivative; '
                "call chainer_jo.backends.use('chainer') first"
            )
        # Chainer's own way is to return new Variables and let it add them: a pass over memory for
        # each path that meets here, and as much memory again.
        gy = grad_outputs[0].array
        gxs, add = self.gradients(target_input_indexes, gy), self.backend.accumulate
        return tuple(
            chainer.Variable(gx if other is None else add(gx, other.array, gy))
            for gx, other in zip(gxs, grad_inputs, strict=True)
        )
