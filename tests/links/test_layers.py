"""A bottleneck of ResNet-50, of every layer that this net needs, in every precision."""

import chainer
import chainer.functions as F
import numpy as np
import pytest

from chainer_jo import backends
from chainer_jo.errors import ConfigError
from chainer_jo.functions.low_precision import in_low_precision
from chainer_jo.links.layers import (
    BatchNormalization,
    Convolution2D,
    Linear,
    global_average_pooling,
    max_pooling_2d,
)


class Net(chainer.Chain):
    """A stem with a bias, a bottleneck whose shortcut is projected, and one whose is not."""

    def __init__(self, rng):
        super().__init__()
        with self.init_scope():
            self.stem = Convolution2D(3, 16, 7, 2, 3, nobias=False, rng=rng)
            self.bn = BatchNormalization(16, relu=True)
            self.first, self.second = Bottleneck(16, 8, 2, rng), Bottleneck(32, 8, 1, rng)
            self.fc = Linear(32, 5, initialW=chainer.initializers.LeCunNormal(rng=rng))

    def features(self, x):
        h = max_pooling_2d(self.bn(self.stem(x)), 3, 2, 1)
        return global_average_pooling(self.second(self.first(h)))


class Bottleneck(chainer.Chain):
    def __init__(self, in_channels, width, stride, rng):
        super().__init__()
        out_channels = 4 * width
        with self.init_scope():
            self.conv1 = Convolution2D(in_channels, width, 1, rng=rng)
            self.bn1 = BatchNormalization(width, relu=True)
            self.conv2 = Convolution2D(width, width, 3, stride, rng=rng)
            self.bn2 = BatchNormalization(width, relu=True)
            self.conv3 = Convolution2D(width, out_channels, 1, rng=rng)
            self.bn3 = BatchNormalization(out_channels, relu=True)
            if in_channels != out_channels:
                self.conv4 = Convolution2D(in_channels, out_channels, 1, stride, rng=rng)
                self.bn4 = BatchNormalization(out_channels)

    def forward(self, x):
        shortcut = self.bn4(self.conv4(x)) if hasattr(self, 'conv4') else x
        h = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        return self.bn3(self.conv3(h), shortcut)


def slow(net, x):
    """The features of the net in training, by Chainer's own functions, layer by layer."""

    def conv(link, h):
        return F.convolution_2d(h, link.W, link.b, link.stride, link.W.shape[2] // 2)

    def bn(link, h):
        return F.batch_normalization(h, link.gamma, link.beta, eps=link.eps)

    def bottleneck(link, h):
        shortcut = bn(link.bn4, conv(link.conv4, h)) if hasattr(link, 'conv4') else h
        h = F.relu(bn(link.bn1, conv(link.conv1, h)))
        h = F.relu(bn(link.bn2, conv(link.conv2, h)))
        return F.relu(bn(link.bn3, conv(link.conv3, h)) + shortcut)

    h = F.relu(bn(net.bn, conv(net.stem, x)))
    h = F.max_pooling_2d(h, 3, 2, 1, cover_all=False)
    return F.average(bottleneck(net.second, bottleneck(net.first, h)), axis=(2, 3))


def run(features, dtype='f'):
    """Returns the features and the gradients of the image and of all parameters, by name."""
    rng = np.random.default_rng(0)
    net, x = Net(rng), chainer.Variable(rng.normal(size=(6, 3, 37, 32)).astype(dtype))
    for param in net.params():
        param.array = param.array.astype(dtype)
    # Away from where they begin, where a wrong one would not show.
    for name, param in sorted(net.namedparams()):
        if name.endswith(('gamma', 'beta', 'stem/b')):
            param.array += rng.normal(size=param.shape).astype(dtype) / 4
    net.cleargrads()
    h = features(net, x)
    y = F.linear(h, net.fc.W, net.fc.b) if dtype == 'd' else net.fc(h)
    y.grad = rng.normal(size=y.shape).astype(dtype)
    y.backward()
    found = {'y': y.array, 'x': x.grad}
    return found | {name: param.grad for name, param in net.namedparams()}


@pytest.fixture(scope='module')
def exact():
    return run(slow, 'd')


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-12)


@pytest.mark.parametrize('backend', ['auto', 'chainer'])
def test_results_and_gradients_are_those_of_float64(backend, exact):
    backends.use(backend)
    found = run(Net.features)
    assert set(found) == set(exact)
    for name, actual in found.items():
        # The bias before a normalisation by the batch has no gradient: rounding is all there is.
        if name != '/stem/b':
            assert actual.dtype == np.float32
            assert distance(actual, exact[name]) < 1e-3, name
    assert abs(found['/stem/b']).max() < 1e-4


def test_results_and_gradients_in_bfloat16_are_those_of_float64_up_to_rounding(exact):
    try:
        backends.check_precision('bfloat16')
    except ConfigError as error:
        pytest.skip(error.seen)

    def features(net, x):
        params = [p for name, p in sorted(net.namedparams()) if not name.startswith('/fc')]
        return in_low_precision('bfloat16', net.features, x, params)

    for name, actual in run(features).items():
        if name != '/stem/b':
            assert actual.dtype == np.float32
            # Rounding turns some ReLUs on and off, and deep below that is much of a gradient.
            bound = 0.02 if name in ('y', '/fc/b') else 0.5
            assert distance(actual, exact[name]) < bound, name


def test_padding_is_half_a_window_unless_it_is_named():
    rng = np.random.default_rng(0)
    x = np.zeros((1, 2, 8, 8), 'f')
    assert Convolution2D(2, 3, 5, rng=rng)(x).shape == (1, 3, 8, 8)
    assert Convolution2D(2, 3, 5, pad=0, rng=rng)(x).shape == (1, 3, 4, 4)


def test_parameters_are_those_of_chainers_layers_and_begin_as_theirs():
    rng = np.random.default_rng(0)
    names = {name: param.shape for name, param in Net(rng).namedparams()}
    assert names['/stem/b'] == (16,)
    assert '/first/conv1/b' not in names
    assert (Net(rng).stem.b.array == 0).all()
