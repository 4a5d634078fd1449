from types import SimpleNamespace

import bare
import numpy as np
import pytest

LABELS = [0, 1, 2, 2, 0]
SHORT = ('gce.train.prune_from=3', 'gce.train.prune_every=2')


def slow_loss(z, y, q, k, w):
    """The loss of one image at a time; ``k`` is ``None`` where nothing is truncated."""
    total = 0.0
    for i, label in enumerate(y):
        L_q = (1 - bare.softmax(z[i])[label] ** q) / q
        total += L_q if k is None else w[i] * (L_q - (1 - k**q) / q)
    return total / len(y)


@pytest.mark.parametrize('truncated', [True, False])
@pytest.mark.parametrize('q', [0.1, 0.7, 1.0])
def test_the_loss_and_its_gradient_are_those_of_a_slow_loop(q, truncated):
    rng = np.random.default_rng(0)
    method = bare.method(
        'gce', LABELS, f'gce.train.q={q}', f'gce.train.truncated={str(truncated).lower()}'
    )
    method.w[...] = [1, 0, 1, 1, 0]
    z, index = rng.normal(size=(4, 3)), [4, 1, 0, 3]
    labels, w = np.array(LABELS)[index], method.w[index]

    def slow(z):
        return slow_loss(z, labels, q, 0.5 if truncated else None, w)

    loss, gradient = bare.backward(method, bare.batch(method, z, index))
    assert loss == pytest.approx(slow(z), rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(gradient, bare.slope(slow, z), atol=1e-5)


def test_the_loss_of_one_image_by_hand():
    z = np.log([[1.0, 2, 1]])
    # f = (1/4, 1/2, 1/4): L_q = (1 - sqrt(1/4)) / (1/2) = 1, and L_q(k) = (1 - 1/3) / (1/2) = 4/3.
    settings = ('gce.train.q=0.5', f'gce.train.k={1 / 9}')
    plain = bare.method('gce', [0], *settings, 'gce.train.truncated=false')
    truncated = bare.method('gce', [0], *settings)
    assert bare.backward(plain, bare.batch(plain, z, [0]))[0] == pytest.approx(1)
    loss = bare.backward(truncated, bare.batch(truncated, z, [0]))[0]
    assert loss == pytest.approx(1 - 4 / 3)


def test_it_lies_between_cross_entropy_and_mean_absolute_error():
    z = np.log([[1.0, 2, 1]])
    loss = {}
    for q in (1e-3, 1.0):
        method = bare.method('gce', [0], f'gce.train.q={q}', 'gce.train.truncated=false')
        loss[q] = bare.backward(method, bare.batch(method, z, [0]))[0]
    assert loss[1e-3] == pytest.approx(np.log(4), rel=1e-2)
    assert loss[1.0] == pytest.approx(3 / 4)


def test_a_label_whose_probability_underflows_has_a_gradient_of_nought():
    method = bare.method('gce', [0])
    _, gradient = bare.backward(method, bare.batch(method, [[0, 300, 0]], [0]))
    np.testing.assert_array_equal(gradient, 0)


def epochs(method, accuracies, outputs):
    """Yields the weights after each epoch."""
    for epoch, (accuracy, f) in enumerate(zip(accuracies, outputs, strict=True), 1):
        method.end_epoch(
            epoch, SimpleNamespace(validation_accuracy=accuracy, outputs=lambda f=f: f)
        )
        yield method.w.copy()


def test_images_are_left_out_by_the_net_with_the_best_validation_accuracy_so_far():
    rng = np.random.default_rng(0)
    method = bare.method('gce', LABELS, *SHORT, 'gce.train.k=0.3')
    outputs = rng.dirichlet(np.ones(3), (6, 5)).astype('f')
    accuracies = [0.5, 0.7, 0.6, 0.7, 0.65, 0.9]
    seen = list(epochs(method, accuracies, outputs))
    expected = np.ones(5)
    for epoch in range(1, 7):
        if epoch in (3, 5):
            # The first of equals: the net of epoch 2, not that of epoch 4.
            best = outputs[1]
            for i, label in enumerate(LABELS):
                L_q, L_q_k = ((1 - f**0.7) / 0.7 for f in (best[i][label], 0.3))
                expected[i] = L_q < L_q_k
        np.testing.assert_array_equal(seen[epoch - 1], expected)
    assert 0 < expected.sum() < 5


def test_a_net_that_is_seldom_right_is_the_best_so_far_if_none_was_better():
    method = bare.method('gce', [0, 1], 'gce.train.prune_from=1', 'gce.train.prune_every=1')
    first, second = np.array([[[0.6, 0.3, 0.1]] * 2, [[0.3, 0.6, 0.1]] * 2], 'f')
    seen = epochs(method, [0.01, 0.02, 0.01], [first, second, first])
    assert [w.tolist() for w in seen] == [[1, 0], [0, 1], [0, 1]]


def test_plain_gce_never_leaves_an_image_out():
    method = bare.method('gce', LABELS, *SHORT, 'gce.train.truncated=false')
    f = np.full((5, 3), 1 / 3, 'f')
    assert all((w == 1).all() for w in epochs(method, [0.5] * 4, [f] * 4))
