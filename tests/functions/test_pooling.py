import chainer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainer_jo import backends
from chainer_jo.backends.shapes import output_shape
from chainer_jo.functions.pooling import global_average_pooling, max_pooling_2d


@pytest.mark.parametrize('shape', [(1, 1, 1, 1), (3, 5, 7, 4), (2, 128, 8, 8), (17, 16, 1, 3)])
@pytest.mark.parametrize('backend', ['auto', 'chainer'])
def test_it_is_the_mean_of_each_channel_and_spreads_the_gradient(backend, shape):
    backends.use(backend)
    rng = np.random.default_rng(0)
    x, gy = (rng.normal(size=s).astype(np.float32) for s in (shape, shape[:2]))
    x_ = chainer.Variable(x)
    y = global_average_pooling(x_)
    y.grad = gy
    y.backward()
    np.testing.assert_allclose(y.array, x.astype(np.float64).mean(axis=(2, 3)), atol=1e-6)
    expected = np.empty(shape)
    for place in np.ndindex(*shape):
        expected[place] = gy[place[:2]] / (shape[2] * shape[3])
    np.testing.assert_allclose(x_.grad, expected, rtol=1e-6)


def largest_by_loops(x, gy, k, stride, pad):
    """Returns the largest number of each window, and every gradient at the first place of it."""
    y, gx = np.empty(gy.shape), np.zeros(x.shape)
    for place in np.ndindex(*gy.shape):
        n, c, oh, ow = place
        window = [
            (h, w)
            for h in range(oh * stride - pad, oh * stride - pad + k)
            for w in range(ow * stride - pad, ow * stride - pad + k)
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]
        ]
        h, w = max(window, key=lambda at: x[n, c, at[0], at[1]])
        y[place] = x[n, c, h, w]
        gx[n, c, h, w] += gy[place]
    return y, gx


@pytest.mark.parametrize('backend', ['auto', 'chainer'])
@settings(max_examples=60)
@given(
    shape=st.tuples(
        st.integers(1, 3), st.sampled_from([1, 5, 16, 64]), st.integers(3, 9), st.integers(3, 9)
    ),
    window=st.sampled_from(
        [
            (3, 2, 1),
            (3, 2, 0),
            (2, 2, 0),
            (3, 1, 1),
            (2, 3, 1),
            (3, 2, 0, True),
            (2, 2, 0, True),
        ]
    ),
    seed=st.integers(0, 99),
)
def test_the_largest_of_each_window_and_its_gradient_are_those_of_loops(
    backend, shape, window, seed
):
    backends.use(backend)
    rng, (k, *others) = np.random.default_rng(seed), window
    # Few different numbers, all below zero: equal ones in a window, and padding is not the largest.
    x = -rng.integers(1, 9, shape).astype('f')
    y_shape = output_shape(shape, (shape[1], 0, k, k), *others)
    gy = rng.normal(size=y_shape).astype('f')
    x_ = chainer.Variable(x)
    y = max_pooling_2d(x_, *window)
    y.grad = gy
    y.backward()
    exact_y, exact_gx = largest_by_loops(x, gy, *window[:3])
    np.testing.assert_array_equal(y.array, exact_y)
    np.testing.assert_allclose(x_.grad, exact_gx, atol=1e-5)
