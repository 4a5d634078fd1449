import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.training import tables

COMMON = {'batch_size': 56, 'pad': 2, 'flip': True}


def draw(epoch, n=128, seed=0, stage='correct', **changes):
    return tables.draw(seed, stage, epoch, n, COMMON | changes)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5))
def test_every_image_is_drawn_once_in_every_turn(n, batch_size, epochs):
    batch_size = min(n, batch_size)
    drawn = {turn: [] for turn in range(epochs + 1)}
    for epoch in range(epochs):
        table = draw(epoch, n, batch_size=batch_size)
        for index, turn in zip(table.index.ravel(), table.turn.ravel(), strict=True):
            drawn[turn].append(index)
    for turn in range(epochs):
        assert sorted(drawn[turn]) == list(range(n))
    assert len(set(drawn[epochs])) == len(drawn[epochs]) < batch_size


def test_all_choices_have_one_row_a_step_and_stay_in_range():
    table = draw(0)
    assert table.index.shape == table.turn.shape == table.flip.shape == (3, 56)
    assert table.offset.shape == (3, 56, 2)
    assert set(table.offset.ravel()) == set(range(5))
    assert table.flip.dtype == bool
    assert 0 < table.flip.mean() < 1
    assert table.partner is None
    assert table.lam is None


def test_without_flips_no_image_is_mirrored_and_nothing_else_changes():
    table, still = draw(0), draw(0, flip=False)
    assert not still.flip.any()
    np.testing.assert_array_equal(table.offset, still.offset)


def arrays(table):
    return [table.index, table.turn, table.offset, table.flip]


def test_a_table_is_a_function_of_seed_stage_and_epoch():
    for first, again in zip(arrays(draw(1)), arrays(draw(1)), strict=True):
        np.testing.assert_array_equal(first, again)
    for other in (draw(4), draw(1, seed=1), draw(1, stage='fine_tune')):
        assert (other.index[0] != draw(1).index[0]).any()
        assert (other.offset[0] != draw(1).offset[0]).any()
        assert (other.flip[0] != draw(1).flip[0]).any()


@pytest.mark.parametrize(('per', 'shape'), [('batch', (3,)), ('sample', (3, 56))])
def test_mixing_adds_partners_and_weights_and_changes_no_other_draw(per, shape):
    mixed = draw(0)
    tables.add_mixing(mixed, 0, 'correct', 0, 4.0, per)
    assert mixed.lam.shape == shape
    assert ((mixed.lam >= 0) & (mixed.lam <= 1)).all()
    for row in mixed.partner:
        assert sorted(row) == list(range(56))
    for plain, other in zip(arrays(draw(0)), arrays(mixed), strict=True):
        np.testing.assert_array_equal(plain, other)
