"""A record of function calls that is run backwards to compute gradients."""


class Activation:
    """The input and output of functions on a tape, instead of a Variable.

    Attributes:
        array (array): Its value.
        tape (Tape): The tape on which functions of it are recorded.
    """

    def __init__(self, array, tape):
        self.array, self.tape = array, tape


class Tape:
    """Calls of :class:`~chainer_jo.functions.first_order.FirstOrderFunction`, in order.

    Args:
        recording (bool): False if no gradients will be needed.
        arrays (dict): Arrays that functions get instead of a parameter's array, keyed by the
            parameter's ``id``.
    """

    def __init__(self, recording, arrays=None):
        self._calls, self._arrays = [] if recording else None, arrays or {}

    def apply(self, function, inputs):
        """Calls ``function`` with Activations and Parameters, and returns an Activation."""
        arrays = tuple(self._arrays.get(id(x), x.array) for x in inputs)
        y = Activation(function.forward(arrays)[0], self)
        if self._calls is not None:
            self._calls.append((function, inputs, y))
        return y

    def gradients(self, y, gy, wanted):
        """Returns the gradients of Activations and Parameters that were used on this tape.

        Each call is dropped as soon as its gradients are computed, so that its memory can be
        reused. The tape cannot be used again.

        Args:
            y (Activation): The result of the last call.
            gy (array): Its gradient.
            wanted (sequence): The Activations and Parameters whose gradients to return.

        Raises:
            RuntimeError: The tape was used before, or did not record.
        """
        if self._calls is None:
            raise RuntimeError('a tape gives gradients only once, and only if it was recording')
        calls, self._calls = self._calls, None
        # Variables cannot be dict keys. Their ids are unique as long as the calls hold them.
        needed = {id(x) for x in wanted} | {id(result) for _, _, result in calls}
        found = {id(y): gy}
        while calls:
            function, inputs, result = calls.pop()
            gy, add = found.pop(id(result)), function.backend.accumulate
            indexes = [i for i, x in enumerate(inputs) if id(x) in needed]
            for i, gx in zip(indexes, function.gradients(indexes, gy), strict=True):
                key = id(inputs[i])
                found[key] = add(gx, found[key], gy) if key in found else gx
        return [found[id(x)] for x in wanted]
