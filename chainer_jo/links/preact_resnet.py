"""PreAct ResNet for small images (He et al., "Identity Mappings", 2016), as in Tanaka et al."""

import chainer
from chainer import initializers

from chainer_jo import backends
from chainer_jo.functions.low_precision import in_precision
from chainer_jo.functions.pooling import global_average_pooling
from chainer_jo.links.layers import BatchNormalization, Convolution2D, Linear


class Block(chainer.Chain):
    """BN-ReLU-conv-BN-ReLU-conv plus a shortcut.

    In the first block of every stage the shortcut is a 1x1 convolution of the pre-activated input,
    even if the shape does not change; in the others it is the unchanged input.
    """

    def __init__(self, in_channels, out_channels, stride, project, *, rng):
        super().__init__()
        with self.init_scope():
            self.bn1 = BatchNormalization(in_channels, relu=True)
            self.conv1 = Convolution2D(in_channels, out_channels, 3, stride, rng=rng)
            self.bn2 = BatchNormalization(out_channels, relu=True)
            self.conv2 = Convolution2D(out_channels, out_channels, 3, rng=rng)
            if project:
                self.projection = Convolution2D(in_channels, out_channels, 1, stride, rng=rng)
        self.project = project

    def forward(self, x):
        # Pre-activation: without a projection the shortcut is x itself, before BN and ReLU.
        h = self.bn1(x)
        shortcut = self.projection(h) if self.project else x
        return self.conv2(self.bn2(self.conv1(h)), shortcut)


class PreActResNet(chainer.Chain):
    """The net of all CIFAR-10 experiments; by default PreAct ResNet-32, 1,861,162 parameters.

    Args:
        in_channels (int): Channels of the images.
        n_class (int): ``C``.
        filters (sequence of int): Channels of the stem and of each stage.
        blocks (sequence of int): Number of blocks in each stage; every stage after the first halves
            height and width.
        stem_stride (int): Stride of the first convolution; 2 gives a net at a quarter of the cost.
        precision (str): ``float32``; ``strict_float32``, the same without tensor cores, which
            would round the factors of a convolution to TF32; ``bfloat16`` or ``float16`` for all
            layers except the last. Parameters are always float32.
        rng (numpy.random.Generator): Draws the initial weights, in the order of the layers.

    Source: Sec. 4.2; widths and initialisers from Tanaka et al.'s public code.
    """

    def __init__(
        self,
        in_channels,
        n_class,
        filters=(32, 32, 64, 128),
        blocks=(5, 5, 5),
        stem_stride=1,
        precision='float32',
        *,
        rng,
    ):
        super().__init__()
        backends.check_precision(precision)
        self.precision = precision
        with self.init_scope():
            self.conv = Convolution2D(in_channels, filters[0], 3, stem_stride, rng=rng)
            # A ChainList names its children by their position; a Sequential does not name them.
            self.blocks = chainer.ChainList(*_blocks(filters, blocks, rng))
            self.bn = BatchNormalization(filters[-1], relu=True)
            # Not HeNormal, since no ReLU follows.
            self.fc = Linear(filters[-1], n_class, initialW=initializers.LeCunNormal(rng=rng))

    def forward(self, x):
        """Returns the logits ``(N, C)`` of images ``(N, channels, H, W)``, float32."""
        return self.fc(self.features(x))

    def features(self, x):
        """Returns the input of the last layer, ``(N, filters[-1])``."""
        # The last layer stays float32, because labels are computed from its outputs.
        below = (self.conv, self.blocks, self.bn)
        return in_precision(self.precision, self._features, x, below)

    def _features(self, x):
        h = self.conv(x)
        for block in self.blocks:
            h = block(h)
        # The last block ends without BN and ReLU: with pre-activation they come before the next
        # layer.
        return global_average_pooling(self.bn(h))


def _blocks(filters, blocks, rng):
    for stage, count in enumerate(blocks):
        for i in range(count):
            first = i == 0
            in_channels = filters[stage] if first else filters[stage + 1]
            stride = 2 if first and stage else 1
            yield Block(in_channels, filters[stage + 1], stride, first, rng=rng)
