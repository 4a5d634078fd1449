import tracemalloc

import bare
import chainer
import numpy as np
import pytest
from scipy.special import softmax

from chainer_jo import config, paper
from chainer_jo.methods import pencil
from chainer_jo.training.extensions import learning_rate

LABELS = [0, 1, 2, 2, 0]
OFFICIAL = ('pencil.correct.softmax=twice', 'pencil.fine_tune.division=floor')
# Typed from the evidence a second time: noise rates, and the settings of each.
SYMMETRIC = {
    'rate': '0.1 0.3 0.5 0.7 0.9',
    'learning_rate': '0.02 0.03 0.04 0.08 0.12',
    'alpha': '0.1 0.1 0.1 0.1 0.1',
    'beta': '0.8 0.8 0.8 0.8 0.4',
    'lambda_first': '200 300 400 800 1200',
    'lambda_last': '200 300 400 800 1200',
}
ASYMMETRIC = {
    'rate': '0.1 0.2 0.3 0.4 0.5',
    'learning_rate': '0.06 0.06 0.06 0.03 0.03',
    'alpha': '0.1 0.1 0.1 0 0',
    'beta': '0.4 0.4 0.4 0.4 0.4',
    'lambda_first': '600 600 600 3000 4000',
    'lambda_last': '600 600 600 0 0',
}


def correcting(*overrides, labels=LABELS, **noise):
    method = bare.method('pencil', labels, *overrides, **noise)
    method.begin('correct')
    return method


def stages(noise, rate, *overrides):
    return config.trial('pencil', 'cifar10', noise, rate, 0, overrides=overrides).stages


def slow_loss(z, yt, noisy, alpha, beta, softmax):
    """The three losses of one image at a time."""
    n, c, L_c, L_o, L_e = len(z), len(z[0]), 0.0, 0.0, 0.0
    for i in range(n):
        f, yd = bare.softmax(z[i]), bare.softmax(yt[i])
        for j in range(c):
            L_c += f[j] * np.log(f[j] / yd[j]) / n
            L_e -= f[j] * np.log(f[j]) / n
        held = bare.softmax(yd) if softmax == 'twice' else yd
        L_o -= np.log(held[noisy[i]]) / n
    return L_c / c + alpha * L_o + beta / c * L_e


@pytest.mark.parametrize('softmax', ['once', 'twice'])
def test_the_loss_and_both_gradients_are_those_of_a_slow_loop(softmax):
    rng = np.random.default_rng(0)
    settings = {'alpha': 0.3, 'beta': 0.7, 'lambda_first': 2.0, 'softmax': softmax}
    method = correcting(*(f'pencil.correct.{key}={value}' for key, value in settings.items()))
    method.labels.logits[...] = rng.normal(size=(5, 3))
    z, yt, index = rng.normal(size=(4, 3)), method.labels.logits.astype('d'), [3, 0, 4, 1]
    noisy = np.array(LABELS)[index]
    loss, gradient = bare.backward(method, bare.batch(method, z, index))
    assert loss == pytest.approx(slow_loss(z, yt[index], noisy, 0.3, 0.7, softmax), rel=1e-5)
    at_z = bare.slope(lambda z: slow_loss(z, yt[index], noisy, 0.3, 0.7, softmax), z)
    np.testing.assert_allclose(gradient, at_z, atol=1e-5)
    at_yt = bare.slope(lambda yt: slow_loss(z, yt, noisy, 0.3, 0.7, softmax), yt[index])
    for i, place in enumerate(index):
        yt[place] -= 2.0 * at_yt[i]
    np.testing.assert_allclose(method.labels.logits, yt, atol=1e-5)


def test_the_loss_of_one_image_by_hand():
    method = correcting('pencil.correct.alpha=0.5', 'pencil.correct.beta=0.25', labels=[0])
    method.labels.logits[...] = np.log([[2, 1, 1]])
    # f = thirds, y^d = (1/2, 1/4, 1/4): KL(f || y^d) = 1/3 (log 2/3 + 2 log 4/3).
    loss, _ = bare.backward(method, bare.batch(method, [[0.0, 0, 0]], [0]))
    L_c, L_o, L_e = np.log(32 / 27) / 3, np.log(2), np.log(3)
    assert loss == pytest.approx(L_c / 3 + 0.5 * L_o + 0.25 / 3 * L_e, rel=1e-6)


def test_the_second_softmax_of_the_public_code_by_hand():
    method = correcting('pencil.correct.softmax=twice', 'pencil.correct.alpha=1.0', labels=[0])
    method.labels.logits[...] = 0
    # y^d = f = thirds, and so is the softmax of y^d; L_c = 0.
    loss, _ = bare.backward(method, bare.batch(method, [[0.0, 0, 0]], [0]))
    assert loss == pytest.approx(np.log(3) * (1 + 0.8 / 3), rel=1e-6)


def test_an_image_that_is_twice_in_a_batch_makes_both_steps():
    method = correcting()
    z, before = np.random.default_rng(0).normal(size=(3, 3)), method.labels.logits.copy()
    bare.backward(method, bare.batch(method, z, [1, 4, 1]))
    expected = before.astype('d')
    for i, place in enumerate([1, 4, 1]):
        expected[place] -= 800 * method.yt.grad[i]
    np.testing.assert_allclose(method.labels.logits, expected, rtol=1e-5)


def test_the_optimizer_and_its_weight_decay_never_touch_the_labels():
    method = correcting()
    optimizer = chainer.optimizers.MomentumSGD(1.0).setup(method)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(0.5))
    z = np.random.default_rng(0).normal(size=(5, 3))
    for _ in range(2):
        bare.backward(method, bare.batch(method, z, range(5)))
        after_step = method.labels.logits.copy()
        optimizer.update()
        np.testing.assert_array_equal(method.labels.logits, after_step)


def test_a_label_comes_to_rest_between_what_the_net_says_and_what_was_given():
    method = correcting('pencil.correct.lambda_first=5.0', labels=[0])
    for _ in range(200):
        bare.backward(method, bare.batch(method, [[0.0, 2, 4]], [0]))
    method.end_epoch(1, None)
    # Where dL/dyt = 1/c (y^d - f) + alpha (y^d - noisy) is nought.
    expected = (bare.softmax([0, 2, 4]) / 3 + 0.1 * np.array([1, 0, 0])) / (1 / 3 + 0.1)
    np.testing.assert_allclose(method.labels.y, [expected], atol=1e-4)


def test_labels_begin_all_but_one_hot_and_only_the_stage_correct_moves_them():
    method = bare.method('pencil', list(range(10)), n_class=10)
    z = np.random.default_rng(0).normal(size=(10, 10))
    y, logits = method.labels.y.copy(), method.labels.logits.copy()
    np.testing.assert_array_equal(logits, 10 * np.eye(10))
    for stage in ('warm_up', 'fine_tune'):
        method.begin(stage)
        bare.backward(method, bare.batch(method, z, range(10)))
        method.end_epoch(1, None)
        np.testing.assert_array_equal(method.labels.y, y)
        np.testing.assert_array_equal(method.labels.logits, logits)
    method.begin('correct')
    method.end_epoch(1, None)
    np.testing.assert_allclose(np.diag(method.labels.y), 0.99959, atol=1e-5)


@pytest.mark.parametrize('block', [2, 5, 1 << 16])
def test_the_labels_of_the_store_are_the_softmax_of_the_logits_after_each_epoch(block, monkeypatch):
    monkeypatch.setattr(pencil, 'BLOCK', block)
    method = correcting()
    bare.backward(
        method, bare.batch(method, np.random.default_rng(0).normal(size=(3, 3)), [2, 0, 4])
    )
    method.end_epoch(1, None)
    expected = [bare.softmax(row) for row in method.labels.logits]
    np.testing.assert_allclose(method.labels.y, expected, rtol=1e-5)


def test_labels_are_written_without_a_second_copy_of_all_of_them():
    method = bare.method('pencil', np.zeros(400_000, 'i'))
    method.begin('correct')
    tracemalloc.start()
    method.end_epoch(1, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < method.labels.y.nbytes


def test_fine_tuning_is_on_the_divergence_alone():
    rng = np.random.default_rng(0)
    method = bare.method('pencil', LABELS)
    method.labels.logits[...] = rng.normal(size=(5, 3))
    method.begin('fine_tune')
    z, yt = rng.normal(size=(5, 3)), method.labels.logits.copy()
    loss, gradient = bare.backward(method, bare.batch(method, z, range(5)))
    assert loss == pytest.approx(slow_loss(z, yt, LABELS, 0, 0, 'once'), rel=1e-5)
    at_z = bare.slope(lambda z: slow_loss(z, yt, LABELS, 0, 0, 'once'), z)
    np.testing.assert_allclose(gradient, at_z, atol=1e-5)


def test_warming_up_is_cross_entropy():
    z = np.random.default_rng(1).normal(size=(5, 3))
    losses = []
    for name in ('pencil', 'cross_entropy'):
        method = bare.method(name, LABELS)
        losses.append(bare.backward(method, bare.batch(method, z, range(5)))[0])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(('noise', 'half'), [('symmetric', SYMMETRIC), ('asymmetric', ASYMMETRIC)])
def test_every_rate_has_its_own_settings(noise, half):
    rates = map(float, half['rate'].split())
    typed = zip(*(map(float, half[key].split()) for key in half if key != 'rate'), strict=True)
    for rate, (lr, *row) in zip(rates, typed, strict=True):
        settings = stages(noise, rate)
        assert settings['warm_up']['learning_rate'] == settings['correct']['learning_rate'] == lr
        names = ('alpha', 'beta', 'lambda_first', 'lambda_last')
        assert [settings['correct'][name] for name in names] == row


def test_a_rate_between_two_takes_the_settings_of_the_nearest():
    assert stages('symmetric', 0.65) == stages('symmetric', 0.7)


@pytest.mark.parametrize(('rate', 'slope'), [(0.5, -4000 / 130), (0.3, 0)])
def test_the_step_of_the_labels_falls_on_a_straight_line(rate, slope):
    method = correcting(noise='asymmetric', rate=rate)
    first, steps = float(method.lam), []
    for epoch in range(1, 131):
        method.end_epoch(epoch, None)
        steps.append(float(method.lam))
    expected = first + slope * np.arange(1, 131)
    np.testing.assert_allclose(steps, expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(('overrides', 'rates'), [((), (0.02, 0.002)), (OFFICIAL, (0, 0))])
def test_the_public_code_divides_the_last_learning_rate_down_to_nought(overrides, rates):
    settings = stages('symmetric', 0.7, *overrides)['fine_tune']
    assert learning_rate(settings, 0) == learning_rate(settings, 39) == 0.2
    assert learning_rate(settings, 40) == learning_rate(settings, 79) == pytest.approx(rates[0])
    assert learning_rate(settings, 80) == learning_rate(settings, 119) == pytest.approx(rates[1])


def test_on_clothing1m_the_step_of_the_labels_jumps_after_five_epochs():
    method = correcting(noise='none', rate=None, dataset='clothing1m')
    steps = [float(method.lam)]
    for epoch in range(1, 10):
        method.end_epoch(epoch, None)
        steps.append(float(method.lam))
    assert steps == 5 * [3000] + 5 * [500]


def test_labels_are_held_to_the_noisy_ones_whatever_has_become_of_them():
    method, z = correcting(), np.random.default_rng(0).normal(size=(5, 3))
    method.lam[...] = 0
    before, _ = bare.backward(method, bare.batch(method, z, range(5)))
    method.labels.y[...] = 1 / 3
    after, _ = bare.backward(method, bare.batch(method, z, range(5)))
    assert after == before


def test_labels_rest_but_for_the_stage_that_corrects_them():
    method, z = correcting(), np.random.default_rng(0).normal(size=(5, 3))
    bare.backward(method, bare.batch(method, z, range(5)))
    moved = method.labels.logits.copy()
    method.begin('fine_tune')
    bare.backward(method, bare.batch(method, z, range(5)))
    np.testing.assert_array_equal(method.labels.logits, moved)


@pytest.mark.parametrize('preset', ['paper', 'short', 'reduced', 'quick'])
@pytest.mark.parametrize('noise', ['symmetric', 'asymmetric'])
def test_labels_settle_while_the_outputs_stay_the_same(preset, noise):
    rng = np.random.default_rng(0)
    outputs = rng.dirichlet(np.full(10, 0.3), 200)
    given = np.eye(10)[rng.integers(10, size=200)]
    for rate in {rate for table in ('table2', 'table3') for rate in rates(table, preset, noise)}:
        trial = config.trial('pencil', 'cifar10', noise, rate, 0, preset=preset)
        hyper = trial.stages['correct']
        step, yt = hyper['lambda_first'] / trial.common['batch_size'], hyper['K'] * given
        for _ in range(3000):
            yd = softmax(yt, axis=1)
            yt = yt - step * ((yd - outputs) / 10 + hyper['alpha'] * (yd - given))
        assert np.abs(softmax(yt, axis=1) - yd).max() < 1e-3, rate


def rates(table, preset, noise):
    columns = paper.columns(paper.grid(table, preset))
    return [rate for kind, rate in columns if kind == noise]
