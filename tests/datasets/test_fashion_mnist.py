import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainer_jo import datasets, store
from chainer_jo.datasets import fashion_mnist
from chainer_jo.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path('/usr/share/datasets/fashion-mnist')


def test_the_embedded_subset_is_balanced_and_labelled():
    dataset = datasets.load('fashion_mnist')
    assert (dataset.name, dataset.variant) == ('fashion_mnist', 'embedded subset')
    assert dataset.train.images.shape == (6000, 1, 28, 28)
    assert dataset.test.images.shape == (2000, 1, 28, 28)
    assert dataset.train.images.dtype == dataset.test.images.dtype == np.uint8
    assert dataset.train.labels.dtype == dataset.test.labels.dtype == np.int32
    assert np.bincount(dataset.train.labels).tolist() == [600] * 10
    assert np.bincount(dataset.test.labels).tolist() == [200] * 10
    assert len(dataset.classes) == 10


def test_the_digest_is_that_of_the_arrays_and_the_arrays_are_read_only():
    dataset = datasets.load('fashion_mnist')
    arrays = (dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels)
    assert dataset.digest == store.digest(*arrays)
    with pytest.raises(ValueError, match='read-only'):
        dataset.train.images[0] = 0


@pytest.mark.parametrize(
    'kind', ['missing', 'empty', 'short', 'other', 'text', 'packed oddly', 'without a part']
)
def test_a_file_that_is_not_the_released_one_is_refused(kind, tmp_path, monkeypatch):
    content = fashion_mnist.PATH.read_bytes()
    path = tmp_path / 'fashion_mnist.npz'
    monkeypatch.setattr(fashion_mnist, 'PATH', path)
    if kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'packed oddly':
        # The way of packing stands twice for each part: before it, and in the list at the end.
        path.write_bytes(content.replace(b'\x08\x00', b'\x63\x00'))
    elif kind == 'text':
        np.savez(path, **{n: np.array('x') for n in ('x_train', 't_train', 'x_test', 't_test')})
    elif kind == 'short':
        path.write_bytes(content[:1000])
    elif kind == 'other':
        np.savez(
            path, **{n: np.zeros(2, np.int32) for n in ('x_train', 't_train', 'x_test', 't_test')}
        )
    elif kind == 'without a part':
        np.savez(path, x_train=np.zeros(2))
    with pytest.raises(DataError, match='missing or damaged'):
        datasets.load('fashion_mnist')


def test_naming_a_folder_for_it_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='leave out --data'):
        datasets.load('fashion_mnist', tmp_path)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="write 'fashion_mnist'$"):
        datasets.load('fashionmnist')
    with pytest.raises(ConfigError, match="write 'cifar10' or 'fashion_mnist' or 'clothing1m'$"):
        datasets.load('svhn')


def test_the_licence_stands_beside_the_images():
    text = fashion_mnist.PATH.with_name('fashion_mnist_LICENSE').read_text()
    assert 'MIT' in text
    assert 'Zalando' in text


@pytest.mark.skipif(not SOURCE.is_dir(), reason='needs the Debian package dataset-fashion-mnist')
def test_the_script_makes_the_embedded_arrays_again(tmp_path):
    command = [
        sys.executable,
        'reproduce/fashion_mnist_subset.py',
        '--out',
        str(tmp_path / 'f.npz'),
    ]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert fashion_mnist.DIGEST in done.stdout
