import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.functions import scatter

#: On a CPU and, but for the module, on a GPU.
ADDS = [scatter.add, functools.partial(scatter._add_at_once, np)]

N = 6


def draw(index, shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, *shape)).astype('f'), rng.normal(size=(len(index), *shape)).astype(
        'f'
    )


@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=12), st.sampled_from([(), (3,)]))
def test_put_leaves_the_last_value_of_each_place(index, shape):
    array, values = draw(index, shape)
    expected = array.copy()
    for i, value in zip(index, values, strict=True):
        expected[i] = value
    scatter.put(array, np.array(index), values)
    np.testing.assert_array_equal(array, expected)


def added(add, index, shape):
    """Returns what ``add`` makes of an array, and what a loop makes of it."""
    array, values = draw(index, shape)
    expected = array.copy()
    for i, value in zip(index, values, strict=True):
        expected[i] += value
    add(array, np.array(index), values)
    return array, expected


at_most_twice = st.lists(
    st.sampled_from([*range(N), *range(N)]), min_size=1, max_size=2 * N
).filter(lambda index: max(map(index.count, index)) <= 2)


@pytest.mark.parametrize('add', ADDS)
@given(index=at_most_twice, shape=st.sampled_from([(), (3,)]))
def test_add_adds_both_values_of_a_place_in_their_order(add, index, shape):
    np.testing.assert_array_equal(*added(add, index, shape))


@pytest.mark.parametrize('add', ADDS)
@given(
    index=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    shape=st.sampled_from([(), (3,)]),
)
def test_add_adds_all_values_of_a_place_however_often_it_occurs(add, index, shape):
    np.testing.assert_allclose(*added(add, index, shape), atol=1e-5)


@pytest.mark.parametrize('add', ADDS)
def test_add_counts_an_image_that_is_four_times_in_a_batch(add):
    counts = np.zeros(2, 'i')
    add(counts, np.array([1, 1, 0, 1, 1]), np.ones(5, 'i'))
    assert counts.tolist() == [1, 4]


class InAnyOrder(np.ndarray):
    """Writes the rows of one assignment in a random order, as the threads of a GPU do."""

    def __setitem__(self, index, values):
        order = np.random.default_rng(self.seed).permutation(len(index))
        for i in order:
            self.view(np.ndarray)[index[i]] = values[i]


@pytest.mark.parametrize('write', [scatter.put, ADDS[1]])
def test_the_order_in_which_a_gpu_writes_does_not_matter(write):
    index = np.array([1, 4, 1, 0, 4, 1, 1])
    array, values = draw(index, (3,))
    expected = array.copy()
    write(expected, index, values)
    for seed in range(20):
        copy = array.copy().view(InAnyOrder)
        copy.seed = seed
        write(copy, index, values)
        np.testing.assert_array_equal(copy, expected)
