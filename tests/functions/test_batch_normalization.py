import chainer
import chainer.functions as F
import numpy as np
import pytest
from chainer.utils import type_check
from hypothesis import given, settings
from hypothesis import strategies as st

from chainer_jo import backends
from chainer_jo.functions.batch_normalization import batch_normalization

EPS = 2e-5
KINDS = [(relu, residual) for relu in (False, True) for residual in (False, True)]


def draw(shape, seed):
    """Returns x, gamma, beta, running mean, running variance and gy."""
    rng = np.random.default_rng(seed)
    c = shape[1]
    drawn = [rng.normal(2, 3, shape), rng.normal(1, 0.5, c), rng.normal(0, 1, c)]
    drawn += [rng.normal(2, 1, c), rng.uniform(1, 9, c), rng.normal(0, 1, shape)]
    return [array.astype(np.float32) for array in drawn]


def along_channels(vector):
    return vector[:, None, None]


def exact_forward(x, gamma, beta, mean, var):
    """Returns the normalised x and what ReLU gets, in float64."""
    x_hat = (x.astype(np.float64) - along_channels(mean)) / np.sqrt(along_channels(var) + EPS)
    return x_hat, along_channels(gamma) * x_hat + along_channels(beta)


def exact_gradients(x_hat, before_relu, gamma, var, gy, fixed):
    """Ioffe and Szegedy (2015), Sec. 3, in float64."""
    g = np.where(before_relu > 0, gy.astype(np.float64), 0)
    ggamma, gbeta = (g * x_hat).sum(axis=(0, 2, 3)), g.sum(axis=(0, 2, 3))
    m = g.size // gamma.size
    if not fixed:
        g = g - along_channels(gbeta) / m - x_hat * along_channels(ggamma) / m
    return along_channels(gamma / np.sqrt(var + EPS)) * g, ggamma, gbeta


def batch_normalization_relu(*args):
    return batch_normalization(*args, relu=True)


def check_against_formulas(shape, seed, train, relu=True, with_residual=False):
    x, gamma, beta, mean, var, gy = draw(shape, seed)
    running = mean.copy(), var.copy()
    if train:
        mean, var = (f(x.astype(np.float64), axis=(0, 2, 3)) for f in (np.mean, np.var))
    x_hat, before_relu = exact_forward(x, gamma, beta, mean, var)
    residual = np.random.default_rng(seed + 1).normal(size=shape).astype('f')
    before_relu = before_relu + residual if with_residual else before_relu
    gy[np.abs(before_relu) < 1e-4] = 0  # where rounding decides the sign
    inputs = [chainer.Variable(array) for array in (x, gamma, beta, residual)]
    added = inputs[3] if with_residual else None
    with chainer.using_config('train', train):
        y = batch_normalization(*inputs[:3], *running, EPS, 0.9, relu, added)
    y.grad, untouched = gy, gy.copy()
    y.backward()
    assert_near(y.array, np.maximum(before_relu, 0) if relu else before_relu)
    np.testing.assert_array_equal(gy, untouched)
    passed = before_relu if relu else np.ones(shape)
    exact = exact_gradients(x_hat, passed, gamma, var, gy, fixed=not train)
    if with_residual:
        np.testing.assert_array_equal(inputs[3].grad, np.where(passed > 0, gy, 0))
    for variable, expected in zip(inputs[:3], exact, strict=True):
        assert_near(variable.grad, expected)
    return running, mean, var


def assert_near(actual, exact):
    assert actual.dtype == np.float32
    scale = max(1, np.abs(exact).max())
    np.testing.assert_allclose(actual, exact, rtol=1e-5, atol=1e-5 * scale)


shapes = st.tuples(
    st.integers(1, 5), st.sampled_from([1, 5, 16, 17, 32]), st.integers(2, 9), st.integers(2, 9)
)


@pytest.mark.usefixtures('onednn_loaded')
class TestOnOneDNN:
    @settings(max_examples=60)
    @given(shape=shapes, seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
    def test_training_equals_the_formulas_in_float64(self, shape, seed, kind):
        check_against_formulas(shape, seed, True, *kind)

    @settings(max_examples=40)
    @given(shape=shapes, seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
    def test_testing_equals_the_formulas_in_float64(self, shape, seed, kind):
        check_against_formulas(shape, seed, False, *kind)

    def test_testing_leaves_the_running_statistics(self):
        running, mean, var = check_against_formulas((2, 5, 3, 3), 0, train=False)
        np.testing.assert_array_equal(running, (mean, var))

    def test_testing_without_backprop_gives_the_same_result(self):
        x, *others, _ = draw((3, 16, 5, 4), 0)
        with chainer.using_config('train', False):
            expected = batch_normalization_relu(x, *others)
            with chainer.no_backprop_mode():
                actual = batch_normalization_relu(x, *others)
        np.testing.assert_array_equal(actual.array, expected.array)

    @pytest.mark.parametrize('shape', [(4, 6, 5, 5), (1, 3, 2, 1), (2, 1, 1, 1)])
    def test_running_statistics_follow_chainers_in_place(self, shape):
        x, gamma, beta, mean, var, _ = draw(shape, 1)
        kept = {}
        for name in ('onednn', 'chainer'):
            backends.use(name)
            running = mean.copy(), var.copy()
            for step in range(3):
                batch_normalization_relu(x * (step + 1), gamma, beta, *running, EPS, 0.9)
            kept[name] = running
        np.testing.assert_allclose(kept['onednn'], kept['chainer'], rtol=1e-5)

    def test_any_layout_in_memory_gives_the_same_result(self):
        x, gamma, beta, mean, var, _ = draw((2, 6, 4, 4), 0)
        expected = batch_normalization_relu(x, gamma, beta, mean, var).array
        twice = [np.repeat(vector, 2)[::2] for vector in (gamma, beta, mean, var)]
        x = np.ascontiguousarray(x.transpose(2, 0, 1, 3)).transpose(1, 2, 0, 3)
        np.testing.assert_array_equal(batch_normalization_relu(x, *twice).array, expected)

    def test_gradients_from_other_paths_are_added(self):
        x, gamma, beta, mean, var, gy = draw((2, 6, 4, 4), 0)
        gradients = {}
        for name in ('onednn', 'chainer'):
            backends.use(name)
            inputs = [chainer.Variable(array) for array in (x, gamma, beta)]
            y = batch_normalization_relu(*inputs, mean.copy(), var.copy())
            again = batch_normalization_relu(y + inputs[0], *inputs[1:], mean.copy(), var.copy())
            F.sum(again * gy + inputs[0]).backward()
            gradients[name] = [variable.grad for variable in inputs]
        for actual, expected in zip(gradients['onednn'], gradients['chainer'], strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)

    def test_arguments_of_the_wrong_shape_are_refused(self):
        x, gamma, beta, mean, var, _ = draw((2, 6, 4, 4), 0)
        for wrong in ((x[0], gamma, beta), (x, gamma[:5], beta), (x, gamma, beta[:5])):
            with pytest.raises(type_check.InvalidType):
                batch_normalization_relu(*wrong, mean, var)
        with pytest.raises(ValueError, match='running'):
            batch_normalization_relu(x, gamma, beta, mean[:5], var)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('train', [True, False])
def test_the_reference_equals_the_formulas_in_float64(train, kind):
    backends.use('chainer')
    check_against_formulas((3, 5, 4, 4), 0, train, *kind)
