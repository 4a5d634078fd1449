import math

import chainer
import chainer.functions as F
import numpy as np
import pytest
from chainer import gradient_check
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.functions import losses

# float32 sums of a few dozen terms of order one.
CLOSE = {'rel': 1e-5, 'abs': 1e-6}


def random_outputs(seed, n=6, n_class=5):
    """Returns soft labels, log-probabilities, partners and mix-up weights, one for each image."""
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(n_class, 0.5), n).astype('f')
    y[0] = np.eye(n_class)[1]  # Zeros, as in labels not yet corrected.
    log_f = np.log(rng.dirichlet(np.ones(n_class), n)).astype('f')
    return y, log_f, rng.permutation(n), rng.beta(2, 2, n).astype('f')


def slow_cross_entropy(y, log_f):
    n, n_class = y.shape
    return -sum(y[i, j] * log_f[i, j] for i in range(n) for j in range(n_class)) / n


def slow_kl_divergence(y, log_f):
    total = 0.0
    for i in range(len(y)):
        for j in range(len(y[i])):
            if y[i, j] > 0:
                total += y[i, j] * (math.log(y[i, j]) - log_f[i, j])
    return total / len(y)


def slow_prior_loss(y, log_f):
    n, n_class = log_f.shape
    total = 0.0
    for j in range(n_class):
        mean_f = sum(math.exp(log_f[i, j]) for i in range(n)) / n
        total += 1 / n_class * math.log(1 / n_class / mean_f)
    return total


def slow_entropy(y, log_f):
    n, n_class = log_f.shape
    return -sum(math.exp(log_f[i, j]) * log_f[i, j] for i in range(n) for j in range(n_class)) / n


def slow_joint_loss(y, log_f):
    L_c, L_p, L_e = (
        f(y, log_f) for f in (slow_kl_divergence, slow_prior_loss, slow_entropy)
    )  # fmt: skip
    return L_c + 1.2 * L_p + 0.8 * L_e


LOSSES = {
    'Eq. (1)': (losses.cross_entropy, slow_cross_entropy),
    'Eq. (4)': (losses.kl_divergence, slow_kl_divergence),
    'Eq. (6)': (lambda y, log_f: losses.prior_loss(log_f), slow_prior_loss),
    'Eq. (7)': (lambda y, log_f: losses.entropy(log_f), slow_entropy),
    'Eq. (3)': (lambda y, log_f: losses.joint_loss(y, log_f, 1.2, 0.8), slow_joint_loss),
}
each_loss = pytest.mark.parametrize(('loss', 'slow'), LOSSES.values(), ids=LOSSES)


@each_loss
@pytest.mark.parametrize('seed', range(3))
def test_a_loss_is_that_of_a_slow_loop(loss, slow, seed):
    y, log_f, *_ = random_outputs(seed)
    value = loss(y, chainer.Variable(log_f))
    assert (value.shape, value.dtype) == ((), np.float32)
    assert float(value.array) == pytest.approx(slow(y.astype('d'), log_f.astype('d')), **CLOSE)


@each_loss
def test_the_gradient_of_a_loss_is_that_of_finite_differences(loss, slow):
    y, log_f, *_ = random_outputs(0)
    gradient_check.check_backward(
        lambda x: loss(y.astype('d'), x), log_f.astype('d'), None, dtype='d', eps=1e-5
    )


@each_loss
def test_the_gradient_in_float32_is_that_in_float64(loss, slow):
    y, log_f, *_ = random_outputs(1)
    gradients = []
    for dtype in 'fd':
        x = chainer.Variable(log_f.astype(dtype))
        (3 * loss(y.astype(dtype), x)).backward()
        gradients.append(x.grad)
    assert gradients[0].dtype == np.float32
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


@each_loss
def test_a_loss_is_finite_where_a_class_is_certain(loss, slow):
    y = np.eye(3, dtype='f')
    log_f = chainer.functions.log_softmax(chainer.Variable(np.eye(3, dtype='f') * 80))
    value = loss(y, log_f)
    value.backward()
    assert np.isfinite(value.array)
    assert float(value.array) == pytest.approx(slow(y, log_f.array.astype('d')), abs=1e-5)


def test_three_classes_by_hand():
    y = np.array([[1, 0, 0], [0, 1 / 2, 1 / 2]], 'f')
    log_f = chainer.Variable(np.log(np.array([[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]], 'f')))
    ln2, ln3 = math.log(2), math.log(3)
    # -1/2 [ln 1/2 + 1/2 ln 1/4 + 1/2 ln 1/2] = (1 + 1 + 1/2) / 2 ln 2
    assert float(losses.cross_entropy(y, log_f).array) == pytest.approx(1.25 * ln2)
    # Less the entropy of the labels, (0 + ln 2) / 2.
    assert float(losses.kl_divergence(y, log_f).array) == pytest.approx(0.75 * ln2)
    # The mean outputs are 3/8, 1/4, 3/8: -1/3 [2 ln 9/8 + ln 3/4] = -1/3 [5 ln 3 - 8 ln 2]
    assert float(losses.prior_loss(log_f).array) == pytest.approx((8 * ln2 - 5 * ln3) / 3)
    # Both rows have the entropy 1/2 ln 2 + 2/4 ln 4 = 3/2 ln 2.
    assert float(losses.entropy(log_f).array) == pytest.approx(1.5 * ln2)
    joint = 0.75 * ln2 + 1.2 * (8 * ln2 - 5 * ln3) / 3 + 0.8 * 1.5 * ln2
    assert float(losses.joint_loss(y, log_f, 1.2, 0.8).array) == pytest.approx(joint)


def test_a_prior_loss_with_the_factor_nought_does_not_count_even_if_it_is_infinite():
    y = np.eye(3, dtype='f')
    x = chainer.Variable(np.array([[0, 0, -200]] * 3, 'f'))
    loss = losses.joint_loss(y, F.log_softmax(x), 0.0, 0.8)
    loss.backward()
    expected = losses.kl_divergence(y, F.log_softmax(x)) + 0.8 * losses.entropy(F.log_softmax(x))
    assert float(loss.array) == pytest.approx(float(expected.array))
    assert np.isfinite(x.grad).all()


def test_kl_divergence_is_never_negative_and_nought_for_equal_distributions():
    y, log_f, *_ = random_outputs(1)
    assert float(losses.kl_divergence(y, chainer.Variable(log_f)).array) > 0
    same = np.exp(log_f)
    assert float(losses.kl_divergence(same, chainer.Variable(log_f)).array) == pytest.approx(
        0, abs=1e-6
    )


def test_kl_divergence_and_cross_entropy_have_the_same_gradient():
    y, log_f, *_ = random_outputs(2)
    gradients = []
    for loss in (losses.kl_divergence, losses.cross_entropy):
        x = chainer.Variable(log_f)
        loss(y, x).backward()
        gradients.append(x.grad)
    np.testing.assert_array_equal(*gradients)


def test_the_prior_loss_is_nought_where_the_mean_output_is_uniform():
    log_f = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]], 'f'))
    assert float(losses.prior_loss(chainer.Variable(log_f)).array) == pytest.approx(0, abs=1e-6)


def slow_mix_up(v, partner, lam):
    mixed = np.empty(v.shape, 'd')
    for i in range(len(v)):
        weight = float(lam if np.ndim(lam) == 0 else lam[i])
        mixed[i] = weight * v[i].astype('d') + (1 - weight) * v[partner[i]].astype('d')
    return mixed


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('shape', [(4, 3, 5, 7), (4, 10), (4,)])
def test_mix_up_is_that_of_a_loop_over_pairs(per, shape):
    rng = np.random.default_rng(0)
    v, partner = rng.normal(size=shape).astype('f'), rng.permutation(4)
    lam = rng.beta(4, 4, None if per == 'batch' else 4)
    lam = np.asarray(lam, 'f')
    mixed = losses.mix_up(v, partner, lam)
    assert (mixed.shape, mixed.dtype) == (shape, np.float32)
    np.testing.assert_allclose(mixed, slow_mix_up(v, partner, lam), rtol=1e-5, atol=1e-6)


def test_a_scalar_taken_from_a_table_mixes_as_an_array_does():
    v, partner, table = np.arange(12, dtype='f').reshape(4, 3), np.array([1, 0, 3, 2]), [0.25]
    lam = np.array(table, 'f')[0]
    mixed = losses.mix_up(v, partner, lam)
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed, losses.mix_up(v, partner, np.array(0.25, 'f')))


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.booleans())
def test_mixed_soft_labels_are_distributions_again(seed, n, single):
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(10, 0.1), n).astype('f')
    lam = np.asarray(rng.beta(0.5, 0.5, None if single else n), 'f')
    mixed = losses.mix_up(y, rng.permutation(n), lam)
    assert (mixed >= 0).all()
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)


def test_at_the_ends_mix_up_keeps_the_one_or_the_other():
    v, partner = np.arange(6, dtype='f').reshape(3, 2), np.array([2, 0, 1])
    np.testing.assert_array_equal(losses.mix_up(v, partner, np.ones((), 'f')), v)
    np.testing.assert_array_equal(losses.mix_up(v, partner, np.zeros(3, 'f')), v[partner])


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('seed', range(3))
def test_the_mix_up_loss_is_that_of_a_slow_loop_over_pairs(seed, per):
    y, log_f, partner, lam = random_outputs(seed)
    lam = lam if per == 'sample' else lam[0]
    n, n_class = y.shape
    total = 0.0
    for i in range(n):
        weight = float(lam[i] if per == 'sample' else lam)
        for j in range(n_class):
            first, second = float(y[i, j]), float(y[partner[i], j])
            total -= weight * first * log_f[i, j] + (1 - weight) * second * log_f[i, j]
    value = losses.mix_up_loss(y, partner, lam, chainer.Variable(log_f))
    assert float(value.array) == pytest.approx(total / n, **CLOSE)


def test_the_gradient_of_the_mix_up_loss_is_that_of_finite_differences():
    y, log_f, partner, lam = random_outputs(0)
    gradient_check.check_backward(
        lambda x: losses.mix_up_loss(y.astype('d'), partner, lam.astype('d'), x),
        log_f.astype('d'), None, dtype='d', eps=1e-5,
    )  # fmt: skip
