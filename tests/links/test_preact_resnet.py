import chainer
import chainer.functions as F
import numpy as np
import pytest

from chainer_jo.links.layers import BatchNormalization
from chainer_jo.links.preact_resnet import Block, PreActResNet


def net(seed=0, channels=3, **settings):
    return PreActResNet(channels, 10, **settings, rng=np.random.default_rng(seed))


def small(**settings):
    return net(filters=(2, 2, 3, 4), blocks=(1, 2, 1), **settings)


def kernels(link):
    return [param.shape for param in link.params() if param.ndim == 4]


def test_the_net_of_the_paper_has_1_861_162_parameters_and_34_convolutions():
    params = list(net().params())
    assert sum(param.size for param in params) == 1_861_162
    shapes = kernels(net())
    assert len(shapes) == 34
    assert sorted({shape[2:] for shape in shapes}) == [(1, 1), (3, 3)]
    assert sum(shape[2:] == (3, 3) for shape in shapes) == 31


def test_widths_and_strides_are_those_of_the_paper():
    blocks = [link for link in net().links() if isinstance(link, Block)]
    assert [block.conv2.W.shape[0] for block in blocks] == [32] * 5 + [64] * 5 + [128] * 5
    assert [block.conv1.stride for block in blocks] == [1] * 5 + [2] + [1] * 4 + [2] + [1] * 4


def test_the_first_block_of_every_stage_projects_and_no_other_does():
    blocks = [link for link in net().links() if isinstance(link, Block)]
    projecting = [i for i, block in enumerate(blocks) if block.project]
    assert projecting == [0, 5, 10]
    assert [hasattr(block, 'projection') for block in blocks] == [
        i in (0, 5, 10) for i in range(15)
    ]


def test_batch_normalisation_has_the_defaults_of_chainer():
    links = [link for link in net().links() if isinstance(link, BatchNormalization)]
    assert len(links) == 31
    assert {(link.decay, link.eps) for link in links} == {(0.9, 2e-5)}
    assert all((link.gamma.array == 1).all() and (link.beta.array == 0).all() for link in links)


def test_initial_weights_have_the_spread_of_their_initialisers():
    for name, param in net().namedparams():
        if param.ndim == 4:
            # He et al.'s normal distribution; five standard errors of a standard deviation.
            wanted = np.sqrt(2 / np.prod(param.shape[1:]))
            close = pytest.approx(wanted, rel=5 / np.sqrt(2 * param.size))
            assert param.array.std() == close, name
    fc = net().fc
    assert fc.W.array.std() == pytest.approx(np.sqrt(1 / 128), rel=5 / np.sqrt(2 * fc.W.size))
    assert (fc.b.array == 0).all()


@pytest.mark.parametrize('size', [(32, 32), (28, 28), (7, 9), (1, 5)])
@pytest.mark.parametrize('stem_stride', [1, 2])
def test_images_of_any_size_become_logits(size, stem_stride):
    x = np.random.default_rng(0).normal(size=(3, 1, *size)).astype('f')
    logits = small(channels=1, stem_stride=stem_stride)(x)
    assert (logits.shape, logits.dtype) == ((3, 10), np.float32)


def test_the_same_generator_gives_the_same_weights_and_another_gives_others():
    first, same, other = small(), small(), small(seed=1)
    for (name, param), (_, twin), (_, stranger) in zip(
        *(sorted(link.namedparams()) for link in (first, same, other)), strict=True
    ):
        np.testing.assert_array_equal(param.array, twin.array, err_msg=name)
        assert name.endswith(('gamma', 'beta', 'b')) or (param.array != stranger.array).all()


def test_no_weight_depends_on_chainers_or_numpys_global_generators():
    np.random.seed(0)
    first = small().fc.W.array
    np.random.seed(1)
    np.testing.assert_array_equal(first, small().fc.W.array)


def slow(link, x):
    """The net in test mode by Chainer's own functions, layer by layer."""

    def bn(b, h):
        h = F.fixed_batch_normalization(h, b.gamma, b.beta, b.avg_mean, b.avg_var, eps=b.eps)
        return F.relu(h)

    def conv(c, h):
        return F.convolution_2d(h, c.W, stride=c.stride, pad=c.W.shape[2] // 2)

    h = conv(link.conv, x)
    for block in link.blocks:
        a = bn(block.bn1, h)
        shortcut = conv(block.projection, a) if block.project else h
        h = conv(block.conv2, bn(block.bn2, conv(block.conv1, a))) + shortcut
    h = bn(link.bn, h)
    return link.fc(h.array.mean(axis=(2, 3)))


def test_the_net_is_that_of_its_layers_written_out():
    rng = np.random.default_rng(0)
    link = small()
    for child in link.links():
        if isinstance(child, BatchNormalization):
            child.avg_mean[...] = rng.normal(size=child.avg_mean.shape)
            child.avg_var[...] = rng.uniform(0.5, 2, child.avg_var.shape)
    x = rng.normal(size=(4, 3, 9, 11)).astype('f')
    with chainer.using_config('train', False):
        np.testing.assert_allclose(link(x).array, slow(link, x).array, rtol=1e-3, atol=1e-4)
