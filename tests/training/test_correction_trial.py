"""The trial that corrects labels: its id, its sizes, its time, and what is said of every image."""

import numpy as np
import pytest
import tiny

from chainer_jo.datasets import Dataset
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.errors import ConfigError, DataError
from chainer_jo.training import corrections, saved_net, trial

OVERRIDES = (
    'net.filters=[4, 4, 4, 4]', 'net.stem_stride=4', 'ours.correct.epochs=2',
    'ours.correct.begin=1', 'ours.fine_tune.epochs=1',
)  # fmt: skip


def dataset(count=50):
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) % 2
    images = rng.integers(0, 40, (count, 1, 8, 8)) + 200 * labels[:, None, None, None]
    return Dataset(
        'images', 'variant', 'f' * 64, ('a', 'b'), ArrayImages(images.astype('B'), labels)
    )


def test_a_trial_is_known_by_its_labels_and_has_the_sizes_of_its_images():
    images = dataset()
    labels = images.train.labels
    described = corrections.describe(images, labels)
    assert described.trial == corrections.describe(images, labels.copy()).trial
    assert described.trial != corrections.describe(images, 1 - labels).trial
    assert described.trial != corrections.describe(images, labels, seed=1).trial
    assert described.dataset == 'images'
    sizes = {'train_images': 45, 'validation_images': 5, 'batch_size': 45}
    assert sizes.items() <= described.common.items()
    assert corrections.describe(dataset(1000), np.zeros(1000, 'i')).common['batch_size'] == 64
    with pytest.raises(ConfigError, match='too few'):
        corrections.describe(dataset(3), np.zeros(3, 'i'))


def test_every_image_is_judged_and_the_net_comes_back_from_its_files(tmp_path):
    images = dataset()
    labels = images.train.labels
    described, machine = corrections.describe(images, labels, 0, OVERRIDES), tiny.machine(tmp_path)
    assert 0 < corrections.seconds(described, images, labels, machine) < 60
    assert list(tmp_path.iterdir()) == []
    found = corrections.run(described, images, labels, machine, trial.Observer())
    assert found.probabilities.shape == (50, 2)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert found.held_out.sum() == 5
    f = found.net.probabilities(images.train.images)
    assert np.allclose(f[found.held_out], found.probabilities[found.held_out], atol=1e-6)
    found.net.save(tmp_path / 'net')
    loaded = saved_net.load(tmp_path / 'net', 'cpu')
    assert (loaded.probabilities(images.train.images) == f).all()
    assert loaded.classes == ['a', 'b']
    path = tmp_path / 'net' / 'net.arrays'
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError):
        saved_net.load(tmp_path / 'net', 'cpu')
    with pytest.raises(ConfigError, match='no trained net'):
        saved_net.load(tmp_path, 'cpu')
