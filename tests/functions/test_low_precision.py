import os
import subprocess
import sys
from pathlib import Path

import chainer
import chainer.functions as F
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from steps import train

from chainer_jo import backends
from chainer_jo.backends import onednn
from chainer_jo.errors import ConfigError
from chainer_jo.functions.low_precision import in_low_precision
from chainer_jo.links.preact_resnet import PreActResNet

EPS = 2.0**-8  # of bfloat16


@pytest.fixture(scope='module')
def bfloat16(onednn_loaded):
    """Skips a test on a processor without bfloat16."""
    try:
        backends.check_precision('bfloat16')
    except ConfigError as error:
        pytest.skip(error.seen)


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def rounded(x):
    """The nearest bfloat16, ties to even, as float32: by hand, on the bits."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    odd = (bits >> 16) & 1
    return ((bits + 0x7FFF + odd) & 0xFFFF0000).view(np.float32)


def to_bfloat16(x):
    return onednn.convert(x, onednn.BFLOAT16)


def from_bfloat16(x):
    assert x.dtype == onednn.BFLOAT16
    return (x['bfloat16'].astype(np.uint32) << 16).view(np.float32)


def padded(x, pad):
    return np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def convolve_by_loops(x, W, stride, pad):
    x, k = padded(x, pad), W.shape[2]
    size = [(s - k) // stride + 1 for s in x.shape[2:]]
    y = np.empty((len(x), len(W), *size))
    for i, j in np.ndindex(*size):
        window = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
        y[:, :, i, j] = np.einsum('nihw,oihw->no', window, W.astype(np.float64))
    return y


def gradients_by_loops(x, W, gy, stride, pad):
    k, gy = W.shape[2], gy.astype(np.float64)
    x_padded = padded(x, pad)
    gx, gW = np.zeros_like(x_padded), np.zeros(W.shape)
    for i, j in np.ndindex(gy.shape[2:]):
        place = np.s_[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
        gx[place] += np.einsum('no,oihw->nihw', gy[:, :, i, j], W.astype(np.float64))
        gW += np.einsum('no,nihw->oihw', gy[:, :, i, j], x_padded[place])
    return gx[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]], gW


def assert_rounded(actual, exact, magnitude, ulp=EPS):
    """``magnitude`` bounds the float32 sum before it is rounded to ``ulp``."""
    assert (np.abs(actual - exact) <= ulp * np.abs(exact) + 1e-5 * magnitude).all()


@pytest.mark.usefixtures('bfloat16')
class TestPrimitives:
    def test_a_float32_is_rounded_to_the_nearest_and_back_exactly(self):
        (x,) = draw(0, (3, 5, 7, 4))
        x[0, 0, 0] = [1 + EPS / 2, 1 + 3 * EPS / 2, -0.0, 1e38]
        y = to_bfloat16(x)
        np.testing.assert_array_equal(from_bfloat16(y), rounded(x))
        np.testing.assert_array_equal(onednn.convert(y, onednn.FLOAT32), rounded(x))

    @settings(max_examples=40)
    @given(
        n=st.integers(1, 4),
        i=st.sampled_from([1, 3, 5, 16, 17, 32]),
        o=st.sampled_from([1, 2, 16, 31, 32]),
        size=st.tuples(st.integers(3, 10), st.integers(3, 10)),
        kernel=st.sampled_from([(1, 0), (3, 0), (3, 1), (7, 3)]),
        stride=st.sampled_from([1, 2]),
        more=st.tuples(st.booleans(), st.booleans()),
    )
    def test_a_convolution_equals_loops_in_float64(self, n, i, o, size, kernel, stride, more):
        (k, pad), (with_residual, with_bias) = kernel, more
        x, W = map(rounded, draw(0, (n, i, *size), (o, i, k, k)))
        exact, magnitude = (convolve_by_loops(*a, stride, pad) for a in ((x, W), (abs(x), abs(W))))
        residual, gy = map(rounded, draw(1, exact.shape, exact.shape))
        (b,) = draw(2, (o,))
        extra = {'residual': to_bfloat16(residual)} if with_residual else {}
        extra |= {'b': b} if with_bias else {}
        y = onednn.convolution(to_bfloat16(x), W, stride, pad, **extra)
        if with_residual:
            exact, magnitude = exact + residual, magnitude + abs(residual)
        if with_bias:
            exact, magnitude = exact + b[:, None, None], magnitude + abs(b)[:, None, None]
        assert_rounded(from_bfloat16(y), exact, magnitude)

        gx, gW = gradients_by_loops(x, W, gy, stride, pad)
        magnitudes = gradients_by_loops(abs(x), abs(W), abs(gy), stride, pad)
        window = (to_bfloat16(gy), stride, pad)
        actual = onednn.convolution_gradient_x(x.shape, W, *window)
        assert_rounded(from_bfloat16(actual), gx, magnitudes[0])
        actual = onednn.convolution_gradient_W(to_bfloat16(x), W.shape, *window)
        assert actual.dtype == np.float32
        assert_rounded(actual, gW, magnitudes[1], ulp=0)
        actual = onednn.bias_gradient(to_bfloat16(gy))
        sums = gy.sum(axis=(0, 2, 3), dtype=np.float64), abs(gy).sum(axis=(0, 2, 3))
        assert_rounded(actual, *sums, ulp=0)

    @settings(max_examples=30)
    @given(
        shape=st.tuples(
            st.integers(1, 5), st.sampled_from([1, 5, 16, 17, 32]), st.integers(2, 9),
            st.integers(2, 9),
        ),
        fixed=st.booleans(),
        relu=st.booleans(),
    )  # fmt: skip
    def test_batch_normalisation_equals_float32_on_the_rounded_arrays(self, shape, fixed, relu):
        x, gy, gamma, beta, mean = draw(0, shape, shape, *[shape[1:2]] * 3)
        x, gy, variance = rounded(x), rounded(gy), mean**2 + 0.1
        kept = {}
        for name, cast in (('bfloat16', to_bfloat16), ('float32', lambda x: x)):
            given = cast(x), gamma, beta
            if fixed:
                y, signs = onednn.normalize_fixed(*given, mean, variance, 1e-5, True, relu)
                statistics = mean, variance
            else:
                y, *statistics, signs = onednn.normalize(*given, 1e-5, relu=relu)
            saved = (given[0], gamma, *statistics, signs, cast(gy), 1e-5, fixed, relu)
            kept[name] = (y, *statistics, *onednn.normalize_gradients(*saved)[:3])
        y, mean, variance, gx, ggamma, gbeta = kept['bfloat16']
        actual = (from_bfloat16(y), mean, variance, from_bfloat16(gx), ggamma, gbeta)
        for array, expected in zip(actual, kept['float32'], strict=True):
            scale = max(1, abs(expected).max())
            np.testing.assert_allclose(array, expected, rtol=EPS, atol=1e-4 * scale)

    @pytest.mark.parametrize('relu', [False, True])
    @pytest.mark.parametrize('shape', [(3, 17, 5, 4), (2, 32, 7, 7)])
    def test_a_residual_is_added_and_its_gradient_is_let_through_where_the_sum_is_positive(
        self, shape, relu
    ):
        x, residual, gy, gamma, beta = draw(0, *[shape] * 3, *[shape[1:2]] * 2)
        x, residual, gy = map(to_bfloat16, (x, residual, gy))
        plain, mean, variance, _ = onednn.normalize(x, gamma, beta, 1e-5)
        y, *_, kept = onednn.normalize(x, gamma, beta, 1e-5, None, relu, residual)
        expected = rounded(from_bfloat16(plain) + from_bfloat16(residual))
        expected = np.maximum(expected, 0) if relu else expected
        np.testing.assert_array_equal(from_bfloat16(y), expected)
        saved = (x, gamma, mean, variance)
        *found, of_residual = onednn.normalize_gradients(*saved, kept, gy, 1e-5, False, relu, True)
        passed = np.where(expected > 0, from_bfloat16(gy), 0) if relu else from_bfloat16(gy)
        np.testing.assert_array_equal(from_bfloat16(of_residual), passed)
        exact = onednn.normalize_gradients(*saved, None, to_bfloat16(passed), 1e-5, False)
        for actual, wanted in zip(found, exact[:3], strict=True):
            np.testing.assert_array_equal(actual, wanted)

    def test_the_largest_of_a_window_is_that_of_float32_and_its_gradient_is_rounded(self):
        x, gy = draw(0, (2, 17, 9, 8), (2, 17, 5, 4))
        x, gy = rounded(x), rounded(gy)
        y, places = onednn.max_pooling(to_bfloat16(x), 3, 2, 1)
        expected, wide = onednn.max_pooling(x, 3, 2, 1)
        np.testing.assert_array_equal(from_bfloat16(y), expected)
        gx = onednn.max_pooling_gradient(x.shape, places, to_bfloat16(gy), 3, 2, 1)
        exact = onednn.max_pooling_gradient(x.shape, wide, gy, 3, 2, 1)
        np.testing.assert_allclose(from_bfloat16(gx), exact, rtol=2 * EPS, atol=EPS)

    def test_the_average_is_float32_and_its_gradient_bfloat16(self):
        x, gy = draw(0, (2, 17, 8, 8), (2, 17))
        y = onednn.average(to_bfloat16(x))
        np.testing.assert_allclose(y, rounded(x).mean(axis=(2, 3)), atol=1e-6)
        gx = from_bfloat16(onednn.average_gradient(x.shape, onednn.BFLOAT16, gy))
        np.testing.assert_array_equal(
            gx, np.broadcast_to(rounded(gy / 64)[..., None, None], x.shape)
        )

    def test_a_sum_is_rounded_once_and_made_in_place_only_where_nobody_else_looks(self):
        x, y = map(to_bfloat16, draw(0, (2, 5, 3, 3), (2, 5, 3, 3)))
        expected = rounded(from_bfloat16(x) + from_bfloat16(y))
        kept = x.copy(order='K')
        total = onednn.accumulate(x, y, gy=x)
        np.testing.assert_array_equal(from_bfloat16(total), expected)
        np.testing.assert_array_equal(x, kept)
        assert onednn.accumulate(x, y, gy=None) is x
        np.testing.assert_array_equal(from_bfloat16(x), expected)

    def test_numpy_does_not_compute_with_it_by_mistake(self):
        x = to_bfloat16(draw(0, (1, 1, 2, 2))[0])
        with pytest.raises(TypeError):
            x + x


@pytest.mark.usefixtures('onednn_loaded')
class TestWideRows:
    @settings(max_examples=60)
    @given(
        n=st.sampled_from([1, 2, 3, 6, 16, 32, 48]),
        size=st.tuples(st.integers(3, 6), st.integers(3, 18)),
        kernel=st.sampled_from([(1, 0), (1, 1), (2, 1), (3, 0), (3, 1), (5, 2)]),
        stride=st.sampled_from([1, 2, 3]),
    )
    def test_they_have_the_same_gradient_of_W(self, n, size, kernel, stride):
        k, pad = kernel
        assume(min(size) + 2 * pad >= k)
        (x,) = map(np.rint, draw(0, (n, 2, *size)))
        (gy,) = map(
            np.rint, draw(1, convolve_by_loops(x, np.ones((3, 2, k, k)), stride, pad).shape)
        )
        shape = (3, 2, k, k)
        wide = onednn._in_wide_rows(to_bfloat16(x), to_bfloat16(gy), shape, stride, pad)
        assert all(onednn._lies_channel_last(array) for array in wide)
        wide = [from_bfloat16(array) for array in wide]
        # Sums of small integers: equal to the last bit, in any order.
        expected = gradients_by_loops(x, np.ones(shape), gy, stride, pad)[1]
        actual = gradients_by_loops(wide[0], np.ones(shape), wide[1], stride, pad)[1]
        np.testing.assert_array_equal(actual, expected)

    @pytest.mark.parametrize(
        ('side', 'W_shape', 'stride', 'rows'),
        [
            (8, (3, 2, 3, 3), 1, ((2, 2, 8, 144), (2, 3, 8, 144))),
            (16, (3, 2, 3, 3), 1, ((2, 2, 16, 272), (2, 3, 16, 272))),
            (16, (3, 2, 3, 3), 2, ((2, 2, 16, 288), (2, 3, 8, 144))),
            (17, (3, 2, 3, 3), 1, ((32, 2, 17, 17), (32, 3, 17, 17))),
            (9, (3, 2, 1, 1), 1, ((2, 2, 1, 1296), (2, 3, 1, 1296))),
        ],
    )
    def test_narrow_rows_and_1x1_convolutions_get_them(self, side, W_shape, stride, rows):
        pad = W_shape[2] // 2
        x, gy = draw(0, (32, 2, side, side), (32, 3, side // stride, side // stride))
        wide = onednn._in_wide_rows(to_bfloat16(x), to_bfloat16(gy), W_shape, stride, pad)
        assert tuple(array.shape for array in wide) == rows


def small_net(precision, seed=0):
    rng = np.random.default_rng(seed)
    return PreActResNet(3, 10, (8, 8, 16, 32), (2, 1, 2), precision=precision, rng=rng)


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def gradients(net, *images):
    labels = [np.arange(len(x), dtype=np.int32) % 10 for x in images]
    loss = sum(F.softmax_cross_entropy(net(x), t) for x, t in zip(images, labels, strict=True))
    net.cleargrads()
    loss.backward()
    return float(loss.array), {name: param.grad for name, param in net.namedparams()}


def steps(precision, count=10):
    """Trains on one batch, so that the loss shows whether the gradients are any good."""
    net, (x,) = small_net(precision), draw(0, (32, 3, 12, 12))
    t = np.arange(32, dtype=np.int32) % 10
    optimizer = chainer.optimizers.MomentumSGD(0.05).setup(net)
    return train(net, optimizer, [(x, t)] * count), net


def state(net):
    serializer = chainer.serializers.DictionarySerializer()
    serializer.save(net)
    return serializer.target


@pytest.mark.usefixtures('bfloat16')
class TestNet:
    def test_outputs_and_gradients_are_those_of_float32_up_to_rounding(self):
        x, mixed = draw(0, (32, 3, 12, 12), (32, 3, 12, 12))
        loss, actual = gradients(small_net('bfloat16'), x, mixed)
        reference_loss, expected = gradients(small_net('float32'), x, mixed)
        assert loss == pytest.approx(reference_loss, rel=0.01)
        for name, grad in actual.items():
            assert grad.dtype == np.float32
            # Rounding turns some ReLUs on and off, and deep below that is much of a gradient.
            assert cosine(grad, expected[name]) > 0.8, name
        assert cosine(actual['/fc/W'], expected['/fc/W']) > 0.999

    def test_the_gradient_of_the_images_is_there_for_who_asks(self):
        images = {}
        for precision in ('bfloat16', 'float32'):
            x = chainer.Variable(draw(0, (4, 3, 12, 12))[0])
            F.sum(small_net(precision)(x) ** 2).backward()
            images[precision] = x.grad
        assert images['bfloat16'].dtype == np.float32
        assert cosine(images['bfloat16'], images['float32']) > 0.8

    def test_ten_steps_of_training_have_the_losses_of_float32(self):
        losses, _ = steps('bfloat16')
        expected, _ = steps('float32')
        assert expected[-1] < 0.7 * expected[0]
        np.testing.assert_allclose(losses, expected, rtol=0.03)

    def test_what_is_saved_is_float32_under_the_same_names(self):
        (_, net), (_, reference) = steps('bfloat16', 1), steps('float32', 1)
        kinds, expected = ({k: v.dtype for k, v in state(n).items() if k[-2:] != '/N'}
                           for n in (net, reference))  # fmt: skip
        assert kinds == expected
        assert set(kinds.values()) == {np.dtype(np.float32)}

    def test_training_is_the_same_bit_for_bit_on_every_run(self):
        (losses, net), (again, other) = steps('bfloat16', 3), steps('bfloat16', 3)
        assert losses == again
        expected = state(other)
        for name, array in state(net).items():
            np.testing.assert_array_equal(array, expected[name])

    def test_testing_uses_the_running_statistics_and_keeps_no_activations(self):
        net, (x,) = small_net('bfloat16'), draw(0, (4, 3, 12, 12))
        gradients(net, x)
        before = net.bn.avg_mean.copy()
        with chainer.using_config('train', False):
            expected = net(x)
            with chainer.no_backprop_mode():
                actual = net(x)
        np.testing.assert_array_equal(actual.array, expected.array)
        np.testing.assert_array_equal(net.bn.avg_mean, before)
        assert actual.creator is None

    def test_memory_of_activations_is_free_again_after_the_gradients(self):
        net, (x,) = small_net('bfloat16'), draw(0, (4, 3, 12, 12))
        gradients(net, x)
        before = onednn.pool._used_bytes
        gradients(net, x)
        assert onednn.pool._used_bytes == before

    def test_gradients_are_given_once(self):
        y = F.sum(small_net('bfloat16')(draw(0, (4, 3, 12, 12))[0]))
        y.backward()
        with pytest.raises(RuntimeError, match='once'):
            y.backward()

    def test_a_second_derivative_is_refused(self):
        y = F.sum(small_net('bfloat16')(draw(0, (4, 3, 12, 12))[0]))
        with pytest.raises(NotImplementedError, match='no second derivative'):
            y.backward(enable_double_backprop=True)


class TestRefusal:
    def test_the_reference_has_no_bfloat16(self):
        backends.use('chainer')
        with pytest.raises(ConfigError, match='bfloat16 cannot be used here') as raised:
            small_net('bfloat16')
        assert 'the backend is chainer' in raised.value.seen
        assert raised.value.fix == "choose precision='float32'"

    @pytest.mark.usefixtures('bfloat16')
    def test_arrays_that_onednn_does_not_take_are_refused(self):
        with pytest.raises(ConfigError, match='bfloat16 cannot be used here'):
            in_low_precision('bfloat16', lambda x: x, np.zeros((1, 1, 2, 2), np.float64), ())

    @pytest.mark.usefixtures('onednn_loaded')
    def test_a_processor_without_it_is_an_error_that_says_so_before_anything_is_written(
        self, tmp_path
    ):
        words = 'train --dataset fashion_mnist --noise none --method cross_entropy'
        done = subprocess.run(
            [sys.executable, '-m', 'chainer_jo', *words.split(), '--precision', 'bf16'],
            cwd=tmp_path,
            env=os.environ
            | {'ONEDNN_MAX_CPU_ISA': 'AVX2', 'PYTHONPATH': str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == ConfigError.exit_code
        assert 'AVX-512-BF16' in done.stderr
        assert 'fix:  choose --precision float32' in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_float32_is_never_refused(self):
        for name in ('chainer', 'auto'):
            backends.use(name)
            backends.check_precision('float32')
