"""A record of function calls, run backwards for the gradients."""


class Activation:
    """What a function on a tape takes and returns in place of a Variable.

    Attributes:
        array (array): Its value.
        tape (Tape): Where functions of it are recorded.
    """

    def __init__(self, array, tape):
        self.array, self.tape = array, tape


class Tape:
    """The calls of :class:`~chainer_jo.functions.first_order.FirstOrderFunction`, in their order.

    Args:
        recording (bool): False where no gradients will be asked for.
        arrays (dict): Arrays that functions get in the place of a parameter's own, by its ``id``.
    """

    def __init__(self, recording, arrays=None):
        self._calls, self._arrays = [] if recording else None, arrays or {}

    def apply(self, function, inputs):
        """Calls ``function`` on Activations and Parameters and returns an Activation."""
        arrays = tuple(self._arrays.get(id(x), x.array) for x in inputs)
        y = Activation(function.forward(arrays)[0], self)
        if self._calls is not None:
            self._calls.append((function, inputs, y))
        return y

    def gradients(self, y, gy, wanted):
        """Returns the gradients of some Activations and Parameters, all used by calls.

        A call is forgotten as soon as its gradients are there, so that its memory serves the next;
        the tape is of no use afterwards.

        Args:
            y (Activation): The result of the last call.
            gy (array): Its gradient.
            wanted (sequence): Whose gradients.

        Raises:
            RuntimeError: They were asked for before, or the tape did not record.
        """
        if self._calls is None:
            raise RuntimeError('a tape gives gradients once, and only if it was recording')
        calls, self._calls = self._calls, None
        # Variables cannot be keys; their ids are unique while the calls are kept here.
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
