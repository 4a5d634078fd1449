"""Reads the arrays and containers in a pickle without running any of its code.

A pickle is a program. A restricted unpickler still calls the functions that it allows, and that is
not safe: the pickled state of a NumPy dtype can declare numbers to be pointers. This module only
interprets the program. It builds containers, recognises calls of NumPy and torch functions by name,
and makes their results from their arguments. Anything else is refused.
"""

import math
import pickletools
import re
from dataclasses import dataclass

import numpy as np

DEEPEST = 8
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # The first pickle in files that torch wrote before 2020.

_MARK = object()
_NUMPY = ('numpy', 'numpy.core.multiarray', 'numpy._core.multiarray')
_NUMERIC = ('numpy.core.numeric', 'numpy._core.numeric')
_STORAGES = {
    'DoubleStorage': 'f8',
    'FloatStorage': 'f4',
    'HalfStorage': 'f2',
    'LongStorage': 'i8',
    'IntStorage': 'i4',
    'ShortStorage': 'i2',
    'CharStorage': 'i1',
    'ByteStorage': 'u1',
    'BoolStorage': '?',
}
_DTYPE = re.compile(r'[<>|=]?(b1|\?|[iu][1248]|f[248]|[SU]\d{1,4})')


class NotPlainError(ValueError):
    """The pickle holds something other than arrays, numbers, text and containers."""


def load(content, limit, storage=None):
    """Returns the object in a pickle.

    Args:
        content (bytes): The pickle. Bytes after its end are ignored.
        limit (int): Largest number of operations; each makes at most one object.
        storage (callable): Returns the bytes of a torch storage by its key. Without it, a pickle
            with storages is refused.

    Returns:
        Lists, tuples, dicts, numbers, text, bytes and read-only arrays. An array of Python objects
        becomes a list, or the object itself if the array has no axes.

    Raises:
        NotPlainError: The pickle holds anything else, or has more than ``limit`` operations.
        Exception: A damaged pickle can raise almost anything.
    """
    return load_first(content, limit, storage)[0]


def load_first(content, limit, storage=None):
    """Returns what :func:`load` returns, and the length of the pickle: another may follow it."""
    value, length = _Reader(limit, storage is not None).read(content)
    return _finished(value, storage), length


def load_torch_stream(content, limit, read):
    """Returns the object in a file that torch wrote before it used zip archives.

    Such a file has five pickles: a magic number, the version, the machine, the saved object, and
    the keys of all storages. The storages follow, one after the other.

    Args:
        content (bytes): The beginning of the file, with the five pickles.
        limit (int): Largest number of operations in each pickle.
        read (callable): ``read(start, size)`` returns bytes of the file.

    Returns:
        As :func:`load`.

    Raises:
        NotPlainError: A storage differs from its announcement, or as for :func:`load`.
        Exception: A damaged file can raise almost anything.
    """
    content = memoryview(content)
    magic, place = load_first(bytes(content), limit)
    if type(magic) is not int or magic != TORCH_MAGIC:
        raise NotPlainError("not a torch file: it does not begin with torch's magic number")
    for _ in range(2):
        machine, length = load_first(bytes(content[place:]), limit)
        place += length
    if type(machine) is not dict or machine.get('little_endian') is not True:
        raise NotPlainError('numbers that are not little-endian')
    reader = _Reader(limit, True)
    value, length = reader.read(bytes(content[place:]))
    place += length
    keys, length = load_first(bytes(content[place:]), limit)
    storages = dict(_places(_as(list, keys), reader.storages, place + length, read))
    return _finished(value, lambda key: read(*storages[key]))


def _places(keys, storages, place, read):
    """Yields for each storage of a stream its key and its ``(start, size)`` in bytes."""
    for key in keys:
        storage = storages[str(key)]
        # Each storage is preceded by its length; a wrong one would shift all later storages.
        if int.from_bytes(read(place, 8), 'little') != storage.count:
            raise NotPlainError('a storage whose length differs from the announced one')
        size = storage.count * np.dtype(storage.dtype).itemsize
        yield str(key), (place + 8, size)
        place += 8 + size


@dataclass(frozen=True)
class _Name:
    """The name of a function or class in a pickle; never the function or class itself."""

    name: str


@dataclass
class _Type:
    """A dtype, which NumPy's pickles make first and complete later."""

    text: str


@dataclass
class _Array:
    """An array, which NumPy's pickles make first and fill later."""

    value: object = None


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass
class _Tensor:
    """A tensor whose storage is read only after the pickle has been read."""

    storage: _Storage
    offset: int
    size: tuple
    stride: tuple

    def array(self, read):
        flat = np.frombuffer(read(self.storage.key), np.dtype(self.storage.dtype).newbyteorder('<'))
        # NumPy checks indices but not strides. Strides from the file could point outside the
        # storage, so every offset is computed and checked.
        if math.prod(self.size) > flat.size:
            raise NotPlainError('a tensor larger than its storage')
        if min(self.offset, *self.size, 0) < 0:
            raise NotPlainError('a tensor that begins before its storage')
        if self.stride == _dense(self.size):
            # Almost all tensors are dense. Indices would take more memory than their values.
            return flat[self.offset : self.offset + math.prod(self.size)].reshape(self.size)
        places = np.full(self.size, self.offset, np.int64)
        for axis, step in enumerate(self.stride):
            steps = [1] * len(self.size)
            steps[axis] = self.size[axis]
            places += step * np.arange(self.size[axis]).reshape(steps)
        if places.size and places.min() < 0:
            raise NotPlainError('a tensor that begins before its storage')
        return flat[places]


def _dense(size):
    return tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))


class _Reader:
    def __init__(self, limit, with_storages=False):
        self.limit, self.with_storages = limit, with_storages
        self.stack, self.memo, self.storages = [], {}, {}

    def read(self, content):
        for count, (opcode, argument, place) in enumerate(pickletools.genops(content)):
            if count > self.limit:
                raise NotPlainError(f'more than {self.limit:,} objects')
            if opcode.name == 'STOP':
                return self.stack.pop(), place + 1
            if opcode.name in _PUSHED:
                self.stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif act := getattr(self, f'_{opcode.name.lower()}', None):
                act(argument)
            else:
                raise NotPlainError(f'the operation {opcode.name}')
        raise NotPlainError('a pickle without an end')

    def _since_mark(self):
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _proto(self, _):
        pass

    def _frame(self, _):
        pass

    def _mark(self, _):
        self.stack.append(_MARK)

    def _pop(self, _):
        self.stack.pop()

    def _pop_mark(self, _):
        self._since_mark()

    def _memoize(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def _put(self, key):
        self.memo[key] = self.stack[-1]

    def _get(self, key):
        self.stack.append(self.memo[key])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    def _list(self, _):
        self.stack.append(self._since_mark())

    def _tuple(self, _):
        self.stack.append(tuple(self._since_mark()))

    def _tuple1(self, _):
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _tuple2(self, _):
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _tuple3(self, _):
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _dict(self, _):
        items = self._since_mark()
        self.stack.append(_updated({}, items[::2], items[1::2]))

    def _append(self, _):
        item = self.stack.pop()
        _as(list, self.stack[-1]).append(item)

    def _appends(self, _):
        items = self._since_mark()
        _as(list, self.stack[-1]).extend(items)

    def _setitem(self, _):
        key, value = self.stack[-2:]
        del self.stack[-2:]
        _updated(self.stack[-1], [key], [value])

    def _setitems(self, _):
        items = self._since_mark()
        _updated(self.stack[-1], items[::2], items[1::2])

    def _global(self, words):
        self.stack.append(_Name('.'.join(words.split(' '))))

    def _stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_Name(f'{_as(str, module)}.{_as(str, name)}'))

    def _reduce(self, _):
        arguments, function = self.stack.pop(), _as(_Name, self.stack.pop())
        if function.name not in _CALLS:
            raise NotPlainError(f'a call of {function.name}')
        self.stack.append(_CALLS[function.name](self, *_as(tuple, arguments)))

    def _build(self, _):
        state = self.stack.pop()
        if isinstance(self.stack[-1], dict):
            # Attributes of an OrderedDict, such as the layer versions in a state_dict: ignored.
            _as(dict, state)
            return
        state = _as(tuple, state)
        if isinstance(self.stack[-1], _Type):
            self.stack[-1].text = _ordered(self.stack[-1].text, state[1])
        else:
            # The first entry is the version of NumPy's array pickles.
            _, shape, kind, fortran, content = state
            filled = _as(_Array, self.stack[-1])
            filled.value = _filled(shape, _as(_Type, kind), fortran, content)

    def _binpersid(self, _):
        word, kind, key, _place, count, *view = _as(tuple, self.stack.pop())
        name = _as(_Name, kind).name.rpartition('.')[2]
        if word != 'storage' or name not in _STORAGES or not self.with_storages:
            raise NotPlainError(f'a persistent {name}')
        # Old versions of torch wrote metadata of a view here; without a view it is None.
        if view not in ([], [None]):
            raise NotPlainError('a storage that is part of another')
        storage = _Storage(str(key), _STORAGES[name], _as(int, count))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise NotPlainError('two storages with the same name')
        self.stack.append(storage)

    def reconstruct(self, *_):
        return _Array()

    def dtype(self, text, *_):
        text = text.decode('latin-1') if isinstance(text, bytes) else _as(str, text)
        return _Type(text)

    def frombuffer(self, content, kind, shape, order):
        return _Array(_filled(shape, _as(_Type, kind), order == 'F', content))

    def scalar(self, kind, content=b''):
        return _filled((), _as(_Type, kind), False, content)[()]

    def encode(self, text, _encoding='latin1'):
        return text.encode('latin-1')

    def no_bytes(self):
        return b''

    def ordered_dict(self, pairs=()):
        return _updated({}, *zip(*pairs, strict=True)) if pairs else {}

    def tensor(self, storage, offset, size, stride, *_):
        for number in (offset, *_as(tuple, size), *_as(tuple, stride)):
            _as(int, number)
        if len(size) != len(stride) or len(size) > DEEPEST:
            raise NotPlainError('a tensor whose size and stride do not match')
        return _Tensor(_as(_Storage, storage), offset, size, stride)

    def parameter(self, tensor, *_):
        return _as(_Tensor, tensor)


# Operations whose argument, as pickletools decodes it, is the object: numbers, text, bytes.
_PUSHED = {
    'INT',
    'BININT',
    'BININT1',
    'BININT2',
    'LONG',
    'LONG1',
    'LONG4',
    'FLOAT',
    'BINFLOAT',
    'STRING',
    'BINSTRING',
    'SHORT_BINSTRING',
    'UNICODE',
    'BINUNICODE',
    'SHORT_BINUNICODE',
    'BINUNICODE8',
    'BINBYTES',
    'SHORT_BINBYTES',
    'BINBYTES8',
    'BYTEARRAY8',
}
_CONSTANTS = {
    'NONE': lambda: None,
    'NEWTRUE': lambda: True,
    'NEWFALSE': lambda: False,
    'EMPTY_LIST': list,
    'EMPTY_DICT': dict,
    'EMPTY_TUPLE': tuple,
}
_CALLS = (
    {f'{module}._reconstruct': _Reader.reconstruct for module in _NUMPY}
    | {f'{module}.scalar': _Reader.scalar for module in _NUMPY}
    | {f'{module}._frombuffer': _Reader.frombuffer for module in _NUMERIC}
    | {
        'numpy.dtype': _Reader.dtype,
        '_codecs.encode': _Reader.encode,
        '__builtin__.bytes': _Reader.no_bytes,
        'collections.OrderedDict': _Reader.ordered_dict,
        'torch._utils._rebuild_tensor': _Reader.tensor,
        'torch._utils._rebuild_tensor_v2': _Reader.tensor,
        'torch._utils._rebuild_parameter': _Reader.parameter,
    }
)


def _as(kind, value):
    # type(), not isinstance: True must not pass for 1.
    if type(value) is not kind:
        raise NotPlainError(f'{type(value).__name__} where {kind.__name__} belongs')
    return value


def _updated(mapping, keys, values):
    for key, value in zip(keys, values, strict=True):
        # Tuples as keys are refused: hashing a tuple nested twice in the next, and so on, takes
        # exponential time.
        if not isinstance(key, (str, bytes, int, float)):
            raise NotPlainError(f'a {type(key).__name__} as the key of a dict')
        _as(dict, mapping)[key] = value
    return mapping


def _ordered(text, order):
    order = order.decode('latin-1') if isinstance(order, bytes) else order
    return order + text.lstrip('<>|=') if order in ('<', '>', '|', '=') else text


def _filled(shape, kind, fortran, content):
    """Returns the array that NumPy would have made, or a list of Python objects."""
    if any(_as(int, length) < 0 for length in _as(tuple, shape)):
        raise NotPlainError('an array of negative length')
    if kind.text.lstrip('<>|=')[:1] == 'O':
        items = _as(list, content)
        return items if shape else items[0]
    if not _DTYPE.fullmatch(kind.text):
        raise NotPlainError(f'an array of {kind.text}')
    # Python 2 pickled the bytes of an array as a string.
    content = content.encode('latin-1') if isinstance(content, str) else content
    array = np.frombuffer(content, kind.text).reshape(shape, order='F' if fortran else 'C')
    array.flags.writeable = False
    return array


def _finished(value, storage=None, depth=0, seen=None):
    """Returns ``value`` with all unfinished arrays and tensors replaced by arrays."""
    seen = {} if seen is None else seen
    if depth > DEEPEST:
        raise NotPlainError(f'containers nested more than {DEEPEST} deep')
    if value is _MARK or isinstance(value, (_Name, _Type, _Storage)):
        raise NotPlainError(f'{type(value).__name__} by itself')
    if not isinstance(value, (_Array, _Tensor, dict, list, tuple)):
        return value
    # A list that occurs ten times is rebuilt once. Nested lists would otherwise grow exponentially.
    if id(value) not in seen:
        seen[id(value)] = _rebuilt(value, storage, depth + 1, seen)
    return seen[id(value)]


def _rebuilt(value, storage, depth, seen):
    if isinstance(value, _Tensor):
        return value.array(storage)
    if isinstance(value, _Array):
        return _finished(value.value, storage, depth, seen)
    if isinstance(value, dict):
        return {key: _finished(item, storage, depth, seen) for key, item in value.items()}
    return type(value)(_finished(item, storage, depth, seen) for item in value)
