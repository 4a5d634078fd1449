"""CNN-CRF: every closed form against a sum over all 100 states, and the Gibbs chains."""

import itertools
import types

import chainer
import chainer.functions as F
import numpy as np
import pytest
from chainer import gradient_check

from chainer_jo.datasets.cifar10 import FLIPS
from chainer_jo.datasets.noise import transition_matrix
from chainer_jo.functions import crf
from chainer_jo.methods.base import Batch
from chainer_jo.methods.cnn_crf import CNNCRF
from chainer_jo.methods.cnn_crf_estimated import CNNCRFEstimated

N_CLASS = 10
STATES = list(itertools.product(range(N_CLASS), repeat=2))
TRAIN = {
    'auxiliary': 'oracle', 'epsilon': 0.2, 'alpha_first': 8.0, 'alpha_last': 1.0,
    'alpha_epochs': 10, 'negative_phase': 'exact',
}  # fmt: skip


def problem(seed=0, n=4):
    """Logits, pair scores and noisy classes, float64."""
    rng = np.random.default_rng(seed)
    a, pair = rng.normal(size=(n, N_CLASS)), rng.normal(size=(N_CLASS, N_CLASS))
    return a, pair, rng.integers(N_CLASS, size=n)


def joint(a, pair):
    """``p(y_hat, y | x)`` of one image, (C, C), state by state."""
    p = np.zeros((N_CLASS, N_CLASS))
    for y_hat, y in STATES:
        p[y_hat, y] = np.exp(a[y_hat] + pair[y_hat, y])
    return p / p.sum()


def test_log_z_is_the_sum_over_all_100_states():
    a, pair, _ = problem()
    log_z = F.logsumexp(crf.clean_scores(a, chainer.Variable(pair)), axis=1).array
    for i in range(len(a)):
        expected = np.log(sum(np.exp(a[i, k] + pair[k, y]) for k, y in STATES))
        assert log_z[i] == pytest.approx(expected)


def test_clean_scores_are_those_of_the_marginal_over_noisy_labels():
    a, pair, _ = problem()
    f = F.softmax(crf.clean_scores(a, chainer.Variable(pair))).array
    np.testing.assert_allclose(f, [joint(row, pair).sum(axis=1) for row in a])


def power_mean(a, pair, y, p_aux, alpha):
    posterior = joint(a, pair)[:, y] / joint(a, pair)[:, y].sum()
    q = np.array([(posterior[k] * p_aux[k] ** alpha) ** (1 / (1 + alpha)) for k in range(N_CLASS)])
    return q / q.sum()


@pytest.mark.parametrize('alpha', [0.0, 1.0, 8.0])
def test_e_step_is_the_power_mean_of_posterior_and_auxiliary_distribution(alpha):
    a, pair, y = problem()
    p_aux = np.random.default_rng(1).dirichlet(np.ones(N_CLASS), len(a))
    s = crf.clamped_scores(a, chainer.Variable(pair), np.eye(N_CLASS)[y]).array
    q = crf.e_step(s, np.log(p_aux), np.array(alpha))
    for i in range(len(a)):
        np.testing.assert_allclose(q[i], power_mean(a[i], pair, y[i], p_aux[i], alpha))


def test_e_step_minimises_its_two_divergences():
    a, pair, y = problem(n=1)
    posterior = joint(a[0], pair)[:, y[0]] / joint(a[0], pair)[:, y[0]].sum()
    p_aux = np.random.default_rng(1).dirichlet(np.ones(N_CLASS))
    s = crf.clamped_scores(a, chainer.Variable(pair), np.eye(N_CLASS)[y]).array
    q = crf.e_step(s, np.log(p_aux)[None], np.array(2.0))[0]

    def objective(r):
        return np.sum(r * np.log(r / posterior)) + 2 * np.sum(r * np.log(r / p_aux))

    others = np.random.default_rng(2).dirichlet(np.ones(N_CLASS), 100)
    assert all(objective(other) > objective(q) for other in others)


class Net(chainer.Chain):
    """Logits are the pixels of a 1 x C image plus learned ones."""

    def __init__(self, n_class=N_CLASS):
        super().__init__()
        with self.init_scope():
            self.shift = chainer.Parameter(np.zeros(n_class, 'f'))

    def forward(self, x):
        return x[:, 0, 0] + F.broadcast_to(self.shift, x[:, 0, 0].shape)


def a_method(n=16, kind=CNNCRF, **settings):
    labels = np.random.default_rng(5).integers(N_CLASS, size=n)
    stages = {'train': TRAIN | settings}
    if kind is not CNNCRF:
        stages = {'estimate': {'drop': 0.03}, **stages}
    T = transition_matrix('symmetric', 0.5, N_CLASS)
    method = kind(Net(), labels, N_CLASS, stages, T)
    method.begin('train')
    rng = np.random.default_rng(6)
    method.W.array[...] = rng.normal(size=method.W.shape)
    method.b.array[...] = rng.normal(size=method.b.shape)
    x = rng.normal(size=(n, 1, 1, N_CLASS)).astype('f')
    return method, Batch(x, np.arange(n, dtype='i'), np.eye(N_CLASS, dtype='f')[labels])


def loop(method, batch):
    """The loss and the gradients by W, b and the logits, image by image, float64."""
    pair = (method.W.array + method.b.array).astype(np.float64)
    p_aux, alpha = np.exp(method.log_auxiliary.astype(np.float64)), float(method.alpha)
    loss, gradient_W, gradient_a = 0.0, np.zeros_like(pair), np.zeros(N_CLASS)
    n = len(batch.x)
    for x, y in zip(batch.x[:, 0, 0].astype(np.float64), batch.y.argmax(axis=1), strict=True):
        q = power_mean(x, pair, y, p_aux[:, y], alpha)
        log_z = np.log(sum(np.exp(x[k] + pair[k, j]) for k, j in STATES))
        loss += (log_z - sum(q[k] * (x[k] + pair[k, y]) for k in range(N_CLASS))) / n
        p = joint(x, pair)
        for k, j in STATES:
            gradient_W[k, j] += (p[k, j] - q[k] * (j == y)) / n
        gradient_a += (p.sum(axis=1) - q) / n
    return loss, gradient_W, gradient_W.sum(axis=0), gradient_a


@pytest.mark.parametrize('auxiliary', ['oracle', 'prior', 'oracle of an asymmetric matrix'])
def test_loss_and_gradient_are_those_of_a_loop_over_images_and_states(auxiliary):
    method, batch = a_method(auxiliary=auxiliary.partition(' ')[0])
    if 'asymmetric' in auxiliary:
        method.know(an_asymmetric_matrix())
    loss, _ = method(batch)
    method.cleargrads()
    loss.backward()
    expected, gradient_W, gradient_b, gradient_a = loop(method, batch)
    assert float(loss.array) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(method.W.grad, gradient_W, atol=1e-6)
    np.testing.assert_allclose(method.b.grad, gradient_b, atol=1e-6)
    np.testing.assert_allclose(method.net.shift.grad, gradient_a, atol=1e-6)


def test_gradient_agrees_with_finite_differences():
    a, pair, y = problem()
    q = np.random.default_rng(1).dirichlet(np.ones(N_CLASS), len(a))

    def loss(a, pair):
        log_z = F.sum(F.logsumexp(crf.clean_scores(a, pair), axis=1))
        return log_z - F.sum(q * crf.clamped_scores(a, pair, np.eye(N_CLASS)[y]))

    gradient_check.check_backward(loss, (a, pair), None, dtype=np.float64, atol=1e-6, rtol=1e-6)


def test_gradient_of_the_net_is_e_q_minus_e_p():
    method, batch = a_method(n=1)
    loss, log_f = method(batch)
    method.cleargrads()
    loss.backward()
    p_aux = np.exp(method.log_auxiliary[:, batch.y.argmax()].astype(np.float64))
    pair = (method.W + method.b).array
    q = power_mean(batch.x[0, 0, 0], pair, batch.y.argmax(), p_aux, 8.0)
    np.testing.assert_allclose(method.net.shift.grad, np.exp(log_f.array[0]) - q, atol=1e-6)


def test_three_classes_by_hand():
    # a = log (2, 1, 1), W doubles pairs that agree, alpha = 1, p_aux = (1/2, 1/4, 1/4), y = 0:
    # the posterior is (4, 1, 1) / 6, hence q ~ sqrt(4/12, 1/24, 1/24), that is (sqrt 8, 1, 1);
    # Z = 2 (2 + 1 + 1) + 1 (1 + 2 + 1) + 1 (1 + 1 + 2) = 16.
    a = np.log([[2.0, 1.0, 1.0]])
    pair = chainer.Variable(np.log(1 + np.eye(3)))
    s = crf.clamped_scores(a, pair, np.eye(3)[[0]]).array
    np.testing.assert_allclose(np.exp(s), [[4, 1, 1]])
    q = crf.e_step(s, np.log([[0.5, 0.25, 0.25]]), np.array(1.0))
    np.testing.assert_allclose(q[0] / q[0, 1], [np.sqrt(8), 1, 1])
    clean = crf.clean_scores(a, pair)
    np.testing.assert_allclose(np.exp(clean.array), [[8, 4, 4]])
    assert float(F.logsumexp(clean).array) == pytest.approx(np.log(16))


def test_prediction_is_the_clean_marginal():
    method, batch = a_method()
    pair = (method.W + method.b).array
    f = np.exp(method.log_f(batch.x).array)
    np.testing.assert_allclose(f, [joint(x, pair).sum(axis=1) for x in batch.x[:, 0, 0]], rtol=1e-4)
    np.testing.assert_array_equal(method.predict(batch.x).array.argmax(axis=1), f.argmax(axis=1))


def test_oracle_is_bayes_rule_on_the_true_matrix():
    method, _ = a_method()
    p_aux = np.exp(method.log_auxiliary)
    np.testing.assert_allclose(p_aux.sum(axis=0), 1, rtol=1e-5)
    assert p_aux[3, 3] == pytest.approx(0.55)
    assert p_aux[2, 3] == pytest.approx(0.05)


def test_prior_keeps_the_noisy_label_with_its_probability_and_ignores_the_matrix():
    method, _ = a_method(auxiliary='prior')
    p_aux = np.exp(method.log_auxiliary)
    np.testing.assert_allclose(np.diag(p_aux), 0.8, rtol=1e-5)
    assert p_aux[2, 3] == pytest.approx(0.2 / 9)


def test_auxiliary_distribution_is_finite_where_a_class_has_no_noisy_label():
    method, _ = a_method()
    method.know(transition_matrix('asymmetric', 1.0, N_CLASS, flips=FLIPS))
    assert np.isfinite(method.log_auxiliary).all()


def test_estimated_matrix_replaces_the_true_one():
    method, _ = a_method(kind=CNNCRFEstimated)
    np.testing.assert_allclose(np.exp(method.log_auxiliary), np.eye(N_CLASS), atol=1e-6)
    method.know(transition_matrix('symmetric', 0.5, N_CLASS).astype('f'))
    assert np.exp(method.log_auxiliary[3, 3]) == pytest.approx(0.55)


def probe(seed=0):
    return types.SimpleNamespace(rng=lambda purpose: np.random.default_rng(seed))


def test_alpha_falls_evenly_and_then_stays():
    method, _ = a_method()
    alphas = [float(method.alpha)]
    for epoch in range(1, 13):
        method.end_epoch(epoch, probe())
        alphas.append(float(method.alpha))
    np.testing.assert_allclose(alphas, [*np.linspace(8, 1, 11), 1, 1], rtol=1e-6)


def test_chain_visits_the_states_of_a_tiny_model_as_often_as_their_probability():
    rng = np.random.default_rng(0)
    a, pair = np.array([[0.5, -0.4]]), np.array([[0.3, -0.5], [0.2, 0.9]])
    p = np.exp(a.T + pair)
    p /= p.sum()
    chains = 2000
    y, visits = np.zeros(chains, int), np.zeros((2, 2))
    for sweep in range(60):
        y_hat, y = crf.gibbs_sweep(np.repeat(a, chains, 0), pair, y, rng.random((chains, 2)))
        if sweep >= 10:
            np.add.at(visits, (y_hat, y), 1)
    np.testing.assert_allclose(visits / visits.sum(), p, atol=0.01)


def test_uniform_numbers_at_the_edge_draw_a_class_that_exists():
    edge = np.nextafter(np.float32(1), np.float32(0))
    a, pair = np.zeros((2, N_CLASS), 'f'), np.zeros((N_CLASS, N_CLASS), 'f')
    y_hat, y = crf.gibbs_sweep(a, pair, np.zeros(2, int), np.array([[0, 0], [edge, edge]], 'f'))
    assert (y_hat.tolist(), y.tolist()) == ([0, 9], [0, 9])


def test_mean_gradient_of_the_chains_is_the_exact_one():
    exact, batch = a_method(n=600)
    chains, _ = a_method(n=600, negative_phase='pcd')
    exact.cleargrads()
    exact(batch)[0].backward()
    total, sweeps = np.zeros_like(chains.W.array), 100
    for sweep in range(sweeps + 10):
        chains.cleargrads()
        chains(batch)[0].backward()
        total += chains.W.grad * (sweep >= 10)
        chains.end_epoch(20, probe(sweep))
        chains.alpha[...] = exact.alpha
    np.testing.assert_allclose(total / sweeps, exact.W.grad, atol=0.002)


def test_chains_start_at_the_noisy_labels_and_are_part_of_the_snapshot(tmp_path):
    method, batch = a_method(negative_phase='pcd')
    np.testing.assert_array_equal(method.chain, batch.y.argmax(axis=1))
    method(batch)
    chainer.serializers.save_npz(tmp_path / 'method.npz', method)
    other, _ = a_method(negative_phase='pcd')
    chainer.serializers.load_npz(tmp_path / 'method.npz', other)
    np.testing.assert_array_equal(other.chain, method.chain)
    assert (method.chain != batch.y.argmax(axis=1)).any()
    assert float(other(batch)[0].array) == float(method(batch)[0].array)


def test_an_image_that_a_batch_holds_twice_keeps_its_later_state():
    method, batch = a_method(negative_phase='pcd')
    twice = np.concatenate([np.arange(15), [0]]).astype('i')
    a, pair = batch.x[:, 0, 0], method.pair
    _, y = crf.gibbs_sweep(a, pair.array, method.chain[twice], method.uniform[twice])
    method.score_of_chains(chainer.Variable(a), pair, twice)
    np.testing.assert_array_equal(method.chain[:15], [y[15], *y[1:15]])


def test_an_image_that_comes_again_within_an_epoch_has_other_random_numbers():
    method, batch = a_method(negative_phase='pcd')
    a, before = chainer.Variable(batch.x[:, 0, 0]), method.uniform.copy()
    index, drawn = np.arange(8, dtype='i'), []
    for _ in range(50):
        drawn.append(method.uniform[:8].copy())
        method.score_of_chains(a[:8], method.pair, index)
    np.testing.assert_array_equal(method.uniform[8:], before[8:])
    drawn = np.array(drawn)
    assert len(np.unique(drawn, axis=0)) == 50
    assert ((drawn >= 0) & (drawn < 1)).all()
    # Uniform over the sweeps, too.
    assert abs(drawn.mean(axis=0) - 0.5).max() < 0.05


def test_exact_phase_keeps_no_chains():
    method, _ = a_method()
    assert method.chain.size == method.uniform.size == 0


def an_asymmetric_matrix():
    """Rows that sum to 1, columns that do not, no two entries the same."""
    return np.random.default_rng(7).dirichlet(np.ones(N_CLASS), N_CLASS).astype('f')


def test_bayes_rule_divides_by_the_share_of_each_noisy_label():
    method, _ = a_method()
    T = an_asymmetric_matrix()
    method.know(T)
    for k, j in STATES:
        expected = T[k, j] / sum(T[i, j] for i in range(N_CLASS))
        assert np.exp(method.log_auxiliary[k, j]) == pytest.approx(expected, rel=1e-4)
