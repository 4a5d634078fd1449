"""Cross entropy, Tanaka et al. and ours: each stage against a slow loop, and label correction."""

import math

import bare
import numpy as np
import pytest

LABELS = [0, 1, 2, 2]
SHORT = ('begin=2', 'window=2')


def method(name, *overrides):
    settings = [f'{name}.correct.{value}' for value in SHORT] if name != 'cross_entropy' else []
    return bare.method(name, LABELS, *settings, *overrides)


def at(made, stage):
    made.begin(stage)
    made.labels.y[...] = np.random.default_rng(1).dirichlet(np.ones(3), len(LABELS))
    return made


def rows(z, y):
    """Pairs of outputs ``f`` and labels, one image at a time."""
    return [(bare.softmax(z_i), np.array(y_i, 'd')) for z_i, y_i in zip(z, y, strict=True)]


def slow_kl(z, y):
    return sum(sum(y_i * (np.log(y_i) - np.log(f))) for f, y_i in rows(z, y)) / len(z)


def slow_joint(z, y, alpha=1.2, beta=0.8):
    f = np.array([f for f, _ in rows(z, y)])
    L_p = sum(1 / 3 * math.log(1 / 3 / f[:, j].mean()) for j in range(3))
    L_e = -sum(f_ij * math.log(f_ij) for f_i in f for f_ij in f_i) / len(f)
    return slow_kl(z, y) + alpha * L_p + beta * L_e


def slow_mix(z, y, partner, lam):
    total = 0.0
    for i, j in enumerate(partner):
        f = bare.softmax(lam * z[i] + (1 - lam) * z[j])
        total -= sum((lam * y[i] + (1 - lam) * y[j]) * np.log(f))
    return total / len(z)


Z = np.random.default_rng(0).normal(size=(4, 3))
INDEX = [2, 0, 3, 1]


@pytest.mark.parametrize(
    ('name', 'stage', 'slow'),
    [
        ('tanaka', 'correct', slow_joint),
        ('tanaka', 'retrain', slow_kl),
        ('ours', 'correct', slow_joint),
    ],
)
def test_the_loss_of_a_stage_and_its_gradient_are_those_of_a_slow_loop(name, stage, slow):
    made = at(method(name), stage)
    y = made.labels.y[INDEX].astype('d')
    loss, gradient = bare.backward(made, bare.batch(made, Z, INDEX))
    assert loss == pytest.approx(slow(Z, y), rel=1e-5)
    np.testing.assert_allclose(gradient, bare.slope(lambda z: slow(z, y), Z), atol=1e-5)


def test_cross_entropy_is_that_of_a_slow_loop():
    made = at(method('cross_entropy'), 'train')
    y = made.labels.y[INDEX].astype('d')
    wanted = -sum(sum(y_i * np.log(f)) for f, y_i in rows(Z, y)) / len(Z)
    loss, _ = bare.backward(made, bare.batch(made, Z, INDEX))
    assert loss == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize('loss', ['kl', 'mix', 'kl+mix'])
def test_fine_tuning_is_kl_divergence_plus_mix_up_or_either_alone(loss):
    made = at(method('ours', f'ours.fine_tune.loss={loss}'), 'fine_tune')
    y, partner, lam = made.labels.y[INDEX].astype('d'), [1, 3, 0, 2], 0.7

    def slow(z):
        L_c, L_mix = slow_kl(z, y), slow_mix(z, y, partner, lam)
        return {'kl': L_c, 'mix': L_mix, 'kl+mix': L_c + L_mix}[loss]

    batch = bare.batch(made, Z, INDEX, partner=np.array(partner), lam=np.array(lam, 'f'))
    value, gradient = bare.backward(made, batch)
    assert value == pytest.approx(slow(Z), rel=1e-5)
    np.testing.assert_allclose(gradient, bare.slope(slow, Z), atol=1e-5)


def test_cross_entropy_never_changes_its_labels():
    made = method('cross_entropy')
    before = made.labels.y.copy()
    for epoch in range(1, 121):
        made.end_epoch(epoch, None)
    np.testing.assert_array_equal(made.labels.y, before)
