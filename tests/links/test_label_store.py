import tracemalloc

import numpy as np
import pytest
from chainer.serializers import DictionarySerializer, NpzDeserializer
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.links.label_store import LabelStore

N, C = 5, 3


def outputs(rng, n=N):
    return rng.dirichlet(np.ones(C), n).astype('f')


def test_labels_are_one_hot_noisy_labels_at_first():
    labels = LabelStore(np.array([2, 0, 1, 1]), C)
    np.testing.assert_array_equal(labels.y, [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert labels.y.dtype == np.float32


@given(st.integers(1, 4) | st.just('all'), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_corrected_labels_are_the_running_average_of_a_slow_loop(window, epochs, seed):
    """Also while fewer epochs are recorded than the window holds."""
    rng = np.random.default_rng(seed)
    store, past = LabelStore(rng.integers(C, size=N), C, window), {i: [] for i in range(N)}
    for epoch in range(epochs):
        for index in np.array_split(rng.permutation(N), 2):
            f = outputs(rng, len(index))
            store.record(f, index, np.full(len(index), epoch))
            for i, row in zip(index, f, strict=True):
                past[i].append(row.astype('d'))
    store.average_outputs()
    for i in range(N):
        last = past[i] if window == 'all' else past[i][-window:]
        np.testing.assert_allclose(store.y[i], sum(last) / len(last), atol=1e-6)
    np.testing.assert_allclose(store.y.sum(axis=1), 1, atol=1e-6)


def test_images_of_the_next_epoch_that_close_a_batch_replace_their_own_oldest_output():
    rng = np.random.default_rng(0)
    store = LabelStore(np.zeros(N, int), C, window=2)
    first, second, third = (outputs(rng) for _ in range(3))
    store.record(first, np.arange(N), np.full(N, 0))
    store.record(second, np.arange(N), np.full(N, 1))
    store.record(third[:2], np.arange(2), np.full(2, 2))
    store.average_outputs()
    np.testing.assert_allclose(store.y[:2], (second + third)[:2] / 2, atol=1e-6)
    np.testing.assert_allclose(store.y[2:], (first + second)[2:] / 2, atol=1e-6)


@pytest.mark.parametrize('window', [1, 2])
def test_an_image_that_a_batch_holds_twice_keeps_what_a_loop_would_write_last(window):
    index, turn = np.array([3, 0, 1, 3]), np.array([4, 4, 4, 5])
    store, f = LabelStore(np.zeros(N, int), C, window), outputs(np.random.default_rng(0), 4)
    store.record(f, index, turn)
    expected = np.zeros((window, N, C))
    for i, image in enumerate(index):
        expected[turn[i] % window, image] = f[i]
    np.testing.assert_array_equal(store.past.history, expected)


@pytest.mark.parametrize('window', [1, 3, 'all'])
def test_outputs_of_all_images_at_once_are_recorded_as_those_of_their_batches(window):
    rng = np.random.default_rng(0)
    at_once, by_batch = (LabelStore(np.zeros(N, int), C, window) for _ in range(2))
    for turn in range(4):
        f = outputs(rng)
        at_once.record_all(f, turn)
        for index in np.array_split(rng.permutation(N), 2):
            by_batch.record(f[index], index, np.full(len(index), turn))
    np.testing.assert_array_equal(at_once.past.mean(), by_batch.past.mean())


def test_hard_labels_keep_only_the_most_likely_class():
    f = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], 'f')
    store = LabelStore(np.array([0, 1]), C, window=1)
    store.record(f, np.arange(2), np.zeros(2, int))
    store.average_outputs(hard=True)
    np.testing.assert_array_equal(store.y, [[0, 1, 0], [1, 0, 0]])


def test_correction_leaves_labels_that_were_taken_before_as_they_were():
    store = LabelStore(np.array([0, 1]), C, window=1)
    batch = store.y[np.arange(2)]
    store.record(np.full((2, C), 1 / C, 'f'), np.arange(2), np.zeros(2, int))
    store.average_outputs()
    np.testing.assert_array_equal(batch, np.eye(C)[:2])


def test_without_a_window_nothing_is_kept():
    store = LabelStore(np.array([0, 1]), C)
    store.record(np.full((2, C), 1 / C, 'f'), np.arange(2), np.zeros(2, int))
    assert store.past is None
    assert [name for name, _ in store.namedparams()] == []


@pytest.mark.parametrize('window', [2, 'all'])
def test_all_of_it_is_saved(window):
    rng = np.random.default_rng(0)
    store = LabelStore(np.zeros(N, int), C, window)
    store.record(outputs(rng), np.arange(N), np.zeros(N, int))
    store.average_outputs()
    copy = LabelStore(np.ones(N, int), C, window)
    saved = DictionarySerializer()
    store.serialize(saved)
    copy.serialize(NpzDeserializer(saved.target))
    np.testing.assert_array_equal(copy.y, store.y)
    np.testing.assert_array_equal(copy.past.mean(), store.past.mean())


@pytest.mark.parametrize('window', [1, 10])
def test_the_history_holds_the_window(window):
    assert LabelStore(np.zeros(N, int), C, window).past.history.shape == (window, N, C)


def test_an_image_that_a_batch_holds_twice_counts_twice_in_the_mean_over_all_epochs():
    store, f = LabelStore(np.zeros(N, int), C, 'all'), outputs(np.random.default_rng(0), 4)
    store.record(f, np.array([3, 0, 1, 3]), np.array([4, 4, 4, 5]))
    assert store.past.count.tolist() == [1, 1, 0, 2, 0]
    np.testing.assert_allclose(store.past.total[3], f[0] + f[3], rtol=1e-6)


def test_the_mean_over_all_epochs_costs_two_arrays_however_many_there_are():
    store, f = LabelStore(np.zeros(N, int), C, 'all'), np.full((N, C), 1 / C, 'f')
    for turn in range(100):
        store.record_all(f, turn)
    saved = DictionarySerializer()
    store.serialize(saved)
    shapes = {name: array.shape for name, array in saved.target.items()}
    assert shapes == {'y': (N, C), 'past/total': (N, C), 'past/count': (N,)}


@pytest.mark.parametrize('window', [2, 'all'])
@pytest.mark.parametrize('hard', [False, True])
def test_an_image_that_no_epoch_has_drawn_keeps_its_label(window, hard):
    store = LabelStore(np.array([2, 0, 1, 1, 0]), C, window)
    f = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], 'f')
    store.record(f, np.array([0, 3]), np.zeros(2, int))
    with np.errstate(all='raise'):
        store.average_outputs(hard)
    expected = np.eye(C, dtype='f')[[2, 0, 1, 1, 0]]
    expected[[0, 3]] = np.eye(C)[[0, 2]] if hard else f
    np.testing.assert_allclose(store.y, expected, atol=1e-7)


@pytest.mark.parametrize('window', [2, 'all'])
@pytest.mark.parametrize('hard', [False, True])
def test_a_pinned_label_stays_whatever_the_net_says_also_after_a_resume(window, hard):
    store = LabelStore(np.array([2, 0, 1, 1, 0]), C, window)
    known = np.array([True, False, False, True, False])
    store.pin(known)
    known[:] = False  # The caller's own.
    store.record_all(np.tile(np.array([0.1, 0.8, 0.1], 'f'), (N, 1)), 0)
    saved, resumed = DictionarySerializer(), LabelStore(np.zeros(N, int), C, window)
    store.serialize(saved)
    resumed.pin(known)
    resumed.serialize(NpzDeserializer(saved.target))
    for one in (store, resumed):
        one.average_outputs(hard)
        np.testing.assert_array_equal(one.y[[0, 3]], np.eye(C)[[2, 1]])
        np.testing.assert_array_equal(one.y[[1, 2, 4]].argmax(axis=1), 1)


def test_a_million_labels_of_14_classes_take_200_mb_also_while_they_are_corrected():
    n, f = 1_000_000, np.full((1000, 14), 1 / 14, 'f')
    labels = np.zeros(n, 'i')
    tracemalloc.start()
    try:
        store = LabelStore(labels, 14, 'all')
        for start in range(0, n, 1000):
            store.record(f, np.arange(start, start + 1000, dtype='i'), np.zeros(1000, 'i'))
        store.average_outputs()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.y[-1, 0] == pytest.approx(1 / 14)
    assert peak < 200e6
