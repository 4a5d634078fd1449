"""Pickles are read as data: what NumPy and torch write comes out, and nothing is ever run."""

import collections
import contextlib
import pickle
import pickletools
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainer_jo.datasets import plain_pickle

ARRAY = np.arange(6, dtype=np.int64).reshape(2, 3)


def load(content, limit=10_000, **others):
    return plain_pickle.load(content, limit, **others)


def same(one, other):
    if isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'value',
    [
        {'given': ARRAY, 'rate': 0.4, 'many': [1, -2, 2**70], 'none': None, 'yes': True},
        [ARRAY.astype('>f4'), np.asfortranarray(ARRAY), np.array(3), ARRAY[:0]],
        collections.OrderedDict(a=np.array(['cat', 'ankle boot']), b=np.array([b'x', b'yz'])),
        (1, 2, 3, 4, (), [[]], {}, np.float32(0.5), 'text', b'bytes'),
    ],
    ids=['dict', 'arrays', 'ordered', 'tuple'],
)
def test_arrays_and_containers_are_read_as_pickle_reads_them(value, protocol):
    assert same(load(pickle.dumps(value, protocol)), value)


def nested(depth):
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    plain |= st.text() | st.binary()
    for _ in range(depth):
        plain |= (
            st.lists(plain, max_size=3)
            | st.dictionaries(st.text() | st.integers(), plain, max_size=3)
            | st.tuples(plain, plain)
        )
    return plain


@settings(max_examples=200)
@given(nested(4), st.integers(1, pickle.HIGHEST_PROTOCOL))
def test_any_plain_value_is_read_as_pickle_reads_it(value, protocol):
    content = pickle.dumps(value, protocol)
    assert same(load(content), pickle.loads(content))


def test_containers_may_be_eight_deep_and_no_more():
    deepest = []
    for _ in range(plain_pickle.DEEPEST):
        deepest = [deepest]
    assert load(pickle.dumps(deepest)) == deepest
    with pytest.raises(plain_pickle.NotPlainError, match='more than 8 deep'):
        load(pickle.dumps([deepest]))


@settings(max_examples=500)
@given(st.data())
def test_a_damaged_pickle_ends_in_an_error_or_in_plain_values(data):
    value = {'given': ARRAY, 'x': [1, 2.5, 'a']}
    content = bytearray(pickle.dumps(value, data.draw(st.integers(1, 5))))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    before, plain = set(sys.modules), True
    with contextlib.suppress(Exception):
        plain = is_plain(load(bytes(content)))
    assert plain
    assert set(sys.modules) == before


def is_plain(value):
    if isinstance(value, dict):
        return all(map(is_plain, [*value, *value.values()]))
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    plain = (str, bytes, bytearray, int, float, bool, type(None), np.generic)
    return isinstance(value, plain)


class Calls:
    """Makes a pickle that calls ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments

    def __repr__(self):
        return f'{self.function.__name__} called'


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
@pytest.mark.parametrize(
    'attack',
    [
        Calls(open, 'ran', 'w'),
        Calls(eval, "open('ran', 'w')"),
        Calls(getattr, 'text', 'format'),
        Calls(np.memmap, 'ran', 'u1', 'w+'),
        Calls(np.fromfile, 'ran'),
        Calls(bytearray, 10**12),
        collections.Counter('abc'),
        np.ma.masked_array([1]),
        slice(3),
        {1, 2},
        print,
    ],
    ids=str,
)  # fmt: skip
def test_what_would_call_anything_is_refused(attack, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(plain_pickle.NotPlainError):
        load(pickle.dumps(attack, protocol))
    assert list(tmp_path.iterdir()) == []


def numpys(dtype, content, shape=(1,)):
    """A pickle of an array as NumPy writes it, with a dtype and bytes of one's choice."""

    def pushed(value):
        return pickle.dumps(value, 2)[2:-1]

    return b''.join(
        [
            b'\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85',
            b'U\x01b\x87R(K\x01',
            pushed(shape),
            b'cnumpy\ndtype\nU' + bytes([len(dtype)]) + dtype.encode() + b'K\x00K\x01\x87R\x89',
            pushed(content),
            b'tb.',
        ]
    )


def test_the_hand_made_pickle_is_one_that_is_read():
    content = numpys('i8', b'\1' + bytes(7))
    assert load(content) == pickle.loads(content) == np.array([1])


@pytest.mark.parametrize('dtype', ['O8', '|O', 'V8', 'M8[s]', 'i8,i8', '(9,)i8', 'i3', 'f16x'])
def test_bytes_are_never_taken_for_objects_or_other_odd_things(dtype):
    with pytest.raises(plain_pickle.NotPlainError):
        load(numpys(dtype, bytes(8)))


def test_an_array_of_objects_becomes_their_list_and_never_an_array():
    boxed = np.array({'given': ARRAY}, dtype=object)
    assert same(load(pickle.dumps(boxed)), {'given': ARRAY})
    assert load(pickle.dumps(np.array([1, 'a'], dtype=object))) == [1, 'a']


@pytest.mark.parametrize('shape', [(10**9,), (-1,), (2**62, 4), (1.0,), ('1',)])
def test_a_shape_that_its_bytes_do_not_fill_is_an_error(shape):
    with pytest.raises(ValueError, match='.'):
        load(numpys('i8', bytes(16), shape))


def test_too_many_objects_are_refused():
    content = pickle.dumps(list(range(1000)))
    assert load(content, limit=2000) == list(range(1000))
    with pytest.raises(plain_pickle.NotPlainError, match='more than 100 objects'):
        load(content, limit=100)


def laughs(depth, breadth=10):
    value = ['ha']
    for _ in range(depth):
        value = [value] * breadth
    return value


def looped():
    value = []
    value.append(value)
    return value


def twice_a_key(depth=100):
    # t = (t, t), a hundred times over, as the key of a dict.
    return b'\x80\x04}K\x01' + b'q\x00h\x00\x86' * depth + b'K\x01s.'


@pytest.mark.parametrize(
    'content',
    [
        pickle.dumps(laughs(30)),
        pickle.dumps(looped()),
        twice_a_key(),
        b'\x80\x04' + b'\x95' + b'\xff' * 8 + b'.',
        b'\x80\x04\x8e' + struct.pack('<Q', 2**60) + b'.',
        b'\x80\x02K\x01r\xff\xff\xff\xff' + b'K\x02' * 3,
        b'\x80\x02' + b'(' * 5000 + b'.',
        b'I' + b'9' * 5000 + b'\n.',
    ],
    ids=['laughs', 'loop', 'hash', 'frame', 'bytes', 'memo', 'marks', 'digits'],
)
def test_a_bomb_ends_at_once_and_in_little_memory(content):
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(Exception, match='.'):
        load(content)
    assert time.process_time() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_lists_that_are_named_many_times_take_no_more_room_than_once():
    assert load(pickle.dumps(laughs(3))) == laughs(3)
    # Written out, these would be 10 ** 15 lists.
    read = load(pickle.dumps(laughs(6, 300)))
    assert (len(read), read[0] is read[299]) == (300, True)


def torch_tensor(kind, size, stride, offset=0, numel=6):
    """What torch.save writes in ``data.pkl`` for a tensor, byte by byte the same operations."""
    ints = b''.join
    return (
        b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n'
        + kind.encode()
        + b'\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK'
        + bytes([numel])
        + b'tQK'
        + bytes([offset])
        + ints([b'(', *(b'J' + struct.pack('<i', n) for n in size), b't'])
        + ints([b'(', *(b'J' + struct.pack('<i', n) for n in stride), b't'])
        + b'\x89ccollections\nOrderedDict\n)RtR.'
    )


@pytest.mark.parametrize(
    ('size', 'stride', 'offset'), [((2, 3), (3, 1), 0), ((3, 2), (1, 3), 0), ((4,), (1,), 2)]
)
def test_a_tensor_of_torch_is_a_view_of_its_storage(size, stride, offset):
    flat = np.arange(6, dtype='<i8')
    read = load(
        torch_tensor('LongStorage', size, stride, offset), storage={'0': flat.tobytes()}.get
    )
    view = np.lib.stride_tricks.as_strided(flat[offset:], size, [8 * step for step in stride])
    np.testing.assert_array_equal(read, view)


@pytest.mark.parametrize(
    ('size', 'stride', 'offset'),
    [((7,), (1,), 0), ((3,), (3,), 0), ((3,), (-1,), 0), ((6,), (1,), 1), ((2**20,), (0,), 0)],
)
def test_a_tensor_that_reaches_out_of_its_storage_is_an_error(size, stride, offset):
    content = torch_tensor('LongStorage', size, stride, offset)
    with pytest.raises((ValueError, IndexError)):
        load(content, storage={'0': np.arange(6).tobytes()}.get)


def test_a_storage_of_another_kind_is_refused():
    with pytest.raises(plain_pickle.NotPlainError, match='persistent UntypedStorage'):
        load(torch_tensor('UntypedStorage', (6,), (1,)), storage={'0': bytes(48)}.get)


def test_every_operation_that_is_known_to_python_is_read_or_refused_by_name():
    known = plain_pickle._PUSHED | set(plain_pickle._CONSTANTS)
    known |= {name for name in dir(plain_pickle._Reader) if name.startswith('_')}
    refused = {
        code.name
        for code in pickletools.opcodes
        if code.name not in known and f'_{code.name.lower()}' not in known
    } - {'STOP'}
    # Sets have no order; the others make objects or ask for some from elsewhere.
    assert refused == {
        'NEXT_BUFFER', 'READONLY_BUFFER', 'EMPTY_SET', 'ADDITEMS', 'FROZENSET', 'INST', 'OBJ',
        'NEWOBJ', 'NEWOBJ_EX', 'EXT1', 'EXT2', 'EXT4', 'PERSID', 'DUP',
    }  # fmt: skip
