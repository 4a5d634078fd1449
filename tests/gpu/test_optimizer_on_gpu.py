"""The optimizer's one kernel against Chainer's own two for each parameter."""

import chainer
import gpu
import numpy as np
import pytest

from chainer_jo import config
from chainer_jo.backends import kernels, many_arrays
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training.optimizer import MomentumSGD

SHAPES = [(), (1,), (kernels.THREADS,), (kernels.THREADS + 1,), (32, 3, 3, 3), (10, 128)]


def link(count):
    rng, made = np.random.default_rng(0), chainer.Link()
    with made.init_scope():
        for i in range(count):
            values = rng.normal(size=SHAPES[i % len(SHAPES)]).astype('f')
            setattr(made, f'p{i}', chainer.Parameter(values))
    return made.to_device(gpu.DEVICE)


def give_gradients(made, seed, order):
    """Gives every parameter but the last one a gradient."""
    rng, last = np.random.default_rng(seed), f'/p{len(list(made.params())) - 1}'
    for name, param in sorted(made.namedparams()):
        gradient = np.array(rng.normal(size=param.shape), 'f', order=order)
        param.grad = None if name == last else gpu.send(gradient)


@pytest.mark.parametrize('order', 'CF')
@pytest.mark.parametrize('count', [len(SHAPES), many_arrays.MOST, 2 * many_arrays.MOST + 1])
def test_a_step_is_that_of_chainer_however_gradients_lie_in_memory(count, order):
    ours, theirs = link(count), link(count)
    optimizer = MomentumSGD(0.9, 1e-2).setup(ours)
    reference = chainer.optimizers.MomentumSGD(momentum=0.9).setup(theirs)
    reference.add_hook(chainer.optimizer_hooks.WeightDecay(1e-2))
    for seed in range(5):
        optimizer.lr = reference.lr = 0.1 / (1 + seed // 2)
        for made, method in ((ours, optimizer), (theirs, reference)):
            give_gradients(made, seed, order)
            method.update()
    for name, param in theirs.namedparams():
        mine = dict(ours.namedparams())[name]
        # A GPU may multiply and add in one rounding.
        assert gpu.error(mine.array, gpu.fetch(param.array)) < 1e-6, name
        v = param.update_rule.state['v']
        assert gpu.error(mine.update_rule.state['v'], gpu.fetch(v)) < 1e-6, name
        assert gpu.fetch(v).any()


def test_the_kernels_arguments_fit_where_every_gpu_takes_them():
    numbers = 4 + 8 + 4 + 4
    assert many_arrays.table_type('pgv').itemsize + numbers <= 4096


def test_the_papers_net_needs_one_launch():
    described = config.trial('ours', 'cifar10', 'symmetric', 0.5, 0)
    net = PreActResNet(3, 10, **described.net, rng=np.random.default_rng(0))
    assert len(list(net.params())) <= many_arrays.MOST
