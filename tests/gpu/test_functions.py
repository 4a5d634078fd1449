"""The functions of the cuDNN backend against Chainer's own on NumPy's float64."""

import bottleneck
import chainer
import chainer.functions as F
import gpu
import numpy as np
import pytest

from chainer_jo import backends
from chainer_jo.backends import cudnn
from chainer_jo.datasets import augment as numpys
from chainer_jo.functions import epoch_sums, losses
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.links.label_store import LabelStore

EPS = 2e-5
# TF32 and float16 round each factor to eleven bits; the errors of a sum partly cancel.
PRECISIONS = {'strict_float32': 2e-5, 'float32': 2e-3, 'float16': 2e-3}
# N, I, H, W, O, kernel, stride: the net's, then small and odd ones.
CONVOLUTIONS = [
    (8, 3, 32, 32, 32, 3, 1), (8, 32, 32, 32, 32, 3, 1), (8, 32, 32, 32, 32, 1, 1),
    (8, 32, 32, 32, 64, 3, 2), (8, 32, 32, 32, 64, 1, 2), (8, 64, 16, 16, 64, 3, 1),
    (8, 64, 16, 16, 128, 3, 2), (8, 128, 8, 8, 128, 3, 1), (128, 32, 16, 16, 32, 3, 1),
    (4, 3, 33, 32, 64, 7, 2), (4, 256, 8, 7, 128, 1, 2),
    (56, 1, 28, 28, 4, 3, 2), (5, 3, 7, 6, 4, 3, 1), (1, 4, 9, 9, 8, 3, 2), (3, 5, 6, 7, 9, 1, 1),
]  # fmt: skip
IMAGES = [
    (8, 32, 32, 32), (128, 64, 16, 16), (8, 128, 8, 8), (5, 3, 7, 6), (1, 4, 1, 2), (3, 1, 5, 5),
    (2, 300, 3, 3), (1, 1200, 2, 2), (7, 6, 31, 29), (2, 128, 93, 92),
]  # fmt: skip
# Whether ReLU comes last, and whether a residual is added before it.
KINDS = [(False, False), (True, False), (False, True), (True, True)]
ROWS = [(1, 300), (1, 2), (57, 10), (128, 10), (1000, 10), (1000, 2)]
LOSSES = {
    'cross_entropy': losses.cross_entropy,
    'kl_divergence': losses.kl_divergence,
    'joint_loss': lambda y, log_f: losses.joint_loss(y, log_f, 1.2, 0.8),
}


def test_the_gpu_computes_by_cudnn():
    assert backends.name_on(gpu.DEVICE) == 'cudnn', backends.describe(gpu.DEVICE)


@pytest.fixture(params=PRECISIONS)
def precision(request):
    tensor_cores = 'never' if request.param == 'strict_float32' else 'auto'
    with chainer.using_config('use_cudnn_tensor_core', tensor_cores):
        yield request.param


def images(precision, *arrays):
    """Sends images; returns them, and what arrived as float64."""
    dtype = np.dtype('float16' if precision == 'float16' else 'float32')
    sent = [gpu.send(array.astype(dtype)) for array in arrays]
    return [*sent, *(gpu.fetch(array).astype(np.float64) for array in sent)]


def scaled(precision, gy):
    """A gradient as the backend stores that of an image, and how many times as large."""
    scale = cudnn.SCALE[np.dtype('float16' if precision == 'float16' else 'float32')]
    stored, wide = images(precision, gy * scale)
    return stored, wide / scale, scale


def away_from_zero(x):
    """Where rounding cannot change the sign, and with it the whole gradient of a ReLU."""
    return abs(x.array) > 1e-4


def lies_channel_last(x):
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize('case', CONVOLUTIONS, ids=str)
def test_convolution_and_its_gradients(case, precision):
    n, i, h, w, o, k, stride = case
    x, W = gpu.draw(0, (n, i, h, w), (o, i, k, k))
    (x, wide_x), W_gpu, pad = images(precision, x), gpu.send(W), k // 2
    wide_W = chainer.Variable(W.astype(np.float64))
    wide_x = chainer.Variable(wide_x)
    exact = F.convolution_2d(wide_x, wide_W, stride=stride, pad=pad)
    gy, residual, b = gpu.draw(1, exact.shape, exact.shape, (o,))
    gy, wide_gy, scale = scaled(precision, gy / n)
    exact.grad = wide_gy
    residual, wide_residual = images(precision, residual)
    exact.backward()

    gpu.poison(exact.shape, x.dtype)
    y = cudnn.convolution(x, W_gpu, stride, pad)
    plus = cudnn.convolution(x, W_gpu, stride, pad, residual, gpu.send(b))
    gpu.poison(x.shape, x.dtype)
    gx = cudnn.convolution_gradient_x(x.shape, W_gpu, gy, stride, pad)
    gW = cudnn.convolution_gradient_W(x, W.shape, gy, stride, pad)
    gb = cudnn.bias_gradient(gy)
    bound = PRECISIONS[precision]
    assert gpu.error(y, exact.array) < bound
    assert gpu.error(plus, exact.array + wide_residual + b[:, None, None]) < bound
    assert gpu.error(gx, wide_x.grad * scale) < bound
    assert gpu.error(gW, wide_W.grad) < bound
    assert gpu.error(gb, wide_gy.sum(axis=(0, 2, 3))) < 1e-5
    assert gW.dtype == gb.dtype == np.float32
    assert all(lies_channel_last(result) for result in (y, plus, gx, gW))


def test_what_a_plan_keeps_is_not_of_the_pool_in_use():
    """That pool may be a captured graph's, which a plan outlives."""
    xp = chainer.get_device(gpu.DEVICE).xp
    x, W = gpu.send(*gpu.draw(0, (3, 4, 11, 13), (8, 4, 3, 3)))  # No other test has this shape.
    pool = xp.cuda.MemoryPool()
    with xp.cuda.using_allocator(pool.malloc):
        cudnn.convolution(x, W, 1, 1)
    assert pool.used_bytes() == 0


def test_strict_float32_and_tf32_are_two_things():
    x, W = gpu.draw(0, (8, 32, 32, 32), (32, 32, 3, 3))
    exact = F.convolution_2d(x.astype(np.float64), W.astype(np.float64), pad=1).array
    x, W = gpu.send(x, W)
    tf32 = gpu.error(cudnn.convolution(x, W, 1, 1), exact)
    with chainer.using_config('use_cudnn_tensor_core', 'never'):
        strict = gpu.error(cudnn.convolution(x, W, 1, 1), exact)
    assert strict < 1e-5 < tf32


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('shape', IMAGES, ids=str)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_batch_normalization_and_its_gradients(shape, precision, kind):
    (relu, with_residual), c = kind, shape[1]
    bound = {'float32': 1e-4, 'float16': 4e-3}[precision]
    x, gy, residual = gpu.draw(2, shape, shape, shape)
    gamma, beta, mean, variance = gpu.draw(3, *[(c,)] * 4)
    variance = variance**2 + 0.5
    x, residual, wide_x, wide_residual = images(precision, 2 * x + 1, residual)
    wide = [chainer.Variable(v.astype(np.float64)) for v in (wide_x, gamma, beta, wide_residual)]
    running = [v.astype(np.float64) for v in (mean, variance)]
    sum_ = F.batch_normalization(
        *wide[:3], eps=EPS, running_mean=running[0], running_var=running[1]
    )
    sum_ = sum_ + wide[3] if with_residual else sum_
    exact = F.relu(sum_) if relu else sum_
    gy, exact.grad, scale = scaled(precision, away_from_zero(sum_) * gy / len(x))
    exact.backward()

    more = [residual] * with_residual
    gamma, beta, mean, variance = gpu.send(gamma, beta, mean, variance)
    gpu.poison(shape, x.dtype)
    y, m, v, kept = cudnn.normalize(x, gamma, beta, EPS, (mean, variance, 0.9), relu, *more)
    gradients = cudnn.normalize_gradients(x, gamma, m, v, kept, gy, EPS, False, *kind)
    assert gpu.error(y, exact.array) < bound
    assert gpu.error(mean, running[0]) < 1e-5
    assert gpu.error(variance, running[1]) < 1e-5
    assert gpu.error(m, wide_x.mean(axis=(0, 2, 3))) < 1e-5
    assert lies_channel_last(y)
    assert lies_channel_last(gradients[0])
    if with_residual:
        assert gpu.error(gradients[3], wide[3].grad * scale) < bound
    if wide_x.size > 4 * c:  # Of two numbers, normalised, the gradients cancel.
        for actual, one, times in zip(gradients, wide[:3], (scale, 1, 1), strict=False):
            assert gpu.error(actual, one.grad * times) < bound


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('shape', IMAGES, ids=str)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_batch_normalization_by_fixed_statistics_and_its_gradients(shape, precision, kind):
    relu, with_residual = kind
    bound = {'float32': 1e-5, 'float16': 2e-3}[precision]
    x, gy, residual = gpu.draw(4, shape, shape, shape)
    vectors = gpu.draw(5, *[(shape[1],)] * 4)
    vectors[3] = vectors[3] ** 2 + 0.5
    x, residual, wide_x, wide_residual = images(precision, x, residual)
    wide = [chainer.Variable(v.astype(np.float64)) for v in (wide_x, *vectors, wide_residual)]
    sum_ = F.fixed_batch_normalization(*wide[:5], eps=EPS)
    sum_ = sum_ + wide[5] if with_residual else sum_
    exact = F.relu(sum_) if relu else sum_
    gy, exact.grad, scale = scaled(precision, away_from_zero(sum_) * gy)
    exact.backward()

    more = [residual] * with_residual
    gamma, beta, mean, variance = gpu.send(*vectors)
    gpu.poison(shape, x.dtype)
    y, kept = cudnn.normalize_fixed(x, gamma, beta, mean, variance, EPS, True, relu, *more)
    found = cudnn.normalize_gradients(x, gamma, mean, variance, kept, gy, EPS, True, *kind)
    assert gpu.error(y, exact.array) < bound
    for actual, one, times in zip(found, wide[:3], (scale, 1, 1), strict=False):
        assert gpu.error(actual, one.grad * times) < bound


def test_a_mean_far_from_zero_costs_the_variance_nothing():
    x = 1000 + gpu.draw(0, (5, 8, 13, 11))[0]
    _, mean, variance, _ = cudnn.normalize(*gpu.send(x, np.ones(8, 'f'), np.zeros(8, 'f')), EPS)
    wide = x.astype(np.float64)
    assert gpu.error(mean, wide.mean(axis=(0, 2, 3))) < 1e-6
    assert gpu.error(variance, wide.var(axis=(0, 2, 3))) < 1e-4


def test_a_channel_that_is_constant_has_no_variance():
    x = np.full((2, 3, 5, 5), 0.1, np.float32)
    y, _, variance, _ = cudnn.normalize(*gpu.send(x, np.ones(3, 'f'), np.ones(3, 'f')), EPS)
    assert (gpu.fetch(variance) == 0).all()
    np.testing.assert_allclose(gpu.fetch(y), 1, atol=1e-4)


@pytest.mark.parametrize(
    'shape', [(8, 64, 112, 112), (5, 3, 7, 6), (2, 300, 9, 8), (1, 4, 3, 3)], ids=str
)
@pytest.mark.parametrize('window', [(3, 2, 1), (2, 2, 0), (3, 1, 1), (3, 2, 0, True)], ids=str)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_max_pooling_and_its_gradient(shape, window, precision):
    # Few different numbers, all below zero: equal ones in a window, and padding is not the largest.
    x, wide_x = images(precision, -np.random.default_rng(0).integers(1, 9, shape).astype('f'))
    wide_x = chainer.Variable(wide_x)
    exact = F.max_pooling_2d(wide_x, *window[:3], cover_all=len(window) > 3)
    (gy,) = gpu.draw(1, exact.shape)
    gy, exact.grad, scale = scaled(precision, gy)
    exact.backward()
    gpu.poison(exact.shape, x.dtype)
    y, places = cudnn.max_pooling(x, *window)
    gpu.poison(shape, x.dtype)
    gx = cudnn.max_pooling_gradient(shape, places, gy, *window)
    np.testing.assert_array_equal(gpu.fetch(y), exact.array)
    assert gpu.error(gx, wide_x.grad * scale) < {'float32': 1e-6, 'float16': 1e-3}[precision]
    assert lies_channel_last(y)
    assert lies_channel_last(gx)


@pytest.mark.parametrize('precision', ['strict_float32', 'float16'])
def test_a_net_of_the_layers_of_resnet_50_is_that_of_float64(precision):
    exact = bottleneck.run(bottleneck.slow, 'd')
    features = bottleneck.Net.features
    if precision == 'float16':
        features = bottleneck.features_in(precision)
    with backends.using_tensor_cores('never' if precision == 'strict_float32' else 'auto'):
        found = bottleneck.run(features, device=gpu.DEVICE)
    for name, actual in found.items():
        # The bias before a normalisation by the batch has no gradient: rounding is all there is.
        if name != '/stem/b':
            assert actual.dtype == np.float32
            # Rounding turns some ReLUs on and off, and deep below that is much of a gradient.
            bound = 1e-3 if precision != 'float16' else 0.01 if name in ('y', '/fc/b') else 0.3
            assert bottleneck.distance(actual, exact[name]) < bound, name


@pytest.mark.parametrize('shape', IMAGES, ids=str)
def test_a_conversion_rounds_to_the_nearest_and_changes_the_layout(shape):
    (x,) = gpu.draw(0, shape)
    every_other = gpu.send(np.repeat(x, 2, axis=3))[..., ::2]
    for layout in (gpu.send(x), every_other, gpu.send(x).transpose(3, 1, 0, 2)):
        half = cudnn.convert(layout, np.float16)
        rounded = gpu.fetch(layout).astype(np.float16)
        np.testing.assert_array_equal(gpu.fetch(half), rounded)
        assert half.dtype == np.float16
        assert lies_channel_last(half)
        back = gpu.fetch(cudnn.convert(half, np.float32))
        np.testing.assert_array_equal(back, rounded.astype(np.float32))
    assert cudnn.convert(half, np.float16) is half


def test_the_gradient_of_an_image_leaves_float16_at_its_own_size():
    gx, wide_gx = images('float16', gpu.draw(0, (2, 5, 3, 3))[0])
    found = gpu.fetch(cudnn.convert_gradient(gx, np.float32))
    np.testing.assert_array_equal(found, wide_gx / cudnn.SCALE[gx.dtype])


@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_a_sum_is_made_in_place_only_where_nobody_else_looks(precision):
    x, y, wide_x, wide_y = images(precision, *gpu.draw(6, (5, 3, 7, 6), (5, 3, 7, 6)))
    x, bound = cudnn.add(x, 0 * x), {'float32': 1e-6, 'float16': 1e-3}[precision]
    assert gpu.error(cudnn.accumulate(x, y, gy=x), wide_x + wide_y) < bound
    np.testing.assert_array_equal(gpu.fetch(x), wide_x)
    assert cudnn.accumulate(x, y, gy=None) is x
    assert gpu.error(x, wide_x + wide_y) < bound


@pytest.mark.parametrize('shape', IMAGES, ids=str)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_average_and_sum_and_their_gradients(shape, precision):
    bound = {'float32': 1e-5, 'float16': 1e-3}[precision]
    x, other = gpu.draw(6, shape, shape)
    (gy,) = gpu.draw(7, shape[:2])
    x, other, wide_x, wide_other = images(precision, x, other)
    assert gpu.error(cudnn.average(x), wide_x.mean(axis=(2, 3))) < bound
    gx = cudnn.average_gradient(shape, x.dtype, gpu.send(gy))
    pixels = shape[2] * shape[3]
    exact = np.broadcast_to(gy[:, :, None, None] / pixels * cudnn.SCALE[x.dtype], shape)
    assert gpu.error(gx, exact) < bound
    assert gpu.error(cudnn.add(x, other), wide_x + wide_other) < bound
    assert gpu.error(cudnn.accumulate(x, other, x), wide_x + wide_other) < bound


@pytest.mark.parametrize(('n', 'i', 'o'), [(128, 128, 10), (1, 1, 1), (57, 4, 3), (2500, 128, 10)])
def test_the_last_layer_and_its_gradients(n, i, o):
    x, W, b, gy = gpu.draw(8, (n, i), (o, i), (o,), (n, o))
    wide = [array.astype(np.float64) for array in (x, W, b, gy)]
    x, W, b, gy = gpu.send(x, W, b, gy)
    assert gpu.error(cudnn.linear(x, W, b), wide[0] @ wide[1].T + wide[2]) < 1e-5
    assert gpu.error(cudnn.linear_gradient_x(W, gy), wide[3] @ wide[1]) < 1e-5
    gW, gb = cudnn.linear_gradient_W(x, gy)
    assert gpu.error(gW, wide[3].T @ wide[0]) < 1e-5
    assert gpu.error(gb, wide[3].sum(axis=0)) < 1e-5


@pytest.mark.parametrize(('c', 'size', 'pad'), [(3, 32, 4), (1, 28, 0), (3, 5, 2)])
def test_augmentation_is_that_of_the_cpu(c, size, pad):
    generator = np.random.default_rng(9)
    images = generator.integers(256, size=(40, c, size, size), dtype=np.uint8)
    mean = generator.random((c, size, size), np.float32)
    choices = (
        generator.integers(40, size=24, dtype=np.int32),
        numpys.crops(generator, (24,), 2 * pad),
        numpys.flips(generator, (24,)),
    )
    exact = numpys.augment(images, mean, *choices, pad)
    actual = cudnn.augment(*gpu.send(images, mean, *choices), pad)
    np.testing.assert_array_equal(gpu.fetch(actual), exact)
    assert lies_channel_last(actual)


def labels_and_outputs(b, c):
    """Returns soft labels, many of them with zeros, and logarithms of outputs."""
    generator = np.random.default_rng(10)
    y = generator.dirichlet(np.full(c, 0.5), b)
    y[1::3] = np.eye(c)[generator.integers(c, size=len(y[1::3]))]
    return y.astype(np.float32), np.log(generator.dirichlet(np.ones(c), b)).astype(np.float32)


@pytest.mark.parametrize('shape', ROWS, ids=str)
def test_log_softmax_and_its_gradient(shape):
    x, gy = gpu.draw(11, shape, shape)
    found = []
    for sent in (gpu.send(x, gy), (x.astype(np.float64), gy.astype(np.float64))):
        variable = chainer.Variable(sent[0])
        y = log_softmax(10 * variable)
        y.grad = sent[1]
        y.backward()
        found.append((y.array, variable.grad))
    for actual, exact in zip(*found, strict=True):
        assert gpu.error(actual, exact) < 1e-5


@pytest.mark.parametrize('shape', ROWS, ids=str)
@pytest.mark.parametrize('name', LOSSES)
def test_a_loss_and_its_gradient(name, shape):
    y, log_f = labels_and_outputs(*shape)
    found = []
    for sent in (gpu.send(y, log_f), (y.astype(np.float64), log_f.astype(np.float64))):
        variable = chainer.Variable(sent[1])
        gpu.poison(shape)
        loss = LOSSES[name](sent[0], variable)
        (3 * loss).backward()
        found.append((loss.array, variable.grad))
    for actual, exact in zip(*found, strict=True):
        assert gpu.error(actual, exact) < 1e-5


def test_a_class_that_no_output_has_hurts_only_the_loss_that_looks_at_it():
    y, log_f = gpu.send(np.eye(2, dtype='f')[[0, 0]], np.array([[0, -200], [0, -300]], 'f'))
    loss, f_sums = cudnn.joint_loss(y, log_f, 0, 0, True)
    gx = cudnn.joint_loss_gradient(y, log_f, 0, 0, f_sums, gpu.send(np.ones((), 'f')))
    assert gpu.fetch(loss) == 0
    np.testing.assert_array_equal(gpu.fetch(gx), -gpu.fetch(y) / 2)
    assert gpu.fetch(cudnn.joint_loss(y, log_f, 1, 0, True)[0]) == np.inf


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('shape', [(128, 3, 32, 32), (57, 1, 28, 28), (5,), *ROWS], ids=str)
def test_a_mixture_of_images_or_labels(shape, per):
    (v,), generator = gpu.draw(12, shape), np.random.default_rng(13)
    partner = generator.permutation(len(v)).astype(np.int32)
    lam = generator.random(() if per == 'batch' else len(v), np.float32)
    lam = np.asarray(lam)
    exact = losses.mix_up(v.astype(np.float64), partner, lam.astype(np.float64))
    mixed = losses.mix_up(*gpu.send(v, partner, lam))
    assert gpu.error(mixed, exact) < 1e-6
    assert v.ndim < 4 or mixed.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize('shape', ROWS, ids=str)
def test_the_sums_and_the_past_outputs_of_a_step(shape):
    (y, log_f), generator = labels_and_outputs(*shape), np.random.default_rng(14)
    y[2::5] = 0  # The first of equal numbers is the largest.
    index = generator.integers(2 * len(y), size=len(y), dtype=np.int32)
    turn = generator.integers(5, size=len(y), dtype=np.int32)
    found = []
    for device in (gpu.DEVICE, '@numpy'):
        device = chainer.get_device(device)
        store = LabelStore(np.zeros(2 * len(y), int), shape[1], window=3)
        store.to_device(device)
        sums, *sent = device.send((np.zeros(3), np.array(0.3, 'f'), log_f, y, index, turn))
        epoch_sums.add(sums, chainer.Variable(sent[0]), chainer.Variable(sent[1]), sent[2])
        store.record(sent[1], *sent[3:])
        found.append([gpu.fetch(array) for array in (sums, store.past.history)])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    np.testing.assert_array_equal(found[0][1], found[1][1])
