"""Functions whose gradients are plain arrays."""

import chainer

from chainer_jo.backends import onednn


class FirstOrderFunction(chainer.FunctionNode):
    """A function on oneDNN that can be differentiated once.

    A subclass gives ``gradients`` instead of ``backward``.
    """

    def gradients(self, indexes, gy):
        """Returns an array, new or ``gy`` itself, for each index of an input.

        Args:
            indexes (tuple of int): The inputs whose gradients are wanted.
            gy (numpy.ndarray): The gradient of the one output.
        """
        raise NotImplementedError

    def backward_accumulate(self, target_input_indexes, grad_outputs, grad_inputs):
        """Adds to the gradients from other paths in place, with oneDNN's threads."""
        if chainer.config.enable_backprop:
            raise NotImplementedError(
                f'{self.label} on oneDNN has no second derivative; '
                "call chainer_jo.backends.use('chainer') first"
            )
        gy = grad_outputs[0].array
        gxs = self.gradients(target_input_indexes, gy)
        return tuple(_sum(gx, other, gy) for gx, other in zip(gxs, grad_inputs, strict=True))


def _sum(gx, other, gy):
    if other is None:
        return chainer.Variable(gx)
    if gx is gy or gx.ndim != 4:
        return chainer.Variable(gx + other.array)
    onednn.add_to(gx, other.array)
    return chainer.Variable(gx)
