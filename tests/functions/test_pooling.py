import chainer
import numpy as np
import pytest

from chainer_jo import backends
from chainer_jo.functions.pooling import global_average_pooling


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
