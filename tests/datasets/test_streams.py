import math

import numpy as np
import pytest
from chainer.iterators import SerialIterator
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.datasets import streams
from chainer_jo.errors import ConfigError

SIZES = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def draw(*arguments):
    return streams.rng(*arguments).random(4).tolist()


def test_the_same_seed_purpose_and_epoch_give_the_same_draws():
    assert draw(3, 'order', 5) == draw(3, 'order', 5)


def test_seed_purpose_and_epoch_each_change_the_draws():
    draws = [draw(3, 'order', 5), draw(4, 'order', 5), draw(3, 'noise', 5), draw(3, 'order', 6)]
    assert len({tuple(d) for d in draws}) == 4


def slow_batches(seed, epochs, n, batch_size):
    """One example at a time; yields the batches of each epoch as lists of (index, turn)."""
    turn, queue, seen = 0, [], 0
    for epoch in range(epochs):
        batches = []
        while seen < (epoch + 1) * n:
            batch = []
            for _ in range(batch_size):
                if not queue:
                    order = streams.rng(seed, 'order', turn).permutation(n)
                    queue, turn = [(i, turn) for i in order], turn + 1
                batch.append(queue.pop(0))
                seen += 1
            batches.append(batch)
        yield batches


@given(sizes=SIZES, seed=st.integers(0, 5))
def test_batches_equal_those_of_a_loop_that_never_ends(sizes, seed):
    n, batch_size = sizes
    for epoch, slow in enumerate(slow_batches(seed, 4, n, batch_size)):
        fast = np.stack(streams.batches(seed, 'order', epoch, n, batch_size), axis=-1)
        np.testing.assert_array_equal(fast, np.array(slow).reshape(fast.shape))


@pytest.mark.parametrize(('n', 'batch_size'), [(10, 4), (12, 4), (7, 7), (9, 8)])
def test_batches_equal_those_of_chainers_serial_iterator(n, batch_size):
    turns = iter(range(100))
    iterator = SerialIterator(
        range(n),
        batch_size,
        order_sampler=lambda order, position: streams.rng(0, 'order', next(turns)).permutation(n),
    )
    for epoch in range(9):
        index, _ = streams.batches(0, 'order', epoch, n, batch_size)
        for row in index.tolist():
            assert row == iterator.next()
        assert iterator.is_new_epoch
        assert iterator.epoch == epoch + 1


@given(sizes=SIZES, epochs=st.integers(1, 5))
def test_every_turn_visits_each_example_once(sizes, epochs):
    n, batch_size = sizes
    tables = [streams.batches(1, 'order', epoch, n, batch_size) for epoch in range(epochs)]
    index = np.concatenate([table[0].ravel() for table in tables])
    turn = np.concatenate([table[1].ravel() for table in tables])
    assert len(index) == math.ceil(epochs * n / batch_size) * batch_size
    for k in range(epochs):
        assert sorted(index[turn == k]) == list(range(n))


def test_tables_are_int32_rows_of_full_batches():
    index, turn = streams.batches(0, 'order', 0, 45_000, 128)
    assert index.shape == turn.shape == (352, 128)
    assert index.dtype == turn.dtype == np.int32


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ConfigError, match='batch is larger'):
        streams.batches(0, 'order', 0, 10, 11)
