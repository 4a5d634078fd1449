"""A small net of the layers that ResNet-50 needs, and the same by Chainer's own functions."""

import chainer
import chainer.functions as F
import numpy as np

from chainer_jo.functions.low_precision import in_low_precision
from chainer_jo.functions.pooling import global_average_pooling, max_pooling_2d
from chainer_jo.links.layers import BatchNormalization, Convolution2D, Linear


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


def run(features, dtype='f', device='@numpy'):
    """Returns the features and the gradients of the image and of all parameters, by name."""
    rng = np.random.default_rng(0)
    net, x = Net(rng), chainer.Variable(rng.normal(size=(6, 3, 37, 32)).astype(dtype))
    for param in net.params():
        param.array = param.array.astype(dtype)
    # Away from where they begin, where a wrong one would not show.
    for name, param in sorted(net.namedparams()):
        if name.endswith(('gamma', 'beta', 'stem/b')):
            param.array += rng.normal(size=param.shape).astype(dtype) / 4
    gy = rng.normal(size=(6, 5)).astype(dtype)
    net.to_device(device)
    x.to_device(device)
    net.cleargrads()
    h = features(net, x)
    y = F.linear(h, net.fc.W, net.fc.b) if dtype == 'd' else net.fc(h)
    y.grad = net.device.send(gy)
    y.backward()
    found = {'y': y.array, 'x': x.grad} | {name: p.grad for name, p in net.namedparams()}
    return {name: chainer.get_device('@numpy').send(array) for name, array in found.items()}


def features_in(precision):
    """Returns a function like ``Net.features`` that computes in 16 bits."""

    def features(net, x):
        params = [p for name, p in sorted(net.namedparams()) if not name.startswith('/fc')]
        return in_low_precision(precision, net.features, x, params)

    return features


def distance(actual, expected):
    """Returns the norm of the difference over that of the expected array."""
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-12)
