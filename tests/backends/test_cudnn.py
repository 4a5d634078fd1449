"""The kernels of the cuDNN backend against loops over NumPy arrays, run on the CPU."""

import chainer
import numpy as np
import pytest

from chainer_jo.backends import cudnn
from chainer_jo.datasets import augment
from chainer_jo.datasets.streams import rng

EPS = 2e-5
SHAPES = [
    (1, 3, 1, 1), (1, 1, 5, 7), (2, 4, 3, 3), (3, 5, 7, 6), (2, 32, 9, 8), (5, 128, 4, 3),
    (1, 300, 3, 2), (1, 1200, 2, 2), (7, 6, 31, 29),
]  # fmt: skip
# Half a unit in the last place, of the result.
ROUNDING = {'float32': 2.0**-24, 'float16': 2.0**-11}

pytestmark = pytest.mark.usefixtures('cudnn_on_cpu')


def draw(seed, *shapes):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


def channel_last(x, dtype='float32'):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1), dtype).transpose(0, 3, 1, 2)


def images(seed, shape, dtype, count=1):
    return [channel_last(x, dtype) for x in draw(seed, *[shape] * count)]


def lies_channel_last(x):
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


def assert_near(actual, exact, dtype, magnitude=1.0):
    """``magnitude`` bounds what was added up to get the result."""
    assert actual.dtype == dtype
    assert actual.shape == exact.shape
    atol = 1e-5 * np.maximum(magnitude, 1)
    bound = 2 * ROUNDING[str(actual.dtype)] * np.abs(exact) + atol
    assert (np.abs(actual.astype(np.float64) - exact) <= bound).all()


def each(vector):
    return np.asarray(vector, np.float64)[:, None, None]


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('shape', SHAPES)
class TestBatchNormalization:
    def forward(self, x, gamma, beta, mean, variance):
        x_hat = (x.astype(np.float64) - each(mean)) / np.sqrt(each(variance) + EPS)
        return x_hat, each(gamma) * x_hat + each(beta)

    def test_statistics_result_and_running_statistics_are_those_of_the_formulas(self, shape, dtype):
        (x,), (gamma, beta) = images(0, shape, dtype), draw(1, *[shape[1:2]] * 2)
        running, moved = draw(2, *[shape[1:2]] * 2), []
        moved = [statistic.copy() for statistic in running]
        y, mean, variance, _ = cudnn.normalize_relu(x, gamma, beta, EPS, (*moved, 0.9))
        wide = x.astype(np.float64)
        exact_mean, exact_variance = wide.mean(axis=(0, 2, 3)), wide.var(axis=(0, 2, 3))
        assert_near(mean, exact_mean, np.float32)
        assert_near(variance, exact_variance, np.float32)
        _, before = self.forward(x, gamma, beta, mean, variance)
        assert_near(y, np.maximum(before, 0), x.dtype, abs(before))
        assert lies_channel_last(y)
        m = x.size // shape[1]
        unbiased = exact_variance * m / max(m - 1, 1)
        for new, old, now in zip(moved, running, (exact_mean, unbiased), strict=True):
            assert_near(new, 0.9 * old + 0.1 * now, np.float32)

    @pytest.mark.parametrize('fixed', [False, True])
    def test_gradients_are_those_of_the_formulas(self, shape, dtype, fixed):
        (x, gy), (gamma, beta, mean) = images(3, shape, dtype, 2), draw(4, *[shape[1:2]] * 3)
        variance = mean**2 + 0.1
        if fixed:
            _, signs = cudnn.normalize_relu_fixed(x, gamma, beta, mean, variance, EPS, True)
        else:
            _, mean, variance, signs = cudnn.normalize_relu(x, gamma, beta, EPS)
        x_hat, before = self.forward(x, gamma, beta, mean, variance)
        gy[np.abs(before) < 1e-4] = 0  # where rounding decides the sign
        gx, ggamma, gbeta = cudnn.normalize_relu_gradients(
            x, gamma, mean, variance, signs, gy, EPS, fixed
        )
        g = np.where(before > 0, gy.astype(np.float64), 0)
        exact_gamma, exact_beta = (g * x_hat).sum(axis=(0, 2, 3)), g.sum(axis=(0, 2, 3))
        scale, size = cudnn.SCALE[x.dtype], np.sqrt(g.size / shape[1])
        assert_near(ggamma, exact_gamma / scale, np.float32, size / scale)
        assert_near(gbeta, exact_beta / scale, np.float32, size / scale)
        if not fixed:
            g = g - (each(exact_beta) + x_hat * each(exact_gamma)) * shape[1] / g.size
        slope = each(gamma) / np.sqrt(each(variance) + EPS)
        assert_near(gx, slope * g, x.dtype, 10 * np.abs(slope) * (1 + np.abs(x_hat)))
        assert lies_channel_last(gx)


def test_a_mean_far_from_zero_costs_the_variance_nothing():
    x = channel_last(1000 + draw(0, (5, 8, 13, 11))[0])
    _, mean, variance, _ = cudnn.normalize_relu(x, np.ones(8, 'f'), np.zeros(8, 'f'), EPS)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var(axis=(0, 2, 3)), rtol=1e-4)


def test_a_reduction_of_more_rows_than_parts_have_misses_none():
    x = channel_last(draw(0, (2, 128, 93, 92))[0])
    rows = cudnn._Rows(x)
    chunk, parts = rows.parts()
    assert (parts - 1) * chunk < rows.rows <= parts * chunk
    assert chunk > rows.block[1] * cudnn._ROWS_OF_A_THREAD
    _, mean, variance, _ = cudnn.normalize_relu(x, np.ones(128, 'f'), np.zeros(128, 'f'), EPS)
    assert_near(mean, x.mean(axis=(0, 2, 3), dtype=np.float64), np.float32)
    assert_near(variance, x.var(axis=(0, 2, 3), dtype=np.float64), np.float32)


def test_a_channel_that_is_constant_has_no_variance():
    x = channel_last(np.full((2, 3, 5, 5), 0.1, np.float32))
    y, _, variance, _ = cudnn.normalize_relu(x, np.ones(3, 'f'), np.ones(3, 'f'), EPS)
    np.testing.assert_array_equal(variance, 0)
    np.testing.assert_allclose(y, 1, atol=1e-4)


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('shape', SHAPES)
def test_the_average_and_its_gradient_are_those_of_loops(shape, dtype):
    (x,), (gy,) = images(0, shape, dtype), draw(1, shape[:2])
    y = cudnn.average(x)
    assert_near(y, x.astype(np.float64).mean(axis=(2, 3)), np.float32)
    gx, pixels = cudnn.average_gradient(shape, x.dtype, gy), shape[2] * shape[3]
    exact = np.broadcast_to(gy[:, :, None, None] / pixels, shape)
    assert_near(gx, exact * cudnn.SCALE[x.dtype], x.dtype)
    assert lies_channel_last(gx)


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('shape', SHAPES)
def test_a_sum_is_made_in_place_only_where_nobody_else_looks(shape, dtype):
    x, y = images(0, shape, dtype, 2)
    kept, exact = x.copy(order='K'), x.astype(np.float64) + y
    total = cudnn.accumulate(x, y, gy=x)
    assert_near(total, exact, x.dtype)
    np.testing.assert_array_equal(x, kept)
    assert cudnn.accumulate(x, np.ascontiguousarray(y), gy=None) is x
    np.testing.assert_array_equal(x, total)


@pytest.mark.parametrize('shape', SHAPES)
def test_a_conversion_rounds_to_the_nearest_and_changes_the_layout(shape):
    (x,) = draw(0, shape)
    every_other = np.repeat(x, 2, axis=3)[..., ::2]
    for layout in (x, channel_last(x), every_other, x.transpose(3, 1, 0, 2)):
        half = cudnn.convert(layout, np.float16)
        np.testing.assert_array_equal(half, layout.astype(np.float16))
        assert half.dtype == np.float16
        assert lies_channel_last(half)
        np.testing.assert_array_equal(cudnn.convert(half, np.float32), half.astype(np.float32))
    kept = channel_last(x)
    assert cudnn.convert(kept, np.float32) is kept


def test_the_gradient_of_an_image_leaves_float16_at_its_own_size():
    (gx,) = images(0, (2, 5, 3, 3), 'float16')
    expected = gx.astype(np.float32) / cudnn.SCALE[gx.dtype]
    np.testing.assert_array_equal(cudnn.convert_gradient(gx, np.float32), expected)


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize(('k', 'stride', 'pad'), [(3, 1, 1), (3, 2, 1), (1, 2, 0)])
def test_a_convolution_gives_cudnn_what_it_wants_and_returns_what_callers_want(
    k, stride, pad, dtype
):
    (x,), (W,) = images(0, (3, 5, 8, 6), dtype), draw(1, (7, 5, k, k))
    plain = chainer.functions.convolution_2d(x.astype('f'), W, stride=stride, pad=pad).array
    residual, gy = images(2, plain.shape, dtype, 2)
    tolerance = {'rtol': 0, 'atol': 0.02 if dtype == 'float16' else 1e-5}
    y = cudnn.convolution(x, W, stride, pad)
    np.testing.assert_allclose(y.astype('f'), plain, **tolerance)
    again = cudnn.convolution(x, W, stride, pad, np.ascontiguousarray(residual))
    np.testing.assert_allclose(again.astype('f'), plain + residual, **tolerance)

    x_, W_ = chainer.Variable(x.astype('f')), chainer.Variable(W)
    z = chainer.functions.convolution_2d(x_, W_, stride=stride, pad=pad)
    z.grad = gy.astype('f')
    z.backward()
    gx = cudnn.convolution_gradient_x(x.shape, cudnn.weights(W, x.dtype), gy, stride, pad)
    assert_near_relative(gx.astype('f'), x_.grad, dtype)
    gW = cudnn.convolution_gradient_W(x, W.shape, gy, stride, pad)
    assert gW.dtype == np.float32
    assert_near_relative(gW * cudnn.SCALE[x.dtype], W_.grad, dtype)
    assert lies_channel_last(gW)
    for result in (y, again, gx):
        assert result.dtype == x.dtype
        assert lies_channel_last(result)


def assert_near_relative(actual, expected, dtype):
    scale = np.abs(expected).max()
    tolerance = {'float32': 1e-5, 'float16': 2e-3}[dtype]
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale)


@pytest.mark.parametrize(('n', 'i', 'o'), [(1, 1, 1), (3, 5, 2), (128, 128, 10), (7, 300, 13)])
def test_the_last_layer_and_its_gradients_are_those_of_products(n, i, o):
    x, W, b, gy = draw(0, (n, i), (o, i), (o,), (n, o))
    wide = [array.astype(np.float64) for array in (x, W, b, gy)]
    assert_near(cudnn.linear(x, W, b), wide[0] @ wide[1].T + wide[2], np.float32, 5)
    assert_near(cudnn.linear_gradient_x(W, gy), wide[3] @ wide[1], np.float32, 5)
    gW, gb = cudnn.linear_gradient_W(x, np.asfortranarray(gy))
    assert_near(gW, wide[3].T @ wide[0], np.float32, 5)
    assert_near(gb, wide[3].sum(axis=0), np.float32, 5)


@pytest.mark.parametrize('pad', [0, 2, 4])
def test_a_training_batch_is_that_of_numpy_bit_for_bit(pad):
    generator = rng(0, 'test')
    given = generator.integers(0, 256, (9, 3, 6, 5), dtype=np.uint8)
    mean = augment.pixel_mean(given, np.arange(9))
    index = generator.integers(0, 9, 12)
    choices = augment.crops(generator, (12,), 2 * pad), augment.flips(generator, (12,))
    x = cudnn.augment(given, mean, index, *choices, pad)
    np.testing.assert_array_equal(x, augment.augment(given, mean, index, *choices, pad))
    assert lies_channel_last(x)


# B, C: more rows than a block has threads, and fewer.
ROWS = [(1, 2), (57, 10), (128, 10), (300, 3), (1000, 2), (1, 300)]


def labels_and_outputs(b, c):
    """Returns soft labels, many of them with zeros, and logarithms of outputs."""
    generator = np.random.default_rng(0)
    y = generator.dirichlet(np.full(c, 0.5), b)
    y[1::3] = np.eye(c)[generator.integers(c, size=len(y[1::3]))]
    return y.astype('f'), np.log(generator.dirichlet(np.ones(c), b)).astype('f')


@pytest.mark.parametrize('shape', ROWS)
def test_log_softmax_and_its_gradient_are_those_of_the_formulas(shape):
    x, gy = draw(0, shape, shape)
    x[0] += 1000
    y, wide = cudnn.log_softmax(x), x.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    exact = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    assert_near(y, exact, np.float32)
    exact_gx = gy - np.exp(exact) * gy.sum(axis=1, keepdims=True, dtype=np.float64)
    assert_near(cudnn.log_softmax_gradient(y, np.asfortranarray(gy)), exact_gx, np.float32)


@pytest.mark.parametrize('kl', [False, True])
@pytest.mark.parametrize(('alpha', 'beta'), [(0, 0), (1.2, 0.8), (1.2, 0), (0, 0.8)])
@pytest.mark.parametrize('shape', ROWS)
def test_a_loss_and_its_gradient_are_those_of_the_formulas(shape, alpha, beta, kl):
    (b, c), (y, log_f) = shape, labels_and_outputs(*shape)
    loss, f_sums = cudnn.joint_loss(y, log_f, alpha, beta, kl)
    gx = cudnn.joint_loss_gradient(y, log_f, alpha, beta, f_sums, np.array(-3, 'f'))

    y, log_f = y.astype(np.float64), log_f.astype(np.float64)
    f = np.exp(log_f)
    mean_f = f.mean(axis=0)
    exact = -(y * log_f).sum() / b + kl * (y * np.log(np.where(y > 0, y, 1))).sum() / b
    exact -= alpha * np.log(c * mean_f).mean() + beta * (f * log_f).sum() / b
    assert_near(loss, exact, np.float32)
    slope = -y / b - alpha * f / (c * b * mean_f) - beta * f * (log_f + 1) / b
    assert_near(gx, -3 * slope, np.float32)


def test_a_class_that_no_output_has_hurts_only_the_loss_that_looks_at_it():
    y, log_f = np.eye(2, dtype='f')[[0, 0]], np.array([[0, -200], [0, -300]], 'f')
    loss, f_sums = cudnn.joint_loss(y, log_f, 0, 0, True)
    gx = cudnn.joint_loss_gradient(y, log_f, 0, 0, f_sums, np.ones((), 'f'))
    assert loss == 0
    np.testing.assert_array_equal(gx, -y / 2)
    assert cudnn.joint_loss(y, log_f, 1, 0, True)[0] == np.inf


@pytest.mark.parametrize('shape', ROWS)
def test_the_sums_of_an_epoch_grow_by_those_of_a_loop(shape):
    y, log_f = labels_and_outputs(*shape)
    y[2::5] = 0  # The first of equal numbers is the largest.
    sums, loss = np.array([0.5, 7, 3]), np.array(0.3, 'f')
    cudnn.add_to_sums(sums, loss, log_f, y)
    hits = sum(int(f.argmax() == row.argmax()) for f, row in zip(log_f, y, strict=True))
    np.testing.assert_array_equal(sums, [0.5 + float(loss) * len(y), 7 + len(y), 3 + hits])


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('shape', [(4, 3, 5, 7), (9, 1, 28, 28), (1, 10), (1000, 10), (5,)])
def test_a_mixture_is_that_of_a_loop_over_pairs(shape, per):
    (v,), generator = draw(0, shape), np.random.default_rng(1)
    partner = generator.permutation(len(v))
    lam = np.asarray(generator.beta(4, 4, () if per == 'batch' else len(v)), 'f')
    mixed, exact = cudnn.mix_up(v, partner, lam), np.empty(shape)
    for i, j in enumerate(partner):
        weight = float(lam if per == 'batch' else lam[i])
        exact[i] = weight * v[i].astype(np.float64) + (1 - weight) * v[j].astype(np.float64)
    assert_near(mixed, exact, np.float32)
    assert v.ndim < 4 or lies_channel_last(mixed)


@pytest.mark.parametrize('window', [1, 3])
def test_an_output_is_recorded_where_a_loop_would_write_it_last(window):
    generator, (b, n, c) = np.random.default_rng(0), (130, 40, 7)
    f = generator.random((b, c), np.float32)
    index, turn = generator.integers(n, size=b), generator.integers(5, size=b)
    history = np.full((window, n, c), -1, 'f')
    expected = history.copy()
    cudnn.record(history, f, index, turn)
    for i in range(b):
        expected[turn[i] % window, index[i]] = f[i]
    np.testing.assert_array_equal(history, expected)
