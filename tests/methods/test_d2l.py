from types import SimpleNamespace

import bare
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.functions.dimensionality import local_intrinsic_dimensionality

LABELS = [0, 1, 2, 2, 0]
SMALL = (
    *('d2l.train.epochs=12', 'd2l.train.begin=2', 'd2l.train.lid_window=3'),
    *('d2l.train.lid_images=40', 'd2l.train.lid_batch=15', 'd2l.train.neighbours=5'),
)


def slow_lid(points, k):
    """The estimate for one point at a time, from the neighbours' sorted distances."""
    lid = []
    for i, x in enumerate(points):
        others = [np.sqrt(sum((x - y) ** 2)) for j, y in enumerate(points) if j != i]
        r = sorted(others)[:k]
        lid.append(-1 / (sum(np.log(r_i / r[-1]) for r_i in r) / k))
    return lid


@pytest.mark.parametrize(('n', 'd', 'k'), [(30, 4, 5), (128, 32, 20), (6, 2, 20)])
def test_the_dimensionality_is_that_of_a_slow_loop(n, d, k):
    points = np.random.default_rng(0).normal(size=(n, d)).astype('f')
    lid = local_intrinsic_dimensionality(points, k)
    np.testing.assert_allclose(lid, slow_lid(points.astype('d'), min(k, n - 1)), rtol=1e-5)


@pytest.mark.parametrize('d', [1, 2, 4])
def test_points_that_fill_d_dimensions_have_about_d(d):
    rng = np.random.default_rng(0)
    points = rng.random((2000, d)) @ rng.normal(size=(d, 10))
    assert local_intrinsic_dimensionality(points, 20).mean() == pytest.approx(d, rel=0.15)


def test_a_point_whose_neighbours_are_all_copies_of_one_image_has_no_estimate():
    points = np.random.default_rng(0).normal(size=(60, 4))
    points[:25] = 0
    lid, none = local_intrinsic_dimensionality(points, 20), np.isnan
    assert none(lid[:25]).all()
    expected = [len({float(x) for x in r}) == 1 for r in _nearest(points, 20)]
    assert none(lid).tolist() == expected
    assert (lid[~none(lid)] > 0).all()


def _nearest(points, k):
    for i, x in enumerate(points):
        yield sorted(np.sqrt(((x - y) ** 2).sum()) for j, y in enumerate(points) if j != i)[:k]


def test_three_points_on_a_line_by_hand():
    # From the first, the others are at 1 and 4: -(1/2 (log 1/4 + log 1))^-1 = 1 / log 2.
    lid = local_intrinsic_dimensionality(np.array([[0.0], [1], [4]]), 2)
    expected = [2 / np.log(4), 2 / np.log(3), 2 / np.log(4 / 3)]
    np.testing.assert_allclose(lid, expected, rtol=1e-6)


@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_the_dimensionality_stays_when_points_are_scaled_and_moved(scale, shift):
    points = np.random.default_rng(0).normal(size=(20, 3))
    lid = local_intrinsic_dimensionality(points, 5)
    moved = local_intrinsic_dimensionality(scale * points + shift, 5)
    np.testing.assert_allclose(moved, lid, rtol=1e-4)


def test_two_points_in_one_place_leave_the_dimensionality_finite():
    points = np.array([[0.0], [0], [1], [3]])
    # From the third both are equally far.
    lid = local_intrinsic_dimensionality(points, 2)
    assert np.isfinite(lid).tolist() == [True, True, False, True]
    assert (lid[[0, 1, 3]] > 0).all()


@pytest.mark.parametrize('alpha', [1.0, 0.6])
def test_the_loss_and_its_gradient_are_those_of_a_slow_loop(alpha):
    z = np.random.default_rng(0).normal(size=(5, 3))
    method = bare.method('d2l', LABELS)
    method.alpha[...] = alpha
    guesses = z.argmax(axis=1)
    assert set(guesses == LABELS) == {True, False}

    def slow(z):
        total = 0.0
        for row, label, guess in zip(z, LABELS, guesses, strict=True):
            log_f = np.log(bare.softmax(row))
            total -= alpha * log_f[label] + (1 - alpha) * log_f[guess]
        return total / 5

    loss, gradient = bare.backward(method, bare.batch(method, z, range(5)))
    assert loss == pytest.approx(slow(z), rel=1e-5)
    np.testing.assert_allclose(gradient, bare.slope(slow, z), atol=1e-5)


def test_the_loss_of_one_image_by_hand():
    method = bare.method('d2l', [0])
    method.alpha[...] = 0.75
    # f = (1/4, 1/2, 1/4): three quarters of the label, a quarter of class 1, the guess.
    loss, _ = bare.backward(method, bare.batch(method, np.log([[1.0, 2, 1]]), [0]))
    assert loss == pytest.approx(0.75 * np.log(4) + 0.25 * np.log(2), rel=1e-6)


def run(method, clouds, rng):
    """Yields ``alpha`` after each epoch, whose features are one of ``clouds``."""
    for epoch, cloud in enumerate(clouds, 1):
        method.end_epoch(
            epoch,
            SimpleNamespace(features=lambda index, cloud=cloud: cloud[index], rng=lambda _: rng),
        )
        yield float(method.alpha)


def test_labels_are_mixed_with_guesses_from_the_turning_point_on():
    rng = np.random.default_rng(0)
    # Clouds of 8 columns that fill fewer dimensions at first, and more again in epoch 7.
    dims = [8, 8, 8, 3, 3, 3, 8, 5, 8, 3, 4, 5]
    clouds = [rng.normal(size=(40, d)) @ rng.normal(size=(d, 8)) for d in dims]
    method = bare.method('d2l', [0] * 40, *SMALL)
    alpha = list(run(method, clouds, np.random.default_rng(1)))

    order, lid, turned, expected = np.random.default_rng(1), [], False, []
    for epoch, cloud in enumerate(clouds, 1):
        features = cloud[order.permutation(40)]
        groups = (features[:14], features[14:27], features[27:])
        lid.append(np.mean([value for group in groups for value in slow_lid(group, 5)]))
        if epoch >= 2 + 3 and not turned:
            turned = lid[-1] - np.mean(lid[-4:-1]) > 2 * np.std(lid[-4:-1])
        expected.append(np.exp(-epoch / 12 * lid[-1] / min(lid)) if turned else 1.0)
    assert expected[5] == 1 > expected[6]
    np.testing.assert_allclose(alpha, expected, rtol=1e-5)


def test_at_most_the_asked_number_of_images_is_measured():
    measured = []
    method = bare.method('d2l', [0] * 60, *SMALL)

    def features(index):
        measured.extend(index.tolist())
        return np.random.default_rng(0).normal(size=(len(index), 4))

    method.end_epoch(1, SimpleNamespace(features=features, rng=lambda _: np.random.default_rng(0)))
    assert len(set(measured)) == len(measured) == 40


def test_the_labels_in_the_store_stay_as_they_were_given():
    method = bare.method('d2l', [0] * 40, *SMALL)
    before = method.labels.y.copy()
    cloud = np.random.default_rng(0).normal(size=(40, 4))
    list(run(method, [cloud] * 8, np.random.default_rng(1)))
    np.testing.assert_array_equal(method.labels.y, before)


@pytest.mark.parametrize(('rise', 'turns'), [(1.9, False), (2.1, True)])
def test_it_turns_where_the_dimensionality_rises_by_more_than_two_deviations(rise, turns):
    method = bare.method('d2l', LABELS, *SMALL)
    before = np.array([3.0, 5.0, 4.0])
    lid = np.array([9.0, 9.0, *before, before.mean() + rise * before.std()])
    assert method._turns(lid) == turns


def test_the_first_epoch_that_may_turn_is_begin_plus_the_window():
    method = bare.method('d2l', LABELS, *SMALL)
    lid = np.array([1.0, 1.0, 1.0, 1.0, 9.0, 99.0])
    assert [bool(method._turns(lid[:epoch])) for epoch in (4, 5)] == [False, True]


def test_copies_of_one_image_do_not_make_the_dimensionality_unknown():
    cloud = np.random.default_rng(0).normal(size=(40, 4))
    cloud[:20] = cloud[0]
    method = bare.method('d2l', [0] * 40, *SMALL)
    list(run(method, [cloud] * 3, np.random.default_rng(1)))
    assert np.isfinite(method.lid[:3]).all()
