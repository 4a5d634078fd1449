import copy
import hashlib
import io
import json
import os
import stat
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from chainer_jo import store
from chainer_jo.errors import DataError, InUseError, WriteError

ARRAYS = {'y': np.eye(3, dtype='f'), 'stage': np.array('correct'), 'empty': np.zeros((0, 2), 'i')}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
plain_arrays = st_np.arrays(
    st.sampled_from(['<f4', '<f8', '<i4', '|u1', '|b1', '<U5']),
    st_np.array_shapes(min_dims=0, min_side=0, max_dims=3),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp('store')


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@given(value=json_values)
def test_json_comes_back_as_it_went(folder, value):
    store.write_json(folder / 'value.json', value)
    assert json.loads((folder / 'value.json').read_text()) == value


arrays_by_name = st.dictionaries(st.sampled_from(['a', 'b/c', 'net/0/W']), plain_arrays)


@pytest.mark.parametrize('read', [store.read_arrays, store.map_arrays])
@given(arrays=arrays_by_name)
def test_arrays_come_back_with_name_dtype_shape_and_bits(folder, read, arrays):
    store.write_arrays(folder / 'x.arrays', arrays)
    back = read(folder / 'x.arrays')
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()


def test_equal_arrays_make_equal_files_in_whatever_order_they_come(tmp_path):
    store.write_arrays(tmp_path / 'one', ARRAYS)
    store.write_arrays(tmp_path / 'two', dict(reversed(ARRAYS.items())))
    assert (tmp_path / 'one').read_bytes() == (tmp_path / 'two').read_bytes()


def test_text_is_utf_8_and_replaces_the_older_file(tmp_path):
    store.write_text(tmp_path / 'text', 'older')
    store.write_text(tmp_path / 'text', 'λ ~ Beta(α, α)\n')
    assert (tmp_path / 'text').read_bytes() == 'λ ~ Beta(α, α)\n'.encode()
    assert names(tmp_path) == ['text']


@pytest.mark.parametrize('value', [float('nan'), float('inf'), {'loss': [1, -float('inf')]}])
def test_numbers_that_are_not_json_are_not_written(tmp_path, value):
    with pytest.raises(ValueError, match='not JSON compliant'):
        store.write_json(tmp_path / 'x.json', value)
    assert names(tmp_path) == []


@pytest.mark.parametrize('text', ['', '{', '{"a": NaN}', '[Infinity]', '{"a": 1} x', '\xff'])
def test_json_that_is_torn_or_not_json_is_refused_by_name(tmp_path, text):
    path = tmp_path / 'x.json'
    path.write_text(text, encoding='latin-1')
    with pytest.raises(DataError, match=f'cannot read {path}'):
        store.read_unsealed(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    for read in (store.read_unsealed, store.read_arrays, store.map_arrays):
        with pytest.raises(DataError, match='cannot read .*nowhere'):
            read(tmp_path / 'nowhere')


def test_a_flipped_bit_or_a_truncation_of_an_array_file_is_noticed(tmp_path):
    path = tmp_path / 'x.arrays'
    store.write_arrays(path, ARRAYS)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        for content in (damaged, whole[:place]):
            path.write_bytes(content)
            for read in (store.read_arrays, store.map_arrays):
                with pytest.raises(DataError, match='is damaged'):
                    read(path)
    path.write_bytes(whole + b'\0')
    with pytest.raises(DataError, match='is damaged'):
        store.read_arrays(path)


def test_who_mapped_a_file_keeps_it_when_another_takes_its_place(tmp_path):
    store.write_arrays(tmp_path / 'x', {'a': np.arange(9)})
    mapped = store.map_arrays(tmp_path / 'x')['a']
    store.write_arrays(tmp_path / 'x', {'a': np.zeros(90_000)})
    np.testing.assert_array_equal(mapped, np.arange(9))
    with pytest.raises(ValueError, match='read-only'):
        mapped[0] = 1


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(TypeError, match='rows holds Python objects'):
        store.write_arrays(tmp_path / 'x.arrays', {'rows': np.array([None])})
    assert names(tmp_path) == []


def test_a_file_is_synced_before_it_takes_the_place_of_the_older_one_and_its_folder_after(
    tmp_path, monkeypatch
):
    store.write_text(tmp_path / 'x', 'older')
    done = []

    def watched(name):
        function = getattr(os, name)

        def call(*arguments):
            done.append((name, names(tmp_path)))
            if name == 'fsync':
                done[-1] += (stat.S_ISDIR(os.fstat(arguments[0]).st_mode),)
            return function(*arguments)

        monkeypatch.setattr(os, name, call)

    watched('fsync')
    watched('replace')
    store.write_text(tmp_path / 'x', 'content')
    both = [f'.x.{os.getpid()}.tmp', 'x']
    assert done == [
        ('fsync', both, False),
        ('replace', both),
        ('fsync', ['x'], True),
    ]


def test_a_failed_write_leaves_the_older_file_and_nothing_else(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, 'No space left on device')

    store.write_text(tmp_path / 'x', 'older')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(WriteError, match='cannot write .*x') as error:
        store.write_text(tmp_path / 'x', 'newer')
    assert error.value.seen == 'No space left on device (5 bytes to write)'
    assert (tmp_path / 'x').read_text() == 'older'
    assert names(tmp_path) == ['x']


def test_no_folder_is_made_by_a_write(tmp_path):
    with pytest.raises(WriteError):
        store.write_text(tmp_path / 'away' / 'x', 'content')
    assert names(tmp_path) == []


def test_digests_tell_apart_values_types_shapes_and_order():
    x = np.arange(6, dtype='i')
    values = [
        (x,), (x.reshape(2, 3),), (x.astype('f'),), (x.astype('<i8'),), (x[::-1],), (x, x),
        ('a', 'b'), ('b', 'a'), ('ab',), ({'a': 1},), ({'a': 2},), (1,), (1.5,), ('1',), (None,),
    ]  # fmt: skip
    digests = [store.digest(*value) for value in values]
    assert len(set(digests)) == len(values)
    assert all(len(digest) == 64 for digest in digests)


def test_a_digest_depends_on_content_only():
    x = np.arange(6.0).reshape(2, 3)
    assert store.digest(x) == store.digest(np.asfortranarray(x)) == store.digest(x.copy())
    assert store.digest({'a': 1, 'b': 2}) == store.digest({'b': 2, 'a': 1})


def test_a_locked_folder_is_refused_with_pid_and_host(tmp_path):
    with store.lock(tmp_path / 'trial'), pytest.raises(InUseError) as error:  # noqa: SIM117
        with store.lock(tmp_path / 'trial'):
            pass
    assert error.value.seen.startswith(f'pid {os.getpid()} on ')
    with store.lock(tmp_path / 'trial'):
        pass
    assert names(tmp_path / 'trial') == ['.lock']


def test_a_lock_is_free_again_after_an_error(tmp_path):
    def fail():
        with store.lock(tmp_path):
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()


def test_whoever_takes_a_lock_sweeps_the_temporary_files_of_the_dead_and_nothing_else(tmp_path):
    (tmp_path / '.log.jsonl.4711.tmp').write_text('half a l')
    store.write_text(tmp_path / 'notes.tmp', 'mine')
    store.write_text(tmp_path / 'log.jsonl', json.dumps({}))
    with store.lock(tmp_path):
        assert names(tmp_path) == ['.holder', '.lock', 'log.jsonl', 'notes.tmp']


def test_a_temporary_file_that_cannot_be_deleted_does_not_keep_a_folder_from_its_user(
    tmp_path, monkeypatch
):
    for name in ('.a.json.7.tmp', '.b.json.7.tmp'):
        (tmp_path / name).touch()
    unlink = Path.unlink

    def not_mine(path, **options):
        if path.name.startswith('.a'):
            raise PermissionError(path)
        unlink(path, **options)

    monkeypatch.setattr(Path, 'unlink', not_mine)
    with store.lock(tmp_path):
        assert names(tmp_path) == ['.a.json.7.tmp', '.holder', '.lock']


def test_arrays_are_written_as_numpy_writes_them_after_the_head(tmp_path):
    """Files of earlier versions and of this one are the same to the byte."""
    store.write_arrays(tmp_path / 'x.arrays', ARRAYS)
    buffer = io.BytesIO()
    np.savez(buffer, **dict(sorted(ARRAYS.items())))
    content = buffer.getvalue()
    head = store.MAGIC + hashlib.sha256(content).digest()
    assert (tmp_path / 'x.arrays').read_bytes() == head + content


def test_saving_arrays_needs_little_memory_beside_them(tmp_path):
    arrays = {'history': np.ones((10, 300_000, 10), 'f'), 'y': np.ones((300_000, 10), 'f')}
    size = sum(array.nbytes for array in arrays.values())
    tracemalloc.start()
    store.write_arrays(tmp_path / 'x.arrays', arrays)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.2 * size
    assert store.read_arrays(tmp_path / 'x.arrays')['history'].shape == (10, 300_000, 10)


@pytest.mark.parametrize('copies', [False, True])
def test_a_tree_is_whole_or_absent_and_never_over_another(tmp_path, monkeypatch, copies):
    store.write_text(tmp_path / 'a', 'x')
    tree, files = tmp_path / 'tree', [('one/a', tmp_path / 'a'), ('two/a', tmp_path / 'a')]
    with pytest.raises(WriteError):
        store.write_tree(tree, [*files, ('one/a/below a file', tmp_path / 'a')], copies)
    assert names(tmp_path) == ['a']
    store.write_tree(tree, files, copies)
    assert sorted(path.read_text() for path in tree.rglob('a')) == ['x', 'x']
    assert [path.is_symlink() for path in tree.rglob('a')] == [not copies] * 2
    with pytest.raises(WriteError, match='already'):
        store.write_tree(tree, [], copies)
    store.write_tree(tmp_path / 'b', [], copies)
    store.write_tree(tmp_path / 'b', files, copies)
    assert names(tmp_path) == ['a', 'b', 'tree']


def forged(path, write):
    """An array file of anybody: its digest is right."""
    file = io.BytesIO()
    write(file)
    body = file.getvalue()
    path.write_bytes(store.MAGIC + hashlib.sha256(body).digest() + body)
    return path


def unpacks_to_much(file):
    with (
        zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive,
        archive.open('a.npy', 'w') as a,
    ):
        for _ in range(2**6):
            a.write(bytes(2**20))


def lies_about_its_shape(file):
    header = io.BytesIO()
    described = {'descr': '<f4', 'fortran_order': False, 'shape': (2**40,)}
    np.lib.format.write_array_header_1_0(header, described)
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a.npy', header.getvalue())


def one_array_by_many_names(file):
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a.npy', bytes(2**20))
        for i in range(10_000):
            member = copy.copy(archive.filelist[0])
            member.filename = f'{i}.npy'
            archive.filelist.append(member)


def many_objects(file):
    np.savez(file, a=np.array([{}] * 10, object))


def nothing(file):
    """Not even an archive."""


@pytest.mark.parametrize(
    ('write', 'seen'),
    [
        (unpacks_to_much, 'it is compressed'),
        (lies_about_its_shape, 'buffer is too small'),
        (one_array_by_many_names, 'more bytes than the whole'),
        (many_objects, 'Python objects'),
        (nothing, 'not a zip file'),
    ],
)
def test_a_forged_array_file_is_refused_in_little_memory(write, seen, tmp_path):
    path = forged(tmp_path / 'x.arrays', write)
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        store.read_arrays(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen in caught.value.seen
    assert most < 16 * path.stat().st_size + 2**20


def test_a_tree_that_was_not_finished_is_deleted_with_the_next_lock(tmp_path):
    (tmp_path / '.clean.12345.tmp/cats').mkdir(parents=True)
    with store.lock(tmp_path):
        assert not list(tmp_path.glob('.*.tmp'))


def test_a_tree_may_be_made_in_the_empty_folder_one_is_in(tmp_path, monkeypatch):
    (tmp_path / 'a.png').write_bytes(b'a')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    store.write_tree('.', [('cats/a.png', tmp_path / 'a.png')])
    assert (tmp_path / 'here/cats/a.png').read_bytes() == b'a'


def test_the_temporary_file_of_a_writer_that_lives_stays_however_old_it_is(tmp_path):
    mine = tmp_path / f'.table2.md.{os.getpid()}.tmp'
    mine.write_text('half of a table')
    os.utime(mine, (time.time() - 1000,) * 2)
    store.sweep(tmp_path)
    assert mine.exists()
