import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.datasets.split import split
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError

CIFAR = rng(0, 'labels').permutation(np.repeat(np.arange(10, dtype=np.int32), 5000))


def test_cifar10_is_split_into_4500_and_500_of_every_class():
    train, validation = split(CIFAR, 5000, rng(0, 'split'))
    assert np.bincount(CIFAR[train]).tolist() == [4500] * 10
    assert np.bincount(CIFAR[validation]).tolist() == [500] * 10


def test_the_parts_are_sorted_and_share_nothing():
    train, validation = split(CIFAR, 5000, rng(0, 'split'))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert sorted([*train, *validation]) == list(range(50_000))


def test_fewer_training_images_stay_stratified_and_keep_the_validation_part():
    whole, validation = split(CIFAR, 5000, rng(0, 'split'))
    train, same = split(CIFAR, 5000, rng(0, 'split'), n_train=10_000)
    assert np.bincount(CIFAR[train]).tolist() == [1000] * 10
    assert set(train) < set(whole)
    np.testing.assert_array_equal(validation, same)


def test_another_seed_gives_another_split():
    assert set(split(CIFAR, 5000, rng(0, 'split'))[1]) != set(
        split(CIFAR, 5000, rng(1, 'split'))[1]
    )


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60).map(np.array),
    share=st.floats(0, 0.9),
)
def test_each_class_is_within_one_of_its_share(labels, share):
    n_validation = int(share * len(labels))
    train, validation = split(labels, n_validation, rng(0, 'split'))
    assert len(validation) == n_validation
    assert sorted([*train, *validation]) == list(range(len(labels)))
    for c in set(labels):
        fair = n_validation * (labels == c).mean()
        assert abs((labels[validation] == c).sum() - fair) < 1


@pytest.mark.parametrize(('n_validation', 'n_train'), [(50_000, None), (5000, 45_001), (-1, 10)])
def test_more_examples_than_there_are_is_refused(n_validation, n_train):
    with pytest.raises(ConfigError, match='sizes of the split'):
        split(CIFAR, n_validation, rng(0, 'split'), n_train)
