"""What a step launches, and in which layout and type its arrays lie."""

import chainer
import chainer.functions as F
import gpu
import numpy as np
import pytest

from chainer_jo import backends
from chainer_jo.backends import cudnn, cudnn_plans, kernels
from chainer_jo.errors import ConfigError
from chainer_jo.functions import epoch_sums, losses
from chainer_jo.functions.augment import augment
from chainer_jo.functions.convolution import convolution_2d
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.functions.low_precision import in_low_precision
from chainer_jo.links.label_store import LabelStore
from chainer_jo.links.preact_resnet import PreActResNet


def net(precision='float32'):
    rng = np.random.default_rng(0)
    made = PreActResNet(3, 10, (4, 4, 8, 12), (1, 1, 2), precision=precision, rng=rng)
    return made.to_device(gpu.DEVICE)


def images(n=2):
    return gpu.send(gpu.draw(0, (n, 3, 8, 8))[0])


@pytest.fixture
def launched(monkeypatch):
    """The kernels, file and entry, that are launched from here on."""
    names, compiled = [], kernels.function

    def function(*name, **macros):
        names.append('.'.join(name))
        return compiled(*name, **macros)

    monkeypatch.setattr(kernels, 'function', function)
    return names


@pytest.fixture
def convolved(monkeypatch):
    """What cuDNN is asked for from here on."""
    asked, run = [], cudnn_plans.run

    def note(convolution, *arrays):
        asked.append(convolution)
        run(convolution, *arrays)

    monkeypatch.setattr(cudnn_plans, 'run', note)
    return asked


def step(made, x):
    made.cleargrads()
    loss = F.sum(made(x) ** 2)
    loss.backward()


def test_each_kind_of_array_has_its_backend():
    (x,) = gpu.draw(0, (1, 1, 2, 2))
    there = gpu.send(x)
    assert backends.of(there, there.astype(np.float16)) is cudnn
    assert backends.op('average', chainer.Variable(there)) is cudnn.average
    assert backends.op('average', there.astype(np.float64)) is None
    assert backends.op('average', there, x) is None
    assert backends.op('no such function', there) is None
    assert backends.is_fast(gpu.DEVICE)
    assert backends.capturer(gpu.DEVICE) is not None
    backends.use('chainer')
    assert backends.op('average', there) is None
    assert backends.capturer(gpu.DEVICE) is None


def test_weights_lie_as_convolutions_want_them_and_so_do_gradients_and_nothing_is_copied(launched):
    made, x = net(), cudnn.convert(images(), np.float32)
    del launched[:]
    step(made, x)
    assert 'batch_normalization_relu.normalize' in launched
    assert 'copy.copy' not in launched
    for param in made.params():
        if param.ndim == 4:
            for array in (param.array, param.grad):
                assert array.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize(('precision', 'expected'), [('float32', True), ('strict_float32', False)])
def test_strict_float32_keeps_off_the_tensor_cores_in_both_directions(
    precision, expected, convolved
):
    step(net(precision), chainer.Variable(images()))
    seen = {(convolution.operation, convolution.tensor_cores) for convolution in convolved}
    assert seen == {(name, expected) for name in ('forward', 'gradient_x', 'gradient_W')}


def test_all_convolutions_of_a_net_in_float16_are_of_float16(convolved):
    step(net('float16'), images())
    assert {convolution.dtype for convolution in convolved} == {'float16'}


def test_small_gradients_do_not_vanish_in_float16():
    found = {}
    for precision in ('float16', 'float32'):
        made, x = net(precision), chainer.Variable(images(16))
        made.cleargrads()
        # As small as late in training.
        F.sum(1e-6 * made(x) ** 2).backward()
        found[precision] = {name: p.grad for name, p in made.namedparams()} | {'x': x.grad}
    for name, gradient in found['float16'].items():
        assert gradient.dtype == np.float32
        # Rounding turns some ReLUs on and off, and deep below that is much of a gradient.
        assert gpu.error(gradient, gpu.fetch(found['float32'][name])) < 0.3, name


@pytest.mark.parametrize(('precision', 'dtype'), [('float16', 'd'), ('bfloat16', 'f')])
def test_a_precision_that_a_gpu_does_not_have_is_refused(precision, dtype):
    x = gpu.send(np.zeros((1, 1, 2, 2), dtype))
    with pytest.raises(ConfigError, match=f'{precision} cannot be used here') as raised:
        in_low_precision(precision, lambda x: x, x, ())
    assert raised.value.setting == ('precision', 'float32')


def what_surrounds_the_net(logits, x, y, partner, lam, index):
    """Losses, mixtures and records of a step; returns all results and the logits' gradient."""
    logits, sums = chainer.Variable(logits), gpu.send(np.zeros(3))
    store = LabelStore(np.zeros(9, int), y.shape[1], window=2)
    store.to_device(gpu.DEVICE)
    log_f = log_softmax(logits)
    loss = losses.joint_loss(y, log_f, 1.2, 0.8)
    loss.backward()
    mixed = losses.mix_up(x, partner, lam)
    store.record(log_f.array, index, index % 3)
    epoch_sums.add(sums, loss, log_f, y)
    return log_f.array, loss.array, logits.grad, mixed, store.past.history, sums


def test_what_surrounds_the_net_is_that_of_chainer_and_one_kernel_each(launched):
    logits, x = gpu.draw(0, (6, 5), (6, 3, 4, 4))
    y = np.random.default_rng(0).dirichlet(np.ones(5), 6).astype('f')
    index = np.array([7, 1, 2, 3, 7, 0], np.int32)
    partner, lam = np.arange(6, dtype=np.int32)[::-1].copy(), np.array(0.3, 'f')
    logits, x, y, partner, lam, index = gpu.send(logits, x, y, partner, lam, index)
    given = (logits, cudnn.convert(x, np.float32), y, partner, lam, index)
    del launched[:]
    found = what_surrounds_the_net(*given)
    assert launched == [
        'log_softmax.log_softmax', 'losses.joint_loss', 'losses.joint_loss_gradient',
        'log_softmax.gradient_x', 'mix_up.mix_up', 'label_store.record', 'losses.add_to_sums',
    ]  # fmt: skip
    backends.use('chainer')
    del launched[:]
    expected = what_surrounds_the_net(*given)
    assert launched == []
    for actual, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(gpu.fetch(actual), gpu.fetch(exact), rtol=1e-5, atol=1e-6)


def test_a_training_batch_is_one_kernel_and_that_of_numpy(launched):
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    mean = given.mean(axis=0, dtype='f') / 255
    choices = rng.integers(0, 5, 6, np.int32), rng.integers(0, 5, (6, 2), np.int32)
    arguments = (given, mean, *choices, rng.random(6) < 0.5)
    x = augment(*gpu.send(*arguments), 2)
    assert launched == ['augment.augment']
    np.testing.assert_array_equal(gpu.fetch(x), augment(*arguments, 2))


def test_a_second_derivative_is_refused():
    x, W = map(chainer.Variable, gpu.send(*gpu.draw(0, (1, 2, 4, 4), (2, 2, 3, 3))))
    y = F.sum(convolution_2d(x, W, 1, 1))
    with pytest.raises(NotImplementedError, match='no second derivative'):
        y.backward(enable_double_backprop=True)
