"""PreAct ResNet for small images (He et al., "Identity Mappings", 2016), as in Tanaka et al."""

import chainer
from chainer import initializers

from chainer_jo import backends
from chainer_jo.functions.low_precision import in_precision
from chainer_jo.links.layers import (
    BatchNormalization,
    Convolution2D,
    Linear,
    global_average_pooling,
)


class Block(chainer.Chain):
    """BN-ReLU-conv-BN-ReLU-conv plus a shortcut.

    The first block of every stage, also where the shape stays, projects the pre-activated input by
    a 1x1 convolution; the others pass their input on unchanged.
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
        # Pre-activation: an unprojected shortcut passes x on as it came, before BN and ReLU.
        h = self.bn1(x)
        shortcut = self.projection(h) if self.project else x
        return self.conv2(self.bn2(self.conv1(h)), shortcut)


class PreActResNet(chainer.Chain):
    """The net of all CIFAR-10 experiments; by default PreAct ResNet-32, 1,861,162 parameters.

    Args:
        in_channels (int): Channels of the images.
        n_class (int): ``C``.
        filters (sequence of int): Channels of the stem and of each stage.
        blocks (sequence of int): Blocks in each stage; stages after the first halve the image.
        stem_stride (int): Stride of the first convolution; 2 makes a member of the family that
            costs a quarter.
        precision (str): ``float32``; ``strict_float32``, the same without tensor cores, which
            round the factors of a convolution to TF32; ``bfloat16`` or ``float16`` for all but
            the last layer. Parameters are always float32.
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
            # A ChainList names its children by their order; a Sequential does not.
            self.blocks = chainer.ChainList(*_blocks(filters, blocks, rng))
            self.bn = BatchNormalization(filters[-1], relu=True)
            # No ReLU follows, so the initializer is not HeNormal.
            self.fc = Linear(filters[-1], n_class, initialW=initializers.LeCunNormal(rng=rng))

    def forward(self, x):
        """Returns the logits ``(N, C)`` of images ``(N, channels, H, W)``, float32."""
        return self.fc(self.features(x))

    def features(self, x):
        """Returns what the last layer sees, ``(N, filters[-1])``."""
        # The last layer stays float32: labels are made from its outputs.
        below = (self.conv, self.blocks, self.bn)
        return in_precision(self.precision, self._features, x, below)

    def _features(self, x):
        h = self.conv(x)
        for block in self.blocks:
            h = block(h)
        # The last block ends without BN and ReLU: with pre-activation they belong to the next
        # layer.
        return global_average_pooling(self.bn(h))


def _blocks(filters, blocks, rng):
    for stage, count in enumerate(blocks):
        for i in range(count):
            first = i == 0
            in_channels = filters[stage] if first else filters[stage + 1]
            stride = 2 if first and stage else 1
            yield Block(in_channels, filters[stage + 1], stride, first, rng=rng)
