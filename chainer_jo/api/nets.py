"""The paper's net, for callers who do not bring their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import chainer

from chainer_jo.api import checks
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError, excerpt
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
    """Returns an untrained PreAct ResNet; by default the PreAct ResNet-32 of Sec. 4.2.

    Args:
        in_channels: Channels of the images.
        n_class: Number of classes ``C``.
        filters: Channels of the stem, then of each stage.
        blocks: Number of blocks in each stage; every stage after the first halves height and width.
        stem_stride: Stride of the first convolution.
        seed: Seed of the initial weights; a trial with this seed starts from the same weights.

    Returns:
        A Chainer Chain that maps images ``(B, in_channels, H, W)``, float32, to logits ``(B, C)``.
        It supports first derivatives only.

    Raises:
        ConfigError: A size is not an integer above 0, or ``filters`` does not fit ``blocks``.

    >>> import chainer_jo
    >>> chainer_jo.preact_resnet(3, 10).count_params()
    1861162
    """
    sizes = {'in_channels': in_channels, 'stem_stride': stem_stride}
    for name, size in sizes.items():
        checks.whole(size, name, 1)
    checks.whole(n_class, 'n_class', 2)
    for sizes, name in ((filters, 'filters'), (blocks, 'blocks')):
        if not isinstance(sizes, Iterable):
            raise ConfigError(
                f'{name} must be a list', seen=excerpt(repr(sizes)), fix='pass for example [16, 32]'
            )
    for size in (*filters, *blocks):
        checks.whole(size, 'each of filters and blocks', 1)
    if len(filters) != len(blocks) + 1:
        raise ConfigError(
            'filters and blocks do not match',
            seen=f'filters {list(filters)}, blocks {list(blocks)}',
            fix='pass the number of filters of the stem, then one for each stage in blocks',
        )
    weights = rng(checks.whole(seed, 'seed', 0), 'init')
    return PreActResNet(in_channels, n_class, filters, blocks, stem_stride, rng=weights)
