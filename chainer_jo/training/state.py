"""The state of an object: the values that its ``serialize`` saves, found in the same way."""

import chainer
import numpy as np
from chainer import backend
from chainer.backends import cuda


def values(target):
    """Returns the values that ``target`` serializes, by name. Arrays are not copied."""
    found = {}
    target.serialize(_Finder(found))
    return found


def on_host(target, wanted=None):
    """Returns the values that ``target`` serializes as arrays on the host, by name, to be saved.

    Args:
        wanted (callable): Whether a name is wanted; all are by default.
    """
    return {
        name: np.asarray(cuda.to_cpu(value) if isinstance(value, cuda.ndarray) else value)
        for name, value in values(target).items()
        if wanted is None or wanted(name)
    }


class _Named:
    """Names the values of a serializer as Chainer's own serializers do."""

    def __init__(self, values, path=''):
        self._values, self._path = values, path

    def __getitem__(self, key):
        return type(self)(self._values, f'{self._path}{key.strip("/")}/')

    def _name(self, key):
        return self._path + key.lstrip('/')


class _Finder(_Named, chainer.Serializer):
    def __call__(self, key, value):
        # What is not serialized is lost on resume, so these values are the whole state.
        self._values[self._name(key)] = value
        return value


def own_of(method):
    """Returns the values of a Method that belong neither to its net nor to its labels, on the host.

    They are saved if they take part in predictions; elsewhere they may be as large as the labels.
    """
    saved = on_host(method) if method.predicts_itself else {}
    return {
        name: value for name, value in saved.items() if not name.startswith(('net/', 'labels/'))
    }


def arrays(target, kinds='biuf'):
    """Returns the arrays among :func:`values` of some dtype kinds, such as ``'f'`` for floats."""
    return {
        name: value
        for name, value in values(target).items()
        if isinstance(value, chainer.get_array_types()) and value.dtype.kind in kinds
    }


def replace(target, function):
    """Replaces every array that ``target`` serializes by ``function(array)``.

    The function is called in the order of names. Chainer's own order differs between processes.
    """
    for name in sorted(arrays(target)):
        # One by one, so that each array is freed before the next one is made.
        target.serialize(_Replacer({name: function(arrays(target)[name])}))


def restore(target, saved):
    """Loads the values that ``target`` serializes. Arrays are written in place, in any layout.

    Chainer's own deserializer refuses channel-last CuPy arrays.

    Args:
        target: An object with ``serialize``, such as Chainer's links and updaters.
        saved (dict): Arrays by name, on the host.

    Raises:
        KeyError: A value is missing.
        ValueError: An array has another shape or dtype.
    """
    target.serialize(_Restorer(saved))


class _Restorer(_Named, chainer.Deserializer):
    def __call__(self, key, value):
        # A missing name raises KeyError. Chainer's loaders can skip it, and would continue from an
        # incomplete state.
        saved = self._values[self._name(key)]
        if not isinstance(value, chainer.get_array_types()):
            # Python numbers stay Python numbers: a 0-dimensional array would turn every value that
            # is computed from it into an array.
            return type(value)(saved)
        # Checked, because copyto would broadcast or cast.
        if (saved.shape, saved.dtype) != (value.shape, value.dtype):
            raise ValueError(
                f'{self._name(key)}: {saved.dtype} {saved.shape}, not {value.dtype} {value.shape}'
            )
        backend.copyto(value, saved)
        return value


class _Replacer(_Named, chainer.Deserializer):
    def __call__(self, key, value):
        return self._values.get(self._name(key), value)
