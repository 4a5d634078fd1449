"""All that the rest of a trial depends on, found the way it is saved."""

import chainer
from chainer import backend


def values(target):
    """Returns the values that ``target`` serializes, by name: the arrays themselves, no copies."""
    found = {}
    target.serialize(_Finder(found))
    return found


class _Named:
    """What names the values that a serializer meets, as Chainer's own do."""

    def __init__(self, values, path=''):
        self._values, self._path = values, path

    def __getitem__(self, key):
        return type(self)(self._values, f'{self._path}{key.strip("/")}/')

    def _name(self, key):
        return self._path + key.lstrip('/')


class _Finder(_Named, chainer.Serializer):
    def __call__(self, key, value):
        # What a target serializes is, by definition, all that a resumed run knows of it.
        self._values[self._name(key)] = value
        return value


def arrays(target, kinds='biuf'):
    """Returns those of :func:`values` that are arrays of a kind: ``'f'`` for real numbers."""
    return {
        name: value
        for name, value in values(target).items()
        if isinstance(value, chainer.get_array_types()) and value.dtype.kind in kinds
    }


def replace(target, function):
    """Puts ``function(array)`` in the place of every array that ``target`` serializes.

    In the order of their names: Chainer's own is another in each process.
    """
    made = {name: function(array) for name, array in sorted(arrays(target).items())}
    target.serialize(_Replacer(made))


def restore(target, saved):
    """Loads what ``target`` serializes; arrays are written in place, whatever their layout.

    Chainer's own deserializer refuses arrays of CuPy that lie channel-last.

    Args:
        target: Has ``serialize``, as Chainer's links and updaters.
        saved (dict): Name to array, on the host.

    Raises:
        KeyError: A value is missing.
        ValueError: An array has another shape or type.
    """
    target.serialize(_Restorer(saved))


class _Restorer(_Named, chainer.Deserializer):
    def __call__(self, key, value):
        # A missing name is an error: Chainer's loaders can skip it and train on from half a state.
        saved = self._values[self._name(key)]
        if not isinstance(value, chainer.get_array_types()):
            # Python counters and switches: a 0-dimensional array in their place would spread
            # through later values.
            return type(value)(saved)
        # A copy would make others fit.
        if (saved.shape, saved.dtype) != (value.shape, value.dtype):
            raise ValueError(
                f'{self._name(key)}: {saved.dtype} {saved.shape}, not {value.dtype} {value.shape}'
            )
        backend.copyto(value, saved)
        return value


class _Replacer(_Named, chainer.Deserializer):
    def __call__(self, key, value):
        return self._values.get(self._name(key), value)
