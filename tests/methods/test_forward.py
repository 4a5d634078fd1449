"""Forward correction: the loss, the true matrix and the estimated one."""

import types

import chainer
import numpy as np
import pytest
from chainer import gradient_check
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.functions.anchors import estimate_transition
from chainer_jo.functions.loss_correction import forward_loss
from chainer_jo.functions.losses import cross_entropy
from chainer_jo.methods.base import Batch
from chainer_jo.methods.forward import Forward
from chainer_jo.methods.forward_estimated import ForwardEstimated
from chainer_jo.training import state

STAGES = {'estimate': {'epochs': 3, 'drop': 0.1}, 'train': {'epochs': 3}}
T_3 = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.4, 0.6]])


def problem(seed, n=6, n_class=4):
    """Labels, outputs and a random matrix, in float64."""
    rng = np.random.default_rng(seed)
    y = np.eye(n_class)[rng.integers(n_class, size=n)]
    f = rng.dirichlet(np.ones(n_class), n)
    return y, np.log(f), rng.dirichlet(np.ones(n_class), n_class)


def loop(y, log_f, T):
    """The loss and its gradient by ``log f``, one image at a time."""
    loss, gradient = 0.0, np.zeros_like(log_f)
    for i, label in enumerate(y.argmax(axis=1)):
        p = sum(T[k, label] * np.exp(log_f[i, k]) for k in range(len(T)))
        loss -= np.log(p) / len(y)
        for k in range(len(T)):
            gradient[i, k] = -T[k, label] * np.exp(log_f[i, k]) / p / len(y)
    return loss, gradient


@given(st.integers(0, 1000))
def test_loss_and_gradient_are_those_of_a_loop_over_images(seed):
    y, log_f, T = problem(seed)
    variable = chainer.Variable(log_f)
    loss = forward_loss(y, variable, T)
    loss.backward()
    expected, gradient = loop(y, log_f, T)
    assert float(loss.array) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(variable.grad, gradient, rtol=1e-9, atol=1e-14)


def test_gradient_agrees_with_finite_differences():
    y, log_f, T = problem(0)
    gradient_check.check_backward(
        lambda v: forward_loss(y, v, T), log_f, None, dtype=np.float64, atol=1e-6, rtol=1e-6
    )


def test_three_classes_by_hand():
    log_f = np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    y = np.eye(3)[[1, 0]]
    # P(noisy = 1) = .5*.1 + .3*.7 + .2*.4 = .34;  P(noisy = 0) = .1*.8 + .1*.2 + .8*0 = .1
    loss = forward_loss(y, chainer.Variable(log_f), T_3)
    assert float(loss.array) == pytest.approx(-(np.log(0.34) + np.log(0.1)) / 2)


@given(st.integers(0, 1000))
def test_without_noise_it_is_cross_entropy(seed):
    y, log_f, _ = problem(seed)
    plain = cross_entropy(y, chainer.Variable(log_f)).array
    assert float(forward_loss(y, chainer.Variable(log_f), np.eye(4)).array) == pytest.approx(plain)


def test_loss_is_finite_where_the_net_is_sure_and_wrong():
    log_f = np.array([[0, -200, -200]], 'f')
    variable = chainer.Variable(log_f)
    loss = forward_loss(np.eye(3, dtype='f')[[1]], variable, np.eye(3, dtype='f'))
    loss.backward()
    assert np.isfinite(loss.array)
    assert np.isfinite(variable.grad).all()


def test_expected_loss_is_least_at_the_clean_posterior():
    clean = np.array([[0.6, 0.3, 0.1]])

    def expected(f):
        noisy = clean[0] @ T_3
        losses = [forward_loss(np.eye(3)[[j]], chainer.Variable(np.log(f)), T_3) for j in range(3)]
        return sum(noisy[j] * float(losses[j].array) for j in range(3))

    others = np.random.default_rng(0).dirichlet(np.ones(3), (50, 1))
    assert all(expected(other) > expected(clean) for other in others)


def synthetic_outputs(T, n=2000, anchors=100, outliers=20):
    """Outputs of a perfect net on noisy labels: some images sure, most not, a few memorised."""
    rng = np.random.default_rng(3)
    n_class = len(T)
    clean = rng.dirichlet(np.full(n_class, 0.5), n)
    for k in range(n_class):
        clean[k * anchors : (k + 1) * anchors] = np.eye(n_class)[k]
    f = clean @ T
    doubt = np.linspace(0, 0.01, outliers)[:, None, None]
    memorised = (1 - doubt) * np.eye(n_class) + doubt / n_class
    return np.concatenate([f, memorised.reshape(-1, n_class)])


def estimated(f, drop):
    """The estimate for classes of the same size."""
    return estimate_transition(f, drop, np.full(f.shape[1], 1 / f.shape[1]))


def test_estimate_recovers_the_matrix_behind_the_outputs():
    np.testing.assert_allclose(estimated(synthetic_outputs(T_3), 0.03), T_3, atol=2e-3)


def test_estimate_without_dropping_outliers_believes_them():
    T = estimated(synthetic_outputs(T_3), 0.0005)
    np.testing.assert_allclose(T, np.eye(3), atol=0.01)


def test_estimate_that_drops_nothing_takes_the_largest():
    f = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]])
    np.testing.assert_allclose(estimated(f, 0), [[0.9, 0.1], [0.2, 0.8]])


def test_estimate_is_that_of_a_loop_over_classes():
    f = np.random.default_rng(1).dirichlet(np.ones(5), 400)
    T = estimated(f, 0.03)
    for i in range(5):
        threshold = np.percentile(f[:, i], 97)
        kept = [n for n in range(len(f)) if f[n, i] < threshold]
        anchor = max(kept, key=lambda n: f[n, i])
        np.testing.assert_allclose(T[i], f[anchor] / f[anchor].sum())


def test_a_class_smaller_than_what_is_dropped_keeps_an_anchor_of_its_own():
    sizes = [980, 1000, 20]
    doubt = np.concatenate([np.linspace(0, 0.1, size) for size in sizes])[:, None]
    f = (1 - doubt) * np.repeat(T_3, sizes, axis=0) + doubt / 3
    T = estimate_transition(f, 0.03, np.array(sizes) / 2000)
    np.testing.assert_allclose(T, T_3, atol=0.05)


@pytest.mark.parametrize('size', [1, 2, 3])
def test_the_smallest_classes_keep_an_anchor_of_their_own(size):
    sizes = [500 - size, 500, size]
    f = np.repeat(T_3, sizes, axis=0) * np.linspace(0.99, 1, 1000)[:, None] + 1e-3
    f /= f.sum(axis=1, keepdims=True)
    T = estimate_transition(f, 0.03, np.array(sizes) / 1000)
    np.testing.assert_allclose(T[2], T_3[2], atol=0.02)


def test_a_class_without_labels_has_the_row_of_the_identity():
    f = np.random.default_rng(1).dirichlet(np.ones(3), 400)
    T = estimate_transition(f, 0.03, np.array([0.5, 0.0, 0.5]))
    np.testing.assert_array_equal(T[1], [0, 1, 0])
    np.testing.assert_array_equal(T[[0, 2]], estimated(f, 0.03)[[0, 2]])


class Net(chainer.Chain):
    """Logits are the pixels of a 1 x C image times a learned factor."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.factor = chainer.Parameter(np.ones(1, 'f'))

    def forward(self, x):
        return x[:, 0, 0] * chainer.functions.broadcast_to(self.factor, x[:, 0, 0].shape)


def a_batch(seed=0, n=8):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1, 1, 3)).astype('f')
    return Batch(x, np.arange(n, dtype='i'), np.eye(3, dtype='f')[rng.integers(3, size=n)])


def test_stage_uses_the_true_matrix():
    stages = {'train': STAGES['train']}
    method, batch = Forward(Net(), np.zeros(8, int), 3, stages, T_3), a_batch()
    method.begin('train')
    loss, log_f = method(batch)
    assert float(loss.array) == pytest.approx(loop(batch.y, log_f.array, T_3)[0], rel=1e-5)


def probe(accuracy, f):
    return types.SimpleNamespace(validation_accuracy=accuracy, outputs=lambda: f)


def test_estimating_method_never_sees_the_true_matrix():
    method = ForwardEstimated(Net(), np.zeros(8, int), 3, STAGES, T_3)
    np.testing.assert_array_equal(method.T, np.eye(3))
    assert not any((array == T_3).all() for array in arrays(method) if array.shape == (3, 3))


def arrays(method):
    return [value for value in state.values(method).values() if isinstance(value, np.ndarray)]


def test_estimate_is_kept_from_the_epoch_with_the_best_validation_accuracy():
    method = ForwardEstimated(Net(), np.arange(9) % 3, 3, STAGES, np.eye(3))
    good, bad = synthetic_outputs(T_3), np.full((50, 3), 1 / 3)
    method.begin('estimate')
    for epoch, (accuracy, f) in enumerate([(0.3, bad), (0.6, good), (0.6, bad), (0.5, bad)], 1):
        method.end_epoch(epoch, probe(accuracy, f))
    np.testing.assert_allclose(method.T, estimated(good, 0.1), rtol=1e-6)


def test_a_class_that_no_label_has_stays_as_it_is_in_the_estimate():
    method = ForwardEstimated(Net(), np.arange(60) % 2, 3, STAGES, np.eye(3))
    method.begin('estimate')
    method.end_epoch(1, probe(0.5, np.random.default_rng(0).dirichlet(np.ones(3), 60)))
    np.testing.assert_array_equal(method.T[2], [0, 0, 1])
    assert method.T[0, 2] > 0


def test_estimate_does_not_change_while_the_method_trains_with_it():
    method = ForwardEstimated(Net(), np.zeros(8, int), 3, STAGES, np.eye(3))
    method.begin('train')
    method.end_epoch(1, probe(1.0, synthetic_outputs(T_3)))
    np.testing.assert_array_equal(method.T, np.eye(3))


def test_first_stage_is_cross_entropy_on_the_noisy_labels():
    method, batch = ForwardEstimated(Net(), np.zeros(8, int), 3, STAGES, T_3), a_batch()
    method.begin('estimate')
    loss, log_f = method(batch)
    assert float(loss.array) == pytest.approx(float(cross_entropy(batch.y, log_f).array))
