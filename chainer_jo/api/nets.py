"""The net of the paper, for callers without one of their own."""

from __future__ import annotations

from collections.abc import Sequence

import chainer

from chainer_jo.api import checks
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError
from chainer_jo.links.preact_resnet import PreActResNet


def preact_resnet(
    in_channels: int,
    n_class: int,
    *,
    filters: Sequence[int] = (32, 32, 64, 128),
    blocks: Sequence[int] = (5, 5, 5),
    stem_stride: int = 1,
    seed: int = 0,
) -> chainer.Chain:
    """Returns a PreAct ResNet with initial weights; by default PreAct ResNet-32 of Sec. 4.2.

    Args:
        in_channels: Channels of the images.
        n_class: Number of classes ``C``.
        filters: Channels of the stem, then of each stage.
        blocks: Blocks of each stage; stages after the first halve the image.
        stem_stride: Step of the first convolution.
        seed: Draws the initial weights; a trial of this seed begins with the same ones.

    Returns:
        A Chainer Chain, images ``(B, in_channels, H, W)``, float32, to logits ``(B, C)``. Its
        gradients can be taken once, not twice.

    Raises:
        ConfigError: A size is no whole number above 0, or ``filters`` does not fit ``blocks``.

    >>> import chainer_jo
    >>> chainer_jo.preact_resnet(3, 10).count_params()
    1861162
    """
    sizes = {'in_channels': in_channels, 'stem_stride': stem_stride}
    for name, size in sizes.items():
        checks.whole(size, name, 1)
    checks.whole(n_class, 'n_class', 2)
    for size in (*filters, *blocks):
        checks.whole(size, 'each of filters and blocks', 1)
    if len(filters) != len(blocks) + 1:
        raise ConfigError(
            'filters and blocks do not fit together',
            seen=f'filters {list(filters)}, blocks {list(blocks)}',
            fix='give one number of filters for the stem, then one for each number of blocks',
        )
    weights = rng(checks.whole(seed, 'seed', 0), 'init')
    return PreActResNet(in_channels, n_class, filters, blocks, stem_stride, rng=weights)
