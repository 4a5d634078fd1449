"""Label files as people have them: what each is read as, or the three lines that it gets."""

import json
import os
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_writers import (
    CLASSES,
    LABELS,
    MANY,
    OBJECTS,
    READ,
    N,
    lines,
    npy,
    npz,
    pickled,
    text,
    torch_old,
    torch_zip,
)

from chainer_jo import store
from chainer_jo.datasets.label_files import doubt, load_noise, read_labels, save_noise
from chainer_jo.errors import DataError


@pytest.mark.parametrize('name', ['labels', 'UPPER.NPY', 'at:noon.csv', 'a b.json'])
@pytest.mark.parametrize('kind', READ)
def test_labels_are_read_whatever_the_file_is_called(kind, name, tmp_path):
    write, key, understood = READ[kind]
    write(tmp_path / name)
    read = read_labels(f'{tmp_path / name}{key}', N, CLASSES)
    assert read.labels.dtype == np.int32
    np.testing.assert_array_equal(read.labels, LABELS)
    assert understood in read.understood
    assert len(read.understood.splitlines()) == 1


def test_a_tensor_of_torch_is_read(tmp_path):
    pkl = (
        b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n'
        b'LongStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x00K\x06\x85K\x01\x85'
        b'\x89ccollections\nOrderedDict\n)RtR.'
    )
    path = tmp_path / 'labels.pt'
    torch_zip(pkl, **{'0': LABELS.astype('<i8').tobytes()})(path)
    np.testing.assert_array_equal(read_labels(path, N, CLASSES).labels, LABELS)


def test_a_column_that_numbers_the_images_in_order_is_no_obstacle(tmp_path):
    rows = [f'{i},{label}' for i, label in enumerate(LABELS)]
    (tmp_path / 'labels.csv').write_text('\n'.join([',label', *rows]))
    read = read_labels(f'{tmp_path / "labels.csv"}:label', N, CLASSES)
    np.testing.assert_array_equal(read.labels, LABELS)


def test_the_first_of_two_that_are_as_large_is_taken_and_that_is_said(tmp_path):
    np.save(tmp_path / 'soft.npy', np.array([[0.5, 0.5, 0, 0], [0, 0, 0.4, 0.6]]))
    read = read_labels(tmp_path / 'soft.npy', 2, CLASSES)
    assert read.labels.tolist() == [0, 3]
    assert '(1 ties: the first)' in read.understood


@pytest.mark.parametrize(
    'order', [sorted, lambda names: names[::-1], list], ids=['abc', 'zyx', 'own']
)
def test_soft_labels_are_read_by_the_names_of_their_columns(order, tmp_path):
    names = order(list(CLASSES))
    soft = np.eye(len(CLASSES))[LABELS] * 0.7 + 0.3 / len(CLASSES)
    columns = [soft[:, CLASSES.index(name)] for name in names]
    rows = [','.join(f'{share:.3f}' for share in row) for row in zip(*columns, strict=True)]
    (tmp_path / 'soft.csv').write_text('\n'.join([','.join(names).upper(), *rows]))
    np.testing.assert_array_equal(read_labels(tmp_path / 'soft.csv', N, CLASSES).labels, LABELS)


def refusal(path, n=N):
    with pytest.raises(DataError) as caught:
        read_labels(path, n, CLASSES)
    said = str(caught.value)
    assert caught.value.exit_code == 3
    assert len(said.split('\n')) == 3
    # The name of the file is the only thing that may be long.
    assert len(said) - len(str(path)) < 400, said
    return said


LONG = lines([0, 1] * 5000)
REFUSED = {
    'two arrays': (npz(**MANY), '', 'no key, but the file has clean, given', 'FILE:given'),
    'wrong key': (npz(**MANY), ':other', "'other', but the file has clean, given", ':given'),
    'dictionary': (npy(OBJECTS), '', 'no key, but the file has clean, given', 'FILE:given'),
    'two columns': (text('true,given\n1,1\n'), '', 'has true, given', 'FILE:given'),
    'no name': (text(',label\n0,1\n'), '', 'has , label', 'FILE:label'),
    'shuffled': (
        text(lines(['index,label', *(f'{i},0' for i in [1, 0, 2, 3, 5, 4])])),
        ':label', "the column 'index' numbers the images", 'sort the rows',
    ),
    'shuffled from 1': (
        text(lines(['id,label', *(f'{i},0' for i in [6, 5, 4, 3, 2, 1])])),
        ':label', "the column 'id' numbers the images", 'sort the rows',
    ),
    'key of none': (npy(LABELS), ':given', 'one array without a name', 'leave out the colon'),
    'many columns': (npy(np.zeros((N, 3), int)), '', '3 numbers for each', 'FILE:0 to FILE:2'),
    'long': (text(LONG), '', '10,000 labels', 'provide 6 labels'),
    'long list': (text(json.dumps([0] * 1010)), '', '1,010 labels', 'provide 6 labels'),
    'long row': (text(','.join('01' * 5000)), '', '', ''),
    'one cell': (text(f'labels\n"{LABELS.tolist() * 999}"\n'), '', '', 'write only numbers from 0'),
    'quote': (text(f'file,label\n"{LONG}'), '', '', ''),
    'no such class': (text(lines(['bag', 'cat'])), '', "'cat' for example 1", 'trouser'),
    'class 4': (npy(LABELS + 1), '', 'class 4 for example 0 (1 such', 'these count from 1'),
    'class -1': (npy(LABELS - 1), '', 'class -1 for example 1', 'from 0 to 3'),
    'class 1e30': (text(lines([1e30] * N)), '', 'class 100000', 'from 0 to 3'),
    'fractions': (npy(LABELS / 2), '', '1.5 for example 0', 'as integers'),
    'nan': (text(lines([0, 'nan', 0, 0, 0, 0])), '', "'nan' for example 1", ''),
    'rows of votes': (npy(np.eye(4)[LABELS] * 50), '', 'do not sum to 1', 'divide every row'),
    'booleans': (npy(LABELS > 1), '', 'booleans', 'as integers'),
    'complex': (npy(LABELS * 1j), '', 'complex', 'numpy.save'),
    'ragged': (text('[[1, 2], [1]]'), '', 'rows of different lengths', ''),
    'null': (text('[1, null, 2, 2, 1, 0]'), '', 'None', ''),
    'ragged csv': (text('a,b\n1,2\n3\n'), '', '1 cells in row 3', ''),
    'by name': (text('{"cat.png": 1, "dog.png": 2}'), '', "'cat.png'", 'from 0'),
    'gaps': (text('{"0": 1, "2": 2}'), '', '2 labels by number, but the numbers', 'from 0'),
    'number': (text('[[[1]]]'), '', '', ''),
    'empty': (text(''), '', 'an empty file', ''),
    'blank': (text('\n \n'), '', 'no text', ''),
    'page': (text('<!DOCTYPE html><html>Not found</html>' * 99), '', 'a web page', 'download'),
    'page in XML': (text('\n<?xml version="1.0"?><Error/>'), '', 'a web page', 'download'),
    'pointer': (
        text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'),
        '', 'a git-lfs pointer', 'git lfs pull',
    ),
    'gzip': (lambda path: path.write_bytes(b'\x1f\x8b\x08' + bytes(99)), '', 'gzip', 'gunzip'),
    'binary': (lambda path: path.write_bytes(bytes(range(1, 256)) * 99), '', 'neither text', ''),
    'cut zip': (lambda path: path.write_bytes(b'PK\3\4 cut short'), '', 'truncated', 'copy'),
    'cut npy': (lambda path: path.write_bytes(b'\x93NUMPY'), '', 'damaged', ''),
    'other zip': (torch_zip(b'', pkl='renamed.csv'), '', 'archive/renamed.csv', 'unpack it'),
}  # fmt: skip


@pytest.mark.parametrize('kind', REFUSED)
def test_what_is_not_clear_is_refused_in_three_short_lines(kind, tmp_path):
    write, key, seen, fix = REFUSED[kind]
    write(tmp_path / 'labels.npy')
    said = refusal(f'{tmp_path}/labels.npy{key}')
    _, second, third = said.split('\n')
    assert seen in second
    assert fix in third


@pytest.mark.parametrize('name', ['none.npy', 'none.npz:key', 'no/such/folder.csv', 'x' * 300])
def test_a_file_that_is_missing_is_said_to_be(name, tmp_path):
    said = refusal(tmp_path / name)
    assert 'no such file' in said or 'file name too long' in said


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe.npy')
    began = time.monotonic()
    assert 'not a regular file' in refusal(tmp_path / 'pipe.npy')
    assert 'a folder' in refusal(tmp_path)
    assert 'not a regular file' in refusal('/dev/zero')
    assert time.monotonic() - began < 1


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return open, ('ran', 'w')


@pytest.mark.parametrize(
    'write',
    [
        npy(np.array([Payload()], dtype=object)),
        npz(a=np.array(Payload(), dtype=object)),
        torch_zip({'given': Payload()}),
        torch_old(Payload()),
        pickled(Payload(), 0),
        pickled({'given': Payload()}, 4),
    ],
    ids=['npy', 'npz', 'torch', 'old torch', 'pickle 0', 'pickle 4'],
)
def test_nothing_in_a_file_is_ever_run(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'labels.npy')
    refusal(tmp_path / 'labels.npy')
    assert not (tmp_path / 'ran').exists()


def npy_header(shape):
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header


def zip_bomb(path):
    with (
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive,
        archive.open('a.npy', 'w', force_zip64=True) as member,
    ):
        member.write(npy_header('(125000000,)'))
        for _ in range(200):
            member.write(bytes(10**6))


def lying_zip(path):
    zip_bomb(path)
    content = bytearray(path.read_bytes())
    # The directory at the end says that the member is small.
    place = content.rfind(b'PK\1\2') + 24
    content[place : place + 4] = struct.pack('<I', 100)
    path.write_bytes(content)


def many_members(path):
    with zipfile.ZipFile(path, 'w') as archive:
        for i in range(20_000):
            archive.writestr(f'{i:0200}.npy', b'')


def zipped_by(method):
    def write(path):
        with zipfile.ZipFile(path, 'w', method) as archive:
            archive.writestr('a.npy', bytes(10**6))

    return write


def sparse(path):
    path.touch()
    os.truncate(path, 10**10)


def repeated(content):
    return lambda path: path.write_bytes(content)


BOMBS = {
    'zip': zip_bomb,
    'lying zip': lying_zip,
    'members': many_members,
    'lzma': zipped_by(zipfile.ZIP_LZMA),
    'bzip2': zipped_by(zipfile.ZIP_BZIP2),
    'shape': repeated(npy_header('(10**12,)'.replace('10**12', str(10**12)))),
    'size': sparse,
    'lists': repeated(b'[' + b'[],' * 300_000 + b'[]]'),
    'nested': repeated(b'[' * 900),
    'deep': repeated(b'{"a":' * 900 + b'1' + b'}' * 900),
    'commas': repeated(b'[' + b'1,' * 500_000 + b'1]'),
    'digits': repeated(b'[' + b'9' * 100_000 + b']'),
    'cell': repeated(b'a,b\n"' + b'x' * 200_000 + b'",1\n'),
    'long name': repeated(b'["' + b'x' * 500_000 + b'"' + b',"y"' * 5 + b']'),
    'objects': repeated(b'\x80\x02(' + b']' * 500_000 + b'l.'),
}


@pytest.mark.parametrize('kind', BOMBS)
def test_a_bomb_is_refused_at_once_and_in_little_memory(kind, tmp_path):
    BOMBS[kind](tmp_path / 'labels')
    tracemalloc.start()
    began = time.process_time()
    refusal(tmp_path / 'labels')
    assert time.process_time() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_an_array_that_unpacks_to_too_much_is_said_to_be_too_large(tmp_path):
    zip_bomb(tmp_path / 'labels.npz')
    assert 'a.npy has more than' in refusal(tmp_path / 'labels.npz')


SOUND = [kind for kind in READ if kind not in ('savetxt', 'soft savetxt')]


@settings(max_examples=300)
@given(st.sampled_from(SOUND), st.data())
def test_a_damaged_file_gives_labels_or_three_lines(tmp_path_factory, kind, data):
    path = tmp_path_factory.getbasetemp() / 'damaged'
    write, key, _ = READ[kind]
    write(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        labels = read_labels(f'{path}{key}', N, CLASSES).labels
    except DataError as error:
        labels = np.zeros(N, np.int32)
        assert len(str(error).split('\n')) == 3  # noqa: PT017
    assert (labels.shape, labels.dtype) == ((N,), np.int32)
    assert set(labels) <= set(range(len(CLASSES)))


def drawn(wrong, seed=0, n=5000, n_class=10):
    random = np.random.default_rng(seed)
    true = random.integers(0, n_class, n).astype(np.int32)
    other = random.integers(0, n_class, n).astype(np.int32)
    return np.where(random.random(n) < wrong, other, true).astype(np.int32), true


@pytest.mark.parametrize('wrong', [0, 0.4, 0.9])
def test_labels_that_know_anything_of_the_true_ones_are_not_doubted(wrong):
    assert doubt(*drawn(wrong), 10) is None


def test_labels_of_another_order_of_images_are_doubted():
    said = doubt(*drawn(1), 10)
    assert 'no more than chance' in said
    assert 'another order of images' in said
    labels, true = drawn(0.2)
    assert 'another order of images' in doubt(np.sort(labels)[::-1], np.roll(true, 7), 10)


def test_classes_in_another_order_are_doubted_and_named():
    labels, true = drawn(0.2)
    said = doubt((labels + 1) % 10, true, 10)
    assert 'the classes are in another order: renumbered, 82' in said


def test_saved_noise_is_read_back_and_hashed(tmp_path):
    path, index = tmp_path / 'noisy_labels.arrays', np.arange(5) * 2
    digest = save_noise(path, LABELS, LABELS[::-1], index)
    for seen, expected in zip(load_noise(path), (LABELS, LABELS[::-1], index), strict=True):
        np.testing.assert_array_equal(seen, expected)
    assert digest == store.digest(LABELS)


def test_changed_noise_is_noticed(tmp_path):
    path = tmp_path / 'noisy_labels.arrays'
    save_noise(path, LABELS, LABELS, np.arange(5))
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match='damaged'):
        load_noise(path)


@pytest.mark.parametrize('first', [0, 1, 2])
def test_images_are_numbered_from_0_or_1_and_not_from_2(first, tmp_path):
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps({str(first + i): int(c) for i, c in enumerate(LABELS)}))
    if first < 2:
        np.testing.assert_array_equal(read_labels(path, N, CLASSES).labels, LABELS)
    else:
        with pytest.raises(DataError, match='cannot use') as refused:
            read_labels(path, N, CLASSES)
        assert 'the numbers have gaps' in refused.value.seen


@pytest.mark.parametrize('total', [0.9, 1.05])
def test_rows_that_nearly_sum_to_one_are_no_probabilities(total, tmp_path):
    soft = (np.eye(len(CLASSES))[LABELS] * 0.7 + 0.3 / len(CLASSES)) * total
    np.save(tmp_path / 'soft.npy', soft)
    with pytest.raises(DataError) as refused:
        read_labels(tmp_path / 'soft.npy', N, CLASSES)
    assert 'do not sum to 1' in refused.value.seen
