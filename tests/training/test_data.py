"""Everything that is equal for all methods: split, noise, mean."""

import numpy as np
import pytest
import tiny

from chainer_jo import config, datasets
from chainer_jo.training.data import prepare

DATASET = datasets.load('fashion_mnist')


def trial(*overrides, noise='symmetric', rate=0.5, seed=0, method='ours'):
    settings = (*tiny.overrides(method), *overrides)
    return config.trial(method, 'fashion_mnist', noise, rate, seed, 'quick', settings)


def test_methods_share_split_noise_and_mean():
    first, noisy, index = prepare(DATASET, trial())
    for method in ('cross_entropy', 'tanaka'):
        other, same, place = prepare(DATASET, trial(method=method))
        np.testing.assert_array_equal(same, noisy)
        np.testing.assert_array_equal(place, index)
        np.testing.assert_array_equal(other.images, first.images)
        np.testing.assert_array_equal(other.mean, first.mean)


def test_training_and_validation_images_do_not_overlap_and_carry_their_labels():
    data, noisy, index = prepare(DATASET, trial())
    assert len(index) == len(noisy) == len(data.images) == 128
    np.testing.assert_array_equal(data.images, DATASET.x_train[index])
    np.testing.assert_array_equal(data.true_labels, DATASET.t_train[index])
    seen = {image.tobytes() for image in data.images}
    assert not seen & {image.tobytes() for image in data.validation[0]}
    np.testing.assert_allclose(data.mean, data.images.mean(axis=0) / 255, atol=1e-6)


def test_half_of_the_labels_are_redrawn_and_none_without_noise():
    data, noisy, _ = prepare(DATASET, trial('noise.exclude_true=true'))
    assert (noisy != data.true_labels).sum() == 64
    data, noisy, _ = prepare(DATASET, trial(noise='none', rate=None))
    np.testing.assert_array_equal(noisy, data.true_labels)


@pytest.mark.parametrize(('labels', 'wrong'), [('clean', False), ('noisy', True)])
def test_validation_labels_are_clean_unless_asked_for(labels, wrong):
    (_, clean), (images, given) = (
        prepare(DATASET, trial(f'common.validation_labels={kind}'))[0].validation
        for kind in ('clean', labels)
    )
    assert (given != clean).any() == wrong
    assert len(images) == len(given) == 32


def test_given_labels_are_taken_for_the_images_of_the_split():
    given = np.arange(len(DATASET.t_train), dtype='i') % 10
    data, noisy, index = prepare(DATASET, trial(noise='none', rate=None), given)
    np.testing.assert_array_equal(noisy, given[index])
    np.testing.assert_array_equal(data.validation[1], DATASET.t_train[validation_places(data)])


def validation_places(data):
    places = {image.tobytes(): i for i, image in enumerate(DATASET.x_train)}
    return [places[image.tobytes()] for image in data.validation[0]]


def test_seeds_differ_in_split_and_noise():
    (_, first, places), (_, second, others) = (prepare(DATASET, trial(seed=s)) for s in (0, 1))
    assert (first != second).any()
    assert (places != others).any()
