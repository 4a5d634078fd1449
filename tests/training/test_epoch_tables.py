import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.training import epoch_tables

COMMON = {'batch_size': 56, 'pad': 2, 'flip': True}


def draw(epoch, n=128, seed=0, stage='correct', **changes):
    return epoch_tables.draw(seed, stage, epoch, n, COMMON | changes)


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
    epoch_tables.add_mixing(mixed, 0, 'correct', 0, 4.0, per)
    assert mixed.lam.shape == shape
    assert ((mixed.lam >= 0) & (mixed.lam <= 1)).all()
    for row in mixed.partner:
        assert sorted(row) == list(range(56))
    for plain, other in zip(arrays(draw(0)), arrays(mixed), strict=True):
        np.testing.assert_array_equal(plain, other)


def mixing(seed=0, stage='fine_tune', epoch=0):
    table = draw(0)
    epoch_tables.add_mixing(table, seed, stage, epoch, 4.0, 'batch')
    return table


@pytest.mark.parametrize('other', [{'epoch': 1}, {'seed': 1}, {'stage': 'train'}])
def test_mixing_is_a_function_of_seed_stage_and_epoch(other):
    np.testing.assert_array_equal(mixing().lam, mixing().lam)
    np.testing.assert_array_equal(mixing().partner, mixing().partner)
    assert (mixing().lam != mixing(**other).lam).any()
    assert (mixing().partner != mixing(**other).partner).any()


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 16),
    st.integers(0, 3),
)  # fmt: skip
def test_a_balanced_epoch_draws_as_many_images_of_every_class(labels, count, batch_size, epoch):
    labels = np.array(labels)
    common = COMMON | {'batch_size': batch_size, 'balanced_batches': count}
    drawn = epoch_tables.draw(0, 'train', epoch, len(labels), common, labels=labels)
    assert drawn.index.shape == drawn.turn.shape == (count, batch_size)
    assert (drawn.turn == epoch).all()
    images = np.bincount(drawn.index.ravel(), minlength=len(labels))
    classes = [images[labels == c] for c in np.unique(labels)]
    totals = [own.sum() for own in classes]
    assert max(totals) - min(totals) <= 1
    # No image of a class is drawn again before all of them were.
    assert all(own.max() - own.min() <= 1 for own in classes)
    assert epoch_tables.images_per_epoch(len(labels), common) == count * batch_size


def test_balanced_epochs_differ_in_their_images_and_no_class_is_always_the_larger():
    labels, common = np.arange(300) % 3, COMMON | {'batch_size': 10, 'balanced_batches': 1}
    epochs = [epoch_tables.draw(0, 'train', e, 300, common, labels=labels).index for e in range(30)]
    assert len({tuple(np.sort(index.ravel())) for index in epochs}) == 30
    larger = {int(np.bincount(labels[index.ravel()]).argmax()) for index in epochs}
    assert larger == {0, 1, 2}
