import chainer
import chainer.functions as F
import numpy as np
import pytest
from chainer.utils import type_check
from hypothesis import given, settings
from hypothesis import strategies as st

from chainer_jo import backends
from chainer_jo.functions.convolution import convolution_2d

EPS = np.finfo(np.float32).eps
# In and out, height and width (less than its own), kernel, stride, pad.
RESNET_50 = [
    (3, 64, (33, 32), 7, 2, 3), (64, 64, (9, 9), 1, 1, 0), (64, 256, (7, 7), 1, 1, 0),
    (256, 512, (8, 7), 1, 2, 0), (128, 128, (8, 7), 3, 2, 1), (2048, 512, (2, 2), 1, 1, 0),
]  # fmt: skip


def convolve_by_loops(x, W, stride, pad):
    x, W = padded(x, pad), W.astype(np.float64)
    (o, _, kh, kw), (n, _, h, w) = W.shape, x.shape
    y = np.empty((n, o, (h - kh) // stride + 1, (w - kw) // stride + 1))
    for i, j in np.ndindex(y.shape[2:]):
        window = x[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
        y[:, :, i, j] = np.einsum('nihw,oihw->no', window, W)
    return y


def gradients_by_loops(x, W, gy, stride, pad):
    kh, kw = W.shape[2:]
    x_padded = padded(x, pad)
    gx, gW = np.zeros_like(x_padded), np.zeros(W.shape)
    for i, j in np.ndindex(gy.shape[2:]):
        place = np.s_[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
        gx[place] += np.einsum('no,oihw->nihw', gy[:, :, i, j], W.astype(np.float64))
        gW += np.einsum('no,nihw->oihw', gy[:, :, i, j].astype(np.float64), x_padded[place])
    return gx[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]], gW


def padded(x, pad):
    return np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def assert_equal_up_to_rounding(actual, exact, magnitude):
    """``magnitude`` is the same sum with every term positive: it bounds what rounding can do."""
    assert actual.dtype == np.float32
    assert actual.shape == exact.shape
    assert (np.abs(actual - exact) <= 4 * EPS * magnitude).all()


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def check_against_loops(n, i, o, size, k, stride, pad, with_residual, seed=0, with_bias=False):
    x, W = draw(seed, (n, i, *size), (o, i, k, k))
    exact, magnitude = (convolve_by_loops(*a, stride, pad) for a in ((x, W), (abs(x), abs(W))))
    gy, residual = draw(seed + 1, exact.shape, exact.shape)
    (b,) = draw(seed + 2, (o,))
    x_, W_, residual_ = chainer.Variable(x), chainer.Parameter(W), chainer.Variable(residual)
    b_ = chainer.Parameter(b) if with_bias else None
    y = convolution_2d(x_, W_, stride, pad, residual_ if with_residual else None, b_)
    if with_bias:
        exact, magnitude = exact + b[:, None, None], magnitude + abs(b)[:, None, None]
    if with_residual:
        exact, magnitude = exact + residual, magnitude + abs(residual)
    assert_equal_up_to_rounding(y.array, exact, magnitude)

    y.grad = gy
    y.backward()
    exact = gradients_by_loops(x, W, gy, stride, pad)
    magnitude = gradients_by_loops(abs(x), abs(W), abs(gy), stride, pad)
    assert_equal_up_to_rounding(x_.grad, exact[0], magnitude[0])
    assert_equal_up_to_rounding(W_.grad, exact[1], magnitude[1])
    if with_residual:
        np.testing.assert_array_equal(residual_.grad, gy)
    if with_bias:
        exact, magnitude = (a.sum(axis=(0, 2, 3), dtype=np.float64) for a in (gy, abs(gy)))
        assert_equal_up_to_rounding(b_.grad, exact, magnitude)


@pytest.mark.usefixtures('onednn_loaded')
class TestOnOneDNN:
    @settings(max_examples=80)
    @given(
        n=st.integers(1, 4),
        i=st.sampled_from([1, 3, 5, 8, 16, 17, 32]),
        o=st.sampled_from([1, 2, 5, 16, 31, 32]),
        size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
        kernel=st.sampled_from([(1, 0), (1, 1), (3, 0), (3, 1), (5, 2), (7, 3)]),
        stride=st.sampled_from([1, 2, 3]),
        more=st.tuples(st.booleans(), st.integers(0, 99), st.booleans()),
    )
    def test_it_equals_loops_in_float64(self, n, i, o, size, kernel, stride, more):
        k, pad = kernel
        check_against_loops(n, i, o, size, k, stride, pad, *more)

    @pytest.mark.parametrize('batch', [1, 6, pytest.param(17, marks=pytest.mark.long)])
    @pytest.mark.parametrize(
        'layer',
        [
            (3, 32, (32, 32), 3, 1, 1),
            (32, 32, (32, 32), 3, 1, 1),
            (32, 64, (32, 32), 3, 2, 1),
            (32, 64, (32, 32), 1, 2, 0),
            (64, 64, (16, 16), 3, 1, 1),
            (64, 128, (16, 16), 1, 2, 0),
            (128, 128, (8, 8), 3, 1, 1),
        ],
    )
    def test_the_layers_of_the_papers_net_equal_loops_in_float64(self, batch, layer):
        check_against_loops(batch, *layer, with_residual=layer[0] == layer[1])

    def test_any_layout_in_memory_gives_the_same_result(self):
        x, W = draw(0, (2, 6, 8, 8), (4, 6, 3, 3))
        expected = convolution_2d(x, W, 1, 1).array
        channel_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        every_other = np.repeat(x, 2, axis=3)[..., ::2]
        for layout in (channel_last, every_other):
            np.testing.assert_array_equal(convolution_2d(layout, W, 1, 1).array, expected)
        for layout in (np.asfortranarray(W), np.repeat(W, 2, axis=0)[::2]):
            np.testing.assert_array_equal(convolution_2d(x, layout, 1, 1).array, expected)

    def test_an_input_used_twice_gets_the_sum_of_its_gradients(self):
        x, W, V = draw(0, (2, 4, 6, 6), (4, 4, 3, 3), (4, 4, 1, 1))
        gradients = {}
        for name in ('onednn', 'chainer'):
            backends.use(name)
            x_ = chainer.Variable(x)
            h = convolution_2d(x_, W, 1, 1, x_)
            y = convolution_2d(h, W, 1, 1, convolution_2d(h, V, 1, 0, h))
            F.sum(y * y).backward()
            gradients[name] = x_.grad
        scale = abs(gradients['chainer']).max()
        np.testing.assert_allclose(gradients['onednn'], gradients['chainer'], atol=1e-5 * scale)

    def test_weights_used_twice_get_the_sum_of_their_gradients(self):
        x, other, W = draw(0, (2, 4, 6, 6), (2, 4, 6, 6), (5, 4, 3, 3))
        gradients = {}
        for name in ('onednn', 'chainer'):
            backends.use(name)
            W_ = chainer.Parameter(W)
            F.sum(convolution_2d(x, W_, 1, 1) ** 2 + convolution_2d(other, W_, 1, 1)).backward()
            gradients[name] = W_.grad
        scale = abs(gradients['chainer']).max()
        np.testing.assert_allclose(gradients['onednn'], gradients['chainer'], atol=1e-5 * scale)

    def test_arguments_are_left_as_they_were(self):
        given = draw(0, (2, 4, 6, 6), (4, 4, 3, 3), (2, 4, 6, 6), (2, 4, 6, 6))
        copies = [array.copy() for array in given]
        x, W, residual = map(chainer.Variable, given[:3])
        y = convolution_2d(x, W, 1, 1, residual)
        y.grad = given[3]
        y.backward()
        for array, copy in zip(given, copies, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_a_second_derivative_is_refused(self):
        x, W = map(chainer.Variable, draw(0, (1, 2, 4, 4), (2, 2, 3, 3)))
        y = F.sum(convolution_2d(x, W, 1, 1))
        with pytest.raises(NotImplementedError, match='no second derivative'):
            y.backward(enable_double_backprop=True)

    @pytest.mark.parametrize('shape', [(1, 2, 4, 4), (1, 3, 4), (2, 3, 4, 4)])
    def test_a_residual_or_input_of_the_wrong_shape_is_refused(self, shape):
        x, W, wrong = draw(0, (1, 3, 4, 4), (3, 3, 3, 3), shape)
        with pytest.raises(type_check.InvalidType):
            convolution_2d(x, W, 1, 1, wrong)
        if shape[:2] != (2, 3):
            with pytest.raises(type_check.InvalidType):
                convolution_2d(wrong, W, 1, 1)

    @pytest.mark.parametrize('layer', RESNET_50, ids=str)
    def test_the_layers_of_resnet_50_equal_loops_in_float64(self, layer):
        check_against_loops(2, *layer, with_residual=False, with_bias=layer[3] == 7)


def test_the_reference_adds_the_residual_and_the_bias_too():
    backends.use('chainer')
    check_against_loops(2, 5, 4, (7, 6), 3, 2, 1, with_residual=True, with_bias=True)
