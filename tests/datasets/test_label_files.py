import numpy as np
import pytest

from chainer_jo import store
from chainer_jo.datasets.label_files import load_noise, read_labels, save_noise
from chainer_jo.errors import DataError

LABELS = np.array([3, 0, 9, 9, 1], np.int32)
LINES = ''.join(f'{label}\n' for label in LABELS)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.fixture(params=['npy', 'npz', 'npz of many', 'csv', 'csv of many', 'csv with header'])
def labels_file(request, tmp_path):
    """A label file and the key it needs."""
    kind = request.param
    path = tmp_path / f'labels.{kind[:3]}'
    if kind == 'npy':
        np.save(path, LABELS.astype(np.int64))
    elif kind == 'npz':
        np.savez(path, a=LABELS)
    elif kind == 'npz of many':
        np.savez(path, clean=LABELS * 0, worse=LABELS.astype(np.uint8))
        return path, 'worse'
    elif kind == 'csv':
        path.write_text(LINES)
    elif kind == 'csv with header':
        path.write_text(f'label\r\n{LINES}\n')
    else:
        rows = ''.join(f'cat_{i}.png, {label}\n' for i, label in enumerate(LABELS))
        path.write_text('file,worse\n' + rows)
        return path, 'worse'
    return path, None


def test_labels_are_read_from_every_kind_of_file(labels_file):
    path, key = labels_file
    labels = read_labels(path, 5, 10, key)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, LABELS)


def test_a_label_file_of_the_wrong_length_is_refused(labels_file):
    path, key = labels_file
    with pytest.raises(DataError, match=r'seen: shape \(5,\)\n  fix:  bring 6 labels'):
        read_labels(path, 6, 10, key)


def test_a_class_out_of_range_is_refused_with_its_place(labels_file):
    path, key = labels_file
    with pytest.raises(DataError, match=r'class 9 for example 2 \(2 such labels\)'):
        read_labels(path, 5, 9, key)


def test_a_wrong_key_is_refused_with_the_keys_there_are(labels_file):
    path, _ = labels_file
    with pytest.raises(DataError, match="key 'other', where"):
        read_labels(path, 5, 10, 'other')


def test_a_file_of_many_needs_a_key(tmp_path):
    np.savez(tmp_path / 'many.npz', clean=LABELS, worse=LABELS)
    with pytest.raises(DataError, match='no key, where the file has clean, worse'):
        read_labels(tmp_path / 'many.npz', 5, 10)


@pytest.mark.parametrize(
    ('name', 'content', 'seen'),
    [
        ('labels.txt', '3\n', "ending '.txt'"),
        ('labels.csv', '', r'shape \(0,\)'),
        ('labels.csv', '3\n\n0\ncat\n', "'cat'"),
        ('labels.csv', 'a,b\n1,2\n3\n', 'no key'),
        ('labels.csv', '-1\n0\n0\n0\n0\n', 'class -1 for example 0'),
        ('labels.npy', '', 'seen: .'),
        ('labels.npz', 'PK\3\4 cut short', 'seen: .'),
        ('labels.npy', 'not an array at all', 'seen: .'),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, seen):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=seen):
        read_labels(tmp_path / name, 5, 10)


def test_a_missing_file_is_refused_with_three_lines(tmp_path):
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path / 'none.npy', 5, 10)
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) == 3


def test_fractions_are_refused(tmp_path):
    np.save(tmp_path / 'soft.npy', LABELS / 2)
    with pytest.raises(DataError, match='float64'):
        read_labels(tmp_path / 'soft.npy', 5, 10)


def test_a_file_of_python_objects_is_refused_and_nothing_in_it_runs(tmp_path):
    np.save(tmp_path / 'objects.npy', np.array([Payload(tmp_path / 'ran')]), allow_pickle=True)
    with pytest.raises(DataError, match='cannot use the labels'):
        read_labels(tmp_path / 'objects.npy', 1, 10)
    assert not (tmp_path / 'ran').exists()


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
