"""The functions of the cuDNN backend against Chainer's own on NumPy's float64."""

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
    (56, 1, 28, 28, 4, 3, 2), (5, 3, 7, 6, 4, 3, 1), (1, 4, 9, 9, 8, 3, 2), (3, 5, 6, 7, 9, 1, 1),
]  # fmt: skip
IMAGES = [
    (8, 32, 32, 32), (128, 64, 16, 16), (8, 128, 8, 8), (5, 3, 7, 6), (1, 4, 1, 2), (3, 1, 5, 5),
    (2, 300, 3, 3),
]  # fmt: skip
ROWS = [(1, 2), (57, 10), (128, 10), (1000, 10), (1000, 2)]
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


@pytest.mark.parametrize('case', CONVOLUTIONS, ids=str)
def test_convolution_and_its_gradients(case, precision):
    n, i, h, w, o, k, stride = case
    x, W = gpu.draw(0, (n, i, h, w), (o, i, k, k))
    (x, wide_x), W_gpu, pad = images(precision, x), gpu.send(W), k // 2
    wide_W = chainer.Variable(W.astype(np.float64))
    wide_x = chainer.Variable(wide_x)
    exact = F.convolution_2d(wide_x, wide_W, stride=stride, pad=pad)
    gy, residual = gpu.draw(1, exact.shape, exact.shape)
    gy, exact.grad, scale = scaled(precision, gy / n)
    residual, wide_residual = images(precision, residual)
    exact.backward()

    gpu.poison(exact.shape, x.dtype)
    y = cudnn.convolution(x, W_gpu, stride, pad)
    plus = cudnn.convolution(x, W_gpu, stride, pad, residual)
    gpu.poison(x.shape, x.dtype)
    gx = cudnn.convolution_gradient_x(x.shape, W_gpu, gy, stride, pad)
    gW = cudnn.convolution_gradient_W(x, W.shape, gy, stride, pad)
    bound = PRECISIONS[precision]
    assert gpu.error(y, exact.array) < bound
    assert gpu.error(plus, exact.array + wide_residual) < bound
    assert gpu.error(gx, wide_x.grad * scale) < bound
    assert gpu.error(gW, wide_W.grad) < bound
    assert gW.dtype == np.float32


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


@pytest.mark.parametrize('shape', IMAGES, ids=str)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_batch_normalization_with_relu_and_its_gradients(shape, precision):
    c, bound = shape[1], {'float32': 1e-4, 'float16': 4e-3}[precision]
    x, gy = gpu.draw(2, shape, shape)
    gamma, beta, mean, variance = gpu.draw(3, *[(c,)] * 4)
    variance = variance**2 + 0.5
    x, wide_x = images(precision, 2 * x + 1)
    wide = [chainer.Variable(v.astype(np.float64)) for v in (wide_x, gamma, beta)]
    running = [v.astype(np.float64) for v in (mean, variance)]
    normalized = F.batch_normalization(
        *wide, eps=EPS, running_mean=running[0], running_var=running[1]
    )
    exact = F.relu(normalized)
    gy, exact.grad, scale = scaled(precision, away_from_zero(normalized) * gy / len(x))
    exact.backward()

    gamma, beta, mean, variance = gpu.send(gamma, beta, mean, variance)
    gpu.poison(shape, x.dtype)
    y, m, v, signs = cudnn.normalize_relu(x, gamma, beta, EPS, (mean, variance, 0.9))
    gradients = cudnn.normalize_relu_gradients(x, gamma, m, v, signs, gy, EPS, False)
    assert gpu.error(y, exact.array) < bound
    assert gpu.error(mean, running[0]) < 1e-5
    assert gpu.error(variance, running[1]) < 1e-5
    assert gpu.error(m, wide_x.mean(axis=(0, 2, 3))) < 1e-5
    if wide_x.size > 4 * c:  # Of two numbers, normalised, the gradients cancel.
        for actual, one, times in zip(gradients, wide, (scale, 1, 1), strict=True):
            assert gpu.error(actual, one.grad * times) < bound


@pytest.mark.parametrize('shape', IMAGES, ids=str)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_batch_normalization_by_fixed_statistics_and_its_gradients(shape, precision):
    bound = {'float32': 1e-5, 'float16': 2e-3}[precision]
    x, gy = gpu.draw(4, shape, shape)
    vectors = gpu.draw(5, *[(shape[1],)] * 4)
    vectors[3] = vectors[3] ** 2 + 0.5
    x, wide_x = images(precision, x)
    wide = [chainer.Variable(v.astype(np.float64)) for v in (wide_x, *vectors)]
    normalized = F.fixed_batch_normalization(*wide, eps=EPS)
    exact = F.relu(normalized)
    gy, exact.grad, scale = scaled(precision, away_from_zero(normalized) * gy)
    exact.backward()

    gamma, beta, mean, variance = gpu.send(*vectors)
    gpu.poison(shape, x.dtype)
    y, signs = cudnn.normalize_relu_fixed(x, gamma, beta, mean, variance, EPS, True)
    found = cudnn.normalize_relu_gradients(x, gamma, mean, variance, signs, gy, EPS, True)
    assert gpu.error(y, exact.array) < bound
    for actual, one, times in zip(found, wide[:3], (scale, 1, 1), strict=True):
        assert gpu.error(actual, one.grad * times) < bound


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
    # The GPU may multiply and subtract in one rounding.
    np.testing.assert_allclose(gpu.fetch(actual), exact, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('shape', [(128, 3, 32, 32), (57, 1, 28, 28), *ROWS], ids=str)
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
