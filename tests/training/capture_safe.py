"""A GPU's arrays and its stream's capture, played on the CPU.

While a stream captures, CuPy runs nothing. It writes down what is to run, and refuses what needs
the host or cuBLAS. So do these arrays: what was recorded runs when the graph is launched, in the
same memory. A number that Python put into the step is frozen in the graph, as it is on a GPU.
"""

import contextlib
import sys
from types import SimpleNamespace

import chainer
import numpy as np

# What a stream that captures has been asked to do so far: functions without arguments.
_captured = None
_as_plain = np.asarray


class RefusedError(RuntimeError):
    """What CuPy raises while a stream captures: a kind of RuntimeError."""


def _refuse(what):
    if _captured is not None:
        raise RefusedError(f'{what} while a stream captures')


@contextlib.contextmanager
def _on_the_host():
    """What NumPy does within one operation is not recorded."""
    global _captured
    before, _captured = _captured, None
    try:
        # While nothing really runs, the numbers are those of earlier steps, or of none.
        with contextlib.nullcontext() if before is None else np.errstate(all='ignore'):
            yield
    finally:
        _captured = before


def _run(what, operands, compute):
    """Returns the result of ``compute`` as device arrays; a new one is recorded, a view is not."""
    with _on_the_host():
        result = compute()
    if isinstance(result, (tuple, list)):
        _refuse(what)
        return type(result)(part.view(DeviceArray) for part in result)
    if not isinstance(result, (np.ndarray, np.generic)):
        _refuse(f'{what}, whose result is needed on the host')
        return result
    array = _as_plain(result)
    if not any(np.may_share_memory(array, operand) for operand in operands):
        _record(lambda: np.copyto(array, compute()))
    return array.view(DeviceArray)


def _record(action):
    if _captured is not None:
        _captured.append(action)


def _change(action):
    """An operation in place is left for later while a stream captures."""
    if _captured is None:
        action()
    else:
        _captured.append(action)


def _plain(value):
    """Returns arguments with device arrays as the plain arrays over the same memory."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, np.ndarray):
        _refuse('an array of the host among those of the device')
    if isinstance(value, (tuple, list)):
        return type(value)(_plain(part) for part in value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _arrays(value):
    if isinstance(value, np.ndarray):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [a for v in parts for a in _arrays(v)] if isinstance(value, (tuple, list, dict)) else []


def _index(key):
    """Returns an index as plain arrays, and refuses one that would have to be read or sent."""
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, list):
            _refuse('a list as an index')
        if isinstance(part, np.ndarray) and part.dtype.kind == 'b':
            _refuse('a mask as an index')
    return _plain(key)


# cuBLAS and cuSOLVER; results whose shape or type depends on the numbers; copies to the host.
_FUNCTIONS = {
    *('dot', 'vdot', 'inner', 'tensordot', 'einsum', 'inv', 'pinv', 'solve', 'svd'),
    *('nonzero', 'flatnonzero', 'argwhere', 'unique', 'compress', 'extract', 'percentile'),
    *('array_equal', 'allclose', 'array2string', 'save', 'savez'),
}
_IN_PLACE = ('copyto', 'fill_diagonal', 'put', 'place', 'putmask')


class DeviceArray(np.ndarray):
    """An array on the device that is played; NumPy's functions take it as CuPy's would."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        if ufunc.__name__ in ('matmul', 'vecdot', 'matvec', 'vecmat'):
            _refuse(ufunc.__name__)
        if method == 'at':
            _refuse(f'{ufunc.__name__}.at, whose order is random on a GPU,')
        function = getattr(ufunc, method)
        plain, targets, options = _plain(inputs), _plain(out), _plain(options)
        if out:
            _change(lambda: function(*plain, out=targets, **options))
            return out[0] if len(out) == 1 else out
        return _run(ufunc.__name__, _arrays(plain), lambda: function(*plain, **options))

    def __array_function__(self, function, types, arguments, options):
        name = function.__name__
        if name in _FUNCTIONS or (name == 'where' and len(arguments) == 1):
            _refuse(name)
        plain, options = _plain(arguments), _plain(options)
        if name in _IN_PLACE:
            return _change(lambda: function(*plain, **options))
        operands = _arrays(plain) + _arrays(options)
        if name in ('shape', 'ndim', 'size', 'result_type', 'can_cast', 'may_share_memory'):
            return function(*plain, **options)
        return _run(name, operands, lambda: function(*plain, **options))

    def __getitem__(self, key):
        plain, key = _plain(self), _index(key)
        if isinstance(key, int):
            key = (key, ...)  # An array where NumPy would return a number of the host.
        return _run('an index', [plain], lambda: plain[key])

    def __setitem__(self, key, value):
        plain, key, value = _plain(self), _index(key), _plain(value)
        _change(lambda: plain.__setitem__(key, value))


def _method(name):
    def call(self, *arguments, **options):
        plain, arguments, options = _plain(self), _plain(arguments), _plain(options)
        return _run(name, [plain], lambda: getattr(plain, name)(*arguments, **options))

    return call


def _refused(name):
    def call(self, *arguments, **options):
        _refuse(name)
        return getattr(self.view(np.ndarray), name)(*arguments, **options)

    return call


# Written in C, these call nothing of the above.
for _name in (
    *('argmax', 'argmin', 'argsort', 'astype', 'copy', 'cumsum'),
    *('flatten', 'ravel', 'repeat', 'reshape', 'take'),
):
    setattr(DeviceArray, _name, _method(_name))
for _name in (
    *('dot', 'item', 'nonzero', 'sort', 'tobytes', 'tolist'),
    *('__bool__', '__float__', '__index__', '__int__'),
):
    setattr(DeviceArray, _name, _refused(_name))


class Device(chainer.backend.Device):
    """The device, for ``to_device`` and ``send``."""

    name, xp, supported_array_types = '@played', np, (DeviceArray,)

    def send_array(self, array):
        return array if isinstance(array, DeviceArray) else np.array(array).view(DeviceArray)


def _made_on_the_device(function):
    def made(*arguments, **options):
        if _captured is None:
            return function(*arguments, **options)
        return _run(function.__name__, [], lambda: function(*arguments, **options))

    return made


def _sent_to_the_device(function):
    def sent(value, *arguments, **options):
        if not isinstance(value, DeviceArray):
            _refuse(f'{function.__name__} of a {type(value).__name__}')
        elif _captured is not None:
            return _run(function.__name__, [_plain(value)], lambda: function(_plain(value)))
        return function(value, *arguments, **options)

    return sent


class _Graph:
    def __init__(self, actions):
        self.actions, self.launches = actions, 0

    def launch(self):
        for action in self.actions:
            action()
        self.launches += 1


class _Stream:
    def __init__(self, non_blocking):
        assert non_blocking, 'the legacy stream and those that wait for it cannot be captured'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert _captured is None, 'a capture was left open'

    def synchronize(self):
        _refuse('synchronize')

    def begin_capture(self):
        global _captured
        _captured = []

    def end_capture(self):
        global _captured
        graph, _captured = _Graph(_captured), None
        return graph


@contextlib.contextmanager
def using_allocator(allocator):
    yield


def install(monkeypatch):
    """Puts a CuPy in place that captures :class:`DeviceArray`; returns a Stream of it."""
    current = _Stream(non_blocking=True)
    played = SimpleNamespace(
        MemoryPool=lambda: SimpleNamespace(malloc=None),
        Stream=_Stream,
        using_allocator=using_allocator,
        get_current_stream=lambda: current,
    )
    cupy = SimpleNamespace(cuda=played, ndarray=type(None), get_array_module=lambda *_: np)
    monkeypatch.setitem(sys.modules, 'cupy', cupy)
    for name in ('arange', 'empty', 'eye', 'full', 'ones', 'zeros'):
        monkeypatch.setattr(np, name, _made_on_the_device(getattr(np, name)))
    for name in ('array', 'asarray', 'ascontiguousarray'):
        monkeypatch.setattr(np, name, _sent_to_the_device(getattr(np, name)))
    generator = np.random.default_rng
    monkeypatch.setattr(
        np.random, 'default_rng', lambda *seed: (_refuse('default_rng'), generator(*seed))[1]
    )
    return current
