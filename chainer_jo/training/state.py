"""All that the rest of a trial depends on, found the way it is saved."""

import chainer


def values(target):
    """Returns the values that ``target`` serializes, by name: the arrays themselves, no copies."""
    found = {}
    target.serialize(_Finder(found))
    return found


class _Finder(chainer.Serializer):
    def __init__(self, found, path=''):
        self._found, self._path = found, path

    def __getitem__(self, key):
        return _Finder(self._found, f'{self._path}{key.strip("/")}/')

    def __call__(self, key, value):
        self._found[self._path + key.lstrip('/')] = value
        return value


def arrays(target, kinds='biuf'):
    """Returns those of :func:`values` that are arrays of a kind: ``'f'`` for real numbers."""
    return {
        name: value
        for name, value in values(target).items()
        if isinstance(value, chainer.get_array_types()) and value.dtype.kind in kinds
    }
