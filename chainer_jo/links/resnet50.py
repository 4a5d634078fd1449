"""ResNet-50 (He et al., "Deep Residual Learning", 2015), the net for Clothing1M."""

from dataclasses import dataclass

import chainer
import numpy as np
from chainer import initializers

from chainer_jo import backends
from chainer_jo.functions.low_precision import in_precision
from chainer_jo.functions.pooling import global_average_pooling, max_pooling_2d
from chainer_jo.links.layers import BatchNormalization, Convolution2D, Linear

BLOCKS, WIDTHS = (3, 4, 6, 3), (64, 128, 256, 512)
EXPANSION = 4
FEATURES = EXPANSION * WIDTHS[-1]


@dataclass(frozen=True)
class Form:
    """Differences between published nets of this name; weights fit only the form they come from.

    Attributes:
        stride_first (bool): Whether a stage that halves the image does so in its first 1x1
            convolution, which then skips three of four pixels, or in the 3x3 convolution.
        stem_bias (bool): Whether the first convolution has a bias.
        pool (tuple): Padding of the max pooling, and whether its last windows may reach beyond it.
        eps (float): Added to the variance in batch normalisation.
        mean, std (tuple of float): Mean and standard deviation of red, green and blue in [0, 1].
    """

    stride_first: bool
    stem_bias: bool
    pool: tuple
    eps: float
    mean: tuple
    std: tuple


#: The form of torchvision and timm, also known as v1.5.
TORCHVISION = Form(
    False, False, (1, False), 1e-5, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
#: He et al.'s form, with the eps of ``chainer.links.ResNet50Layers``, and colours up to 255.
CAFFE = Form(
    *(True, True, (0, True), 2e-5),
    mean=(123.152 / 255, 115.903 / 255, 103.063 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
)


class Bottleneck(chainer.Chain):
    """1x1, 3x3 and 1x1 convolutions plus a shortcut; ``conv4`` projects it if ``project``."""

    def __init__(self, in_channels, width, stride, project, form, *, rng):
        super().__init__()
        out_channels, eps = EXPANSION * width, form.eps
        first, second = (stride, 1) if form.stride_first else (1, stride)
        with self.init_scope():
            self.conv1 = Convolution2D(in_channels, width, 1, first, rng=rng)
            self.bn1 = BatchNormalization(width, relu=True, eps=eps)
            self.conv2 = Convolution2D(width, width, 3, second, rng=rng)
            self.bn2 = BatchNormalization(width, relu=True, eps=eps)
            self.conv3 = Convolution2D(width, out_channels, 1, rng=rng)
            self.bn3 = BatchNormalization(out_channels, relu=True, eps=eps)
            if project:
                self.conv4 = Convolution2D(in_channels, out_channels, 1, stride, rng=rng)
                self.bn4 = BatchNormalization(out_channels, eps=eps)
        self.project = project

    def forward(self, x):
        shortcut = self.bn4(self.conv4(x)) if self.project else x
        h = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        return self.bn3(self.conv3(h), shortcut)


class ResNet50(chainer.Chain):
    """ResNet-50 with a last layer for ``n_class`` classes.

    Parameters are named as in :class:`chainer.links.ResNet50Layers`, except that blocks are
    numbered and that the last layer is ``fc``. For ImageNet weights see
    :mod:`chainer_jo.links.pretrained`.

    Args:
        n_class (int): ``C``.
        form (Form): ``TORCHVISION`` or ``CAFFE``.
        precision (str): As for :class:`~chainer_jo.links.preact_resnet.PreActResNet`.
        rng (numpy.random.Generator): Draws the initial weights, in the order of the layers.

    Attributes:
        mean (array): ``(3, 1, 1)``, float32: the mean that the caller subtracts from RGB images in
            [0, 1]. The net itself divides by ``std``. Snapshots contain both, since the weights
            depend on them.
    """

    def __init__(self, n_class, form=TORCHVISION, precision='float32', *, rng):
        super().__init__()
        backends.check_precision(precision)
        self.form, self.precision = form, precision
        self.add_persistent('mean', np.array(form.mean, 'f').reshape(3, 1, 1))
        self.add_persistent('std', np.array(form.std, 'f').reshape(3, 1, 1))
        with self.init_scope():
            self.conv1 = Convolution2D(3, 64, 7, 2, nobias=not form.stem_bias, rng=rng)
            self.bn1 = BatchNormalization(64, relu=True, eps=form.eps)
            self.res2, self.res3, self.res4, self.res5 = (
                chainer.ChainList(*_stage(i, form, rng)) for i in range(len(BLOCKS))
            )
            self.fc = Linear(FEATURES, n_class, initialW=initializers.LeCunNormal(rng=rng))

    def forward(self, x):
        """Returns the logits ``(N, C)`` of mean-subtracted images ``(N, 3, H, W)``, float32."""
        return self.fc(self.features(x))

    def features(self, x):
        """Returns the input of the last layer, ``(N, 2048)``."""
        x = x / self.xp.broadcast_to(self.std, x.shape)
        below = (self.conv1, self.bn1, self.res2, self.res3, self.res4, self.res5)
        return in_precision(self.precision, self._features, x, below)

    def _features(self, x):
        h = max_pooling_2d(self.bn1(self.conv1(x)), 3, 2, *self.form.pool)
        for stage in (self.res2, self.res3, self.res4, self.res5):
            for block in stage:
                h = block(h)
        return global_average_pooling(h)


def _stage(stage, form, rng):
    width = WIDTHS[stage]
    for i in range(BLOCKS[stage]):
        first = i == 0
        in_channels = (
            (EXPANSION * WIDTHS[stage - 1] if stage else 64) if first else EXPANSION * width
        )
        stride = 2 if first and stage else 1
        yield Bottleneck(in_channels, width, stride, first, form, rng=rng)
