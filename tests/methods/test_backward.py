"""Backward correction: the loss, its clipping, and matrices without inverse."""

import math

import chainer
import numpy as np
import pytest
from chainer import gradient_check
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.datasets.cifar10 import FLIPS
from chainer_jo.datasets.noise import transition_matrix
from chainer_jo.errors import ConfigError
from chainer_jo.functions.loss_correction import EPSILON, backward_loss
from chainer_jo.functions.losses import cross_entropy
from chainer_jo.methods.backward import Backward
from chainer_jo.methods.backward_estimated import BackwardEstimated

T_3 = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.4, 0.6]])


def problem(seed, n=6, n_class=4):
    """Labels, outputs and the inverse of a matrix that is mostly diagonal, in float64."""
    rng = np.random.default_rng(seed)
    y = np.eye(n_class)[rng.integers(n_class, size=n)]
    T = 0.5 * np.eye(n_class) + 0.5 * rng.dirichlet(np.ones(n_class), n_class)
    return y, np.log(rng.dirichlet(np.ones(n_class), n)), np.linalg.inv(T)


def loop(y, log_f, T_inverse):
    """The loss and its gradient by ``log f``, one image and class at a time."""
    loss, gradient = 0.0, np.zeros_like(log_f)
    for i, label in enumerate(y.argmax(axis=1)):
        for j in range(len(T_inverse)):
            f = min(max(math.exp(log_f[i, j]), EPSILON), 1 - EPSILON)
            loss -= T_inverse[label, j] * math.log(f) / len(y)
            if f == math.exp(log_f[i, j]):
                gradient[i, j] = -T_inverse[label, j] / len(y)
    return loss, gradient


@given(st.integers(0, 1000))
def test_loss_and_gradient_are_those_of_a_loop_over_images(seed):
    y, log_f, T_inverse = problem(seed)
    log_f[0, 0] = math.log(EPSILON) - 3
    variable = chainer.Variable(log_f)
    loss = backward_loss(y, variable, T_inverse)
    loss.backward()
    expected, gradient = loop(y, log_f, T_inverse)
    assert float(loss.array) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(variable.grad, gradient, rtol=1e-9)


def test_gradient_agrees_with_finite_differences():
    y, log_f, T_inverse = problem(0)
    gradient_check.check_backward(
        lambda v: backward_loss(y, v, T_inverse), log_f, None, dtype=np.float64,
        atol=1e-6, rtol=1e-6,
    )  # fmt: skip


def test_three_classes_by_hand():
    # T keeps a label with probability 0.6 and has 0.2 elsewhere: T^-1 has 2 and -0.5.
    T_inverse = 2.5 * np.eye(3) - 0.5
    f = np.array([[0.5, 0.3, 0.2]])
    loss = backward_loss(np.eye(3)[[0]], chainer.Variable(np.log(f)), T_inverse)
    assert float(loss.array) == pytest.approx(
        -2 * math.log(0.5) + 0.5 * math.log(0.3) + 0.5 * math.log(0.2)
    )


@given(st.integers(0, 1000))
def test_mean_over_the_noise_is_the_clean_loss(seed):
    _, log_f, T_inverse = problem(seed, n=1)
    T, variable = np.linalg.inv(T_inverse), chainer.Variable(log_f)
    noisy = [float(backward_loss(np.eye(4)[[j]], variable, T_inverse).array) for j in range(4)]
    for true in range(4):
        clean = float(cross_entropy(np.eye(4)[[true]], variable).array)
        assert T[true] @ noisy == pytest.approx(clean, rel=1e-9, abs=1e-9)


def test_loss_can_be_negative_but_not_without_end():
    T_inverse = np.linalg.inv(T_3)
    log_f = chainer.Variable(np.array([[0.0, -1e6, -1e6]]))
    loss = float(backward_loss(np.eye(3)[[0]], log_f, T_inverse).array)
    assert loss < 0
    assert loss >= np.abs(T_inverse).sum() * math.log(EPSILON)


def method(transition, singular='refuse', kind=Backward):
    stages = {'train': {'singular': singular}}
    if kind is not Backward:
        stages = {'estimate': {'drop': 0.1}, **stages}
    net = chainer.links.Linear(2, len(transition))
    return kind(net, np.zeros(4, int), len(transition), stages, transition)


def test_method_inverts_the_true_matrix():
    np.testing.assert_allclose(method(T_3).T_inverse @ T_3, np.eye(3), atol=1e-6)


def test_method_inverts_the_estimated_matrix_and_never_sees_the_true_one():
    estimated = method(T_3, kind=BackwardEstimated)
    np.testing.assert_allclose(estimated.T_inverse, np.eye(3), atol=1e-6)
    estimated.know(T_3.astype('f'))
    np.testing.assert_allclose(estimated.T_inverse @ T_3, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(
    ('kind', 'rate', 'exclude_true'),
    [('asymmetric', 0.5, False), ('symmetric', 1.0, False), ('symmetric', 0.9, True)],
)
def test_noise_that_cannot_be_undone_is_refused_with_the_fix(kind, rate, exclude_true):
    T = transition_matrix(kind, rate, 10, exclude_true=exclude_true, flips=FLIPS)
    with pytest.raises(ConfigError) as caught:
        method(T)
    assert len(str(caught.value).splitlines()) == 3
    assert 'rank' in caught.value.seen
    assert '--set backward.train.singular=pinv' in caught.value.fix


@pytest.mark.parametrize(('kind', 'rate'), [('asymmetric', 0.4), ('symmetric', 0.9), ('none', 0.0)])
def test_noise_of_the_tables_is_not_refused(kind, rate):
    T = transition_matrix(kind, rate, 10, flips=FLIPS)
    np.testing.assert_allclose(method(T).T_inverse @ T, np.eye(10), atol=1e-5)


def test_pseudo_inverse_shares_the_loss_of_classes_that_look_the_same():
    T = transition_matrix('asymmetric', 0.5, 10, flips=FLIPS)
    cat, dog = 3, 5
    T_inverse = method(T, singular='pinv').T_inverse
    np.testing.assert_allclose(T_inverse[cat], T_inverse[dog], atol=1e-6)
    assert T_inverse[cat, cat] == pytest.approx(T_inverse[cat, dog])
