"""Everything that is equal for all methods: split, noise, mean."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from chainer_jo import config, datasets, store
from chainer_jo.datasets import noise
from chainer_jo.datasets.streams import rng
from chainer_jo.training.data import prepare
from chainer_jo.training.images import pixel_mean

DATASET = datasets.load('fashion_mnist')


def trial(*overrides, noise='symmetric', rate=0.5, seed=0, method='ours'):
    settings = (*tiny.overrides(method), *overrides)
    return config.trial(method, 'fashion_mnist', noise, rate, seed, 'quick', settings)


def test_methods_share_split_noise_and_mean():
    first = prepare(DATASET, trial())
    for method in ('cross_entropy', 'tanaka'):
        other = prepare(DATASET, trial(method=method))
        np.testing.assert_array_equal(other.train.labels, first.train.labels)
        np.testing.assert_array_equal(other.train.index, first.train.index)
        np.testing.assert_array_equal(pixel_mean(other.train), pixel_mean(first.train))


def test_training_and_validation_images_do_not_overlap_and_carry_their_labels():
    data = prepare(DATASET, trial())
    train, validation = data.train, data.validation
    assert len(train) == len(train.labels) == 128
    assert len(validation) == len(validation.labels) == 32
    np.testing.assert_array_equal(data.true_labels, DATASET.train.labels[train.index])
    np.testing.assert_array_equal(validation.labels, DATASET.train.labels[validation.index])
    assert not set(train.index) & set(validation.index)
    images = DATASET.train.images[train.index]
    np.testing.assert_allclose(pixel_mean(train), images.mean(axis=0) / 255, atol=1e-6)
    assert data.test.source is DATASET.test
    np.testing.assert_array_equal(data.test.labels, DATASET.test.labels)


def test_half_of_the_labels_are_redrawn_and_none_without_noise():
    data = prepare(DATASET, trial('noise.exclude_true=true'))
    assert (data.train.labels != data.true_labels).sum() == 64
    assert data.wrong == 0.5
    data = prepare(DATASET, trial(noise='none', rate=None))
    np.testing.assert_array_equal(data.train.labels, data.true_labels)
    assert data.wrong == 0


@pytest.mark.parametrize(('labels', 'wrong'), [('clean', False), ('noisy', True)])
def test_validation_labels_are_clean_unless_asked_for(labels, wrong):
    clean, given = (
        prepare(DATASET, trial(f'common.validation_labels={kind}')).validation
        for kind in ('clean', labels)
    )
    np.testing.assert_array_equal(given.index, clean.index)
    assert (given.labels != clean.labels).any() == wrong


def test_given_labels_are_taken_for_the_images_of_the_split():
    given = np.arange(len(DATASET.train), dtype='i') % 10
    data = prepare(DATASET, trial(noise='none', rate=None), given)
    np.testing.assert_array_equal(data.train.labels, given[data.train.index])
    true = DATASET.train.true_labels[data.validation.index]
    np.testing.assert_array_equal(data.validation.labels, true)


def test_seeds_differ_in_split_and_noise():
    first, second = (prepare(DATASET, trial(seed=s)).train for s in (0, 1))
    assert (first.labels != second.labels).any()
    assert (first.index != second.index).any()


@pytest.mark.parametrize('seed', [0, 3])
def test_noise_is_drawn_by_the_seed_of_the_trial(seed):
    data = prepare(DATASET, trial(seed=seed))
    drawn = noise.symmetric(data.true_labels, 0.5, 10, rng(seed, 'noise'))
    np.testing.assert_array_equal(data.train.labels, drawn)


@pytest.mark.parametrize('kind', ['symmetric', 'asymmetric'])
def test_T_is_that_of_the_noise_and_its_rate(kind):
    data = prepare(DATASET, trial(noise=kind, rate=0.3))
    for i in range(10):
        row = np.full(10, 0.3 / 10) if kind == 'symmetric' else np.zeros(10)
        row[i] += 0.7
        if kind == 'asymmetric':
            row[DATASET.flips.get(i, i)] += 0.3
        np.testing.assert_allclose(data.T[i], row, atol=1e-6)


def test_the_noise_of_the_validation_labels_has_a_stream_of_its_own():
    validation = prepare(DATASET, trial('common.validation_labels=noisy')).validation
    clean = DATASET.train.true_labels[validation.index]
    drawn = noise.symmetric(clean, 0.5, 10, rng(0, 'noise/validation'))
    np.testing.assert_array_equal(validation.labels, drawn)


def test_validation_labels_of_a_file_are_noisy_if_asked_for():
    given = np.roll(DATASET.train.labels, 1)
    config_ = trial('common.validation_labels=noisy', noise='file', rate=None)
    validation = prepare(DATASET, config_, given).validation
    np.testing.assert_array_equal(validation.labels, given[validation.index])
    assert (validation.labels != DATASET.train.labels[validation.index]).any()


COMMITTED = [
    *('quick/runs/cross_entropy-symmetric-0.5', 'quick/runs/ours-asymmetric-0.3'),
    *('quick_all_systems/runs/cross_entropy-symmetric-0.7',),
]


@pytest.mark.parametrize('name', COMMITTED)
def test_splits_and_noise_are_those_of_the_committed_results(name):
    paths = sorted((Path(__file__).parents[2] / 'results/reference').glob(f'{name}-*/result.json'))
    assert paths
    for path in paths[:2]:
        result = json.loads(path.read_text())
        data = prepare(DATASET, config.from_dict(result['config']))
        assert store.digest(data.train.labels) == result['noise']['digest'], path
