import tracemalloc

import chainer
import numpy as np
import pytest
import tiny

from chainer_jo.training import snapshot, state


class Counter(chainer.Chain):
    """A parameter whose memory lies channel-last, as on a GPU, a persistent array and a number."""

    def __init__(self, seed):
        super().__init__()
        generator = np.random.default_rng(seed)
        with self.init_scope():
            W = np.empty((4, 3, 3, 2), 'f').transpose(0, 3, 1, 2)
            W[...] = generator.normal(size=W.shape)
            self.W = chainer.Parameter(W)
        self.add_persistent('mean', generator.normal(size=5))
        self.add_persistent('N', seed)


def test_all_is_restored_in_place_and_in_its_layout():
    source, target = Counter(1), Counter(2)
    before, strides = state.values(target), target.W.array.strides

    state.restore(target, state.on_host(source))

    for name, value in state.values(target).items():
        if isinstance(value, np.ndarray):
            assert value is before[name]
        np.testing.assert_array_equal(value, state.values(source)[name])
    assert target.W.array.strides == strides
    assert (type(target.N), target.N) == (int, 1)


def test_a_snapshot_needs_little_memory_beside_the_arrays_that_it_saves(tmp_path):
    updater = tiny.updater(tiny.config('ours'))
    updater.method.labels.past.history = np.ones((10, 400_000, 10), 'f')
    size = sum(array.nbytes for array in state.arrays(updater).values())
    saver = snapshot.Snapshot(tmp_path, 'identity', [])
    tracemalloc.start()
    path = saver.save(updater)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > size > 160_000_000
    assert peak < 0.2 * size


def test_an_array_is_replaced_before_the_next_one_is_made():
    target = chainer.Link()
    tracemalloc.start()
    for name in 'abcd':
        target.add_persistent(name, np.full(500_000, ord(name)))
    state.replace(target, lambda array: array + 1)
    made, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [getattr(target, name)[-1] for name in 'abcd'] == [98, 99, 100, 101]
    assert made < peak < 1.5 * made


def test_only_what_is_wanted_is_brought_to_the_host():
    assert set(state.on_host(Counter(1), lambda name: name != 'N')) == {'W', 'mean'}


def test_a_missing_value_is_an_error():
    values = state.on_host(Counter(1))
    del values['mean']
    with pytest.raises(KeyError, match='mean'):
        state.restore(Counter(2), values)


def test_arrays_are_those_of_the_kinds_asked_for():
    assert set(state.arrays(Counter(1))) == {'W', 'mean'}
    assert set(state.arrays(Counter(1), 'i')) == set()


def test_a_snapshot_is_copied_into_the_arrays_that_a_captured_graph_would_use():
    config = tiny.config('cnn_crf', 'cnn_crf.train.negative_phase=pcd')
    first, second = (tiny.updater(config) for _ in range(2))
    first.update()
    before = state.arrays(second)
    state.restore(second, state.on_host(first))
    for name, array in state.arrays(second).items():
        assert array is before[name], name
        np.testing.assert_array_equal(array, state.arrays(first)[name], err_msg=name)


@pytest.mark.parametrize(
    'wrong',
    [np.zeros(5, 'f'), np.zeros(1), np.zeros((5, 1)), np.zeros(5, 'i')],
    ids=['float32', 'one value', 'a column', 'integers'],
)
def test_an_array_of_another_type_or_shape_is_not_cast_or_broadcast(wrong):
    values = state.on_host(Counter(1)) | {'mean': wrong}
    with pytest.raises(ValueError, match='mean'):
        state.restore(Counter(2), values)
