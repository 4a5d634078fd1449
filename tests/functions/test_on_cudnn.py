"""The functions on the cuDNN backend, as wired for a GPU, against Chainer's own."""

import contextlib

import chainer
import chainer.functions as F
import numpy as np
import pytest
from steps import train

from chainer_jo import backends
from chainer_jo.backends import cudnn, cudnn_plans, kernels
from chainer_jo.errors import ConfigError
from chainer_jo.functions import epoch_sums, losses
from chainer_jo.functions.augment import augment
from chainer_jo.functions.batch_normalization_relu import batch_normalization_relu
from chainer_jo.functions.convolution import convolution_2d
from chainer_jo.functions.linear import linear
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.functions.low_precision import in_low_precision
from chainer_jo.functions.pooling import global_average_pooling
from chainer_jo.functions.tape import Activation, Tape
from chainer_jo.links.label_store import LabelStore
from chainer_jo.links.preact_resnet import PreActResNet

pytestmark = pytest.mark.usefixtures('cudnn_on_cpu')


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def channel_last(x):
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)


def net_in_one(x, W, V, gamma, beta, U, b):
    """Every function; an activation and weights are used twice, and a shortcut leads past."""
    running = np.zeros(4, np.float32), np.ones(4, np.float32)
    h = batch_normalization_relu(x, gamma, beta, *running)
    h = convolution_2d(h, W, 1, 1, convolution_2d(h, V, 1, 0, x))
    h = global_average_pooling(convolution_2d(h, W, 2, 1))
    return linear(h, U, b), running


SHAPES = ((3, 4, 6, 5), (4, 4, 3, 3), (4, 4, 1, 1), (4,), (4,), (7, 4), (7,))


@pytest.mark.parametrize('train', [True, False])
def test_results_gradients_and_running_statistics_are_those_of_chainer(train):
    found = {}
    for name in ('cudnn', 'chainer'):
        backends.use(name)
        variables = [chainer.Variable(array) for array in draw(0, *SHAPES)]
        with chainer.using_config('train', train):
            y, running = net_in_one(*variables)
        F.sum(y**2).backward()
        found[name] = [y.array, *running, *(variable.grad for variable in variables)]
    for actual, expected in zip(found['cudnn'], found['chainer'], strict=True):
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, atol=1e-5 * scale)


def test_each_function_is_that_of_the_backend():
    x, W, _, gamma, beta, U, b = map(chainer.Variable, draw(0, *SHAPES))
    running = np.zeros(4, np.float32), np.ones(4, np.float32)
    results = [
        convolution_2d(x, W, 1, 1), batch_normalization_relu(x, gamma, beta, *running),
        global_average_pooling(x), linear(global_average_pooling(x), U, b),
    ]  # fmt: skip
    assert all(result.creator.backend is cudnn for result in results)


def test_the_tape_gives_the_gradients_of_chainers_graph_bit_for_bit():
    def features(x, W, gamma, beta):
        running = np.zeros(4, np.float32), np.ones(4, np.float32)
        h = batch_normalization_relu(x, gamma, beta, *running)
        return global_average_pooling(convolution_2d(h, W, 1, 1, x))

    x, *parameters = draw(0, SHAPES[0], SHAPES[1], (4,), (4,))
    (gy,) = draw(1, (3, 4))
    variables = [chainer.Variable(x), *map(chainer.Parameter, parameters)]
    F.sum(features(*variables) * gy).backward()
    tape = Tape(recording=True)
    inputs = [Activation(x, tape), *map(chainer.Parameter, parameters)]
    gradients = tape.gradients(features(*inputs), gy, inputs)
    for actual, variable in zip(gradients, variables, strict=True):
        np.testing.assert_array_equal(actual, variable.grad)


def small_net(precision='float32'):
    rng = np.random.default_rng(0)
    return PreActResNet(3, 10, (4, 4, 8, 12), (1, 1, 2), precision=precision, rng=rng)


def steps(backend, precision='float32', count=3):
    """Trains on one batch; returns the losses, the net and its outputs in test mode."""
    backends.use(backend)
    net, (x,) = small_net(precision), draw(0, (16, 3, 8, 8))
    t = np.arange(16, dtype=np.int32) % 10
    optimizer = chainer.optimizers.MomentumSGD(0.05).setup(net)
    losses = train(net, optimizer, [(x, t)] * count)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        return losses, net, net(x).array


def state(net):
    serializer = chainer.serializers.DictionarySerializer()
    serializer.save(net)
    return serializer.target


@pytest.mark.parametrize('precision', ['float32', 'strict_float32'])
def test_training_steps_of_the_net_are_those_of_chainer(precision):
    losses, net, outputs = steps('cudnn', precision)
    reference_losses, reference_net, reference_outputs = steps('chainer')
    np.testing.assert_allclose(losses, reference_losses, rtol=1e-4)
    np.testing.assert_allclose(outputs, reference_outputs, rtol=1e-2, atol=1e-3)
    reference = state(reference_net)
    for name, array in state(net).items():
        np.testing.assert_allclose(array, reference[name], rtol=1e-2, atol=1e-4, err_msg=name)


@contextlib.contextmanager
def launches(monkeypatch):
    """Lists the kernels, file and entry, that are launched within."""
    launched, compiled = [], kernels.function

    def function(*names, **macros):
        launched.append('.'.join(names))
        return compiled(*names, **macros)

    with monkeypatch.context() as patch:
        patch.setattr(kernels, 'function', function)
        yield launched


def test_weights_lie_as_cudnn_wants_them_and_so_do_their_gradients_and_nothing_is_copied(
    monkeypatch,
):
    net, (x,) = small_net(), draw(0, (2, 3, 8, 8))
    x = channel_last(x)
    expected = F.sum(net(x)).array
    net.to_device('@numpy')  # which is a GPU here
    net.cleargrads()
    with launches(monkeypatch) as launched:
        loss = F.sum(net(x))
        loss.backward()
    np.testing.assert_array_equal(loss.array, expected)
    assert 'batch_normalization_relu.normalize' in launched
    assert 'copy.copy' not in launched
    for param in net.params():
        if param.ndim == 4:
            for array in (param.array, param.grad):
                assert array.transpose(0, 2, 3, 1).flags.c_contiguous


class TestFloat16:
    def test_training_has_the_losses_of_float32(self):
        losses, net, _ = steps('cudnn', 'float16', 6)
        expected, reference, _ = steps('cudnn', 'float32', 6)
        assert expected[-1] < 0.9 * expected[0]
        np.testing.assert_allclose(losses, expected, rtol=0.01)
        kinds = {name: array.dtype for name, array in state(net).items()}
        assert kinds == {name: array.dtype for name, array in state(reference).items()}

    def test_gradients_of_parameters_and_images_are_those_of_float32_up_to_rounding(self):
        found = {}
        for precision in ('float16', 'float32'):
            net, x = small_net(precision), chainer.Variable(draw(0, (16, 3, 8, 8))[0])
            net.cleargrads()
            # As small as late in training, where they would vanish without their scale.
            F.sum(1e-6 * net(x) ** 2).backward()
            found[precision] = {name: p.grad for name, p in net.namedparams()} | {'x': x.grad}
        for name, gradient in found['float16'].items():
            expected = found['float32'][name]
            assert gradient.dtype == np.float32
            difference = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
            # Rounding turns some ReLUs on and off, and deep below that is much of a gradient.
            assert difference < 0.3, name

    def test_what_lies_between_is_float16(self, monkeypatch):
        types = set()

        def run(convolution, *arrays):
            types.add(convolution.dtype)
            computed(convolution, *arrays)

        computed = cudnn_plans.run
        monkeypatch.setattr(cudnn_plans, 'run', run)
        steps('cudnn', 'float16', 1)
        assert types == {'float16'}

    def test_arrays_that_cudnn_does_not_take_are_refused(self):
        with pytest.raises(ConfigError, match='float16 cannot be used here'):
            in_low_precision('float16', lambda x: x, np.zeros((1, 1, 2, 2), np.float64), ())

    def test_cudnn_has_no_bfloat16_here(self):
        with pytest.raises(ConfigError, match='bfloat16 cannot be used here') as raised:
            in_low_precision('bfloat16', lambda x: x, np.zeros((1, 1, 2, 2), 'f'), ())
        assert 'the backend is cudnn' in raised.value.seen


@pytest.mark.parametrize(('precision', 'expected'), [('float32', True), ('strict_float32', False)])
def test_strict_float32_keeps_off_the_tensor_cores_in_both_directions(
    precision, expected, monkeypatch
):
    seen = set()

    def run(convolution, *arrays):
        seen.add((convolution.operation, convolution.tensor_cores))
        computed(convolution, *arrays)

    computed = cudnn_plans.run
    monkeypatch.setattr(cudnn_plans, 'run', run)
    steps('cudnn', precision, 1)
    operations = ('forward', 'gradient_x', 'gradient_W')
    assert seen == {(operation, expected) for operation in operations}


def test_a_training_batch_is_made_by_the_kernel_and_is_the_same():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    choices = rng.integers(0, 5, 6, np.int32), rng.integers(0, 5, (6, 2), np.int32)
    arguments = (images, images.mean(axis=0, dtype='f') / 255, *choices, rng.random(6) < 0.5, 2)
    found = {}
    for name in ('cudnn', 'chainer'):
        backends.use(name)
        found[name] = augment(*arguments)
    np.testing.assert_array_equal(found['cudnn'], found['chainer'])
    assert found['cudnn'].transpose(0, 2, 3, 1).flags.c_contiguous
    assert found['chainer'].flags.c_contiguous


def what_surrounds_the_net(logits, x, y, partner, lam, index):
    """Losses, mixtures and records of a step; returns all results and the logits' gradient."""
    logits, sums = chainer.Variable(logits), np.zeros(3)
    store = LabelStore(np.zeros(9, int), y.shape[1], window=2)
    log_f = log_softmax(logits)
    loss = losses.joint_loss(y, log_f, 1.2, 0.8)
    loss.backward()
    mixed = losses.mix_up(x, partner, lam)
    store.record(np.exp(log_f.array), index, index % 3)
    epoch_sums.add(sums, loss, log_f, y)
    return log_f.array, loss.array, logits.grad, mixed, store.past.history, sums


def test_what_surrounds_the_net_is_that_of_chainer_and_one_kernel_each(monkeypatch):
    logits, x = draw(0, (6, 5), (6, 3, 4, 4))
    rng, found = np.random.default_rng(0), {}
    y, lam = rng.dirichlet(np.ones(5), 6).astype('f'), np.array(0.3, 'f')
    for name in ('cudnn', 'chainer'):
        backends.use(name)
        with launches(monkeypatch) as launched:
            given = (
                logits,
                channel_last(x),
                y,
                np.arange(6)[::-1],
                lam,
                np.array([7, 1, 2, 3, 7, 0]),
            )
            found[name] = what_surrounds_the_net(*given), launched
    for actual, expected in zip(found['cudnn'][0], found['chainer'][0], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert found['chainer'][1] == []
    assert found['cudnn'][1] == [
        'log_softmax.log_softmax', 'losses.joint_loss', 'losses.joint_loss_gradient',
        'log_softmax.gradient_x', 'mix_up.mix_up', 'label_store.record', 'losses.add_to_sums',
    ]  # fmt: skip


def test_a_second_derivative_is_refused():
    x, W = map(chainer.Variable, draw(0, (1, 2, 4, 4), (2, 2, 3, 3)))
    y = F.sum(convolution_2d(x, W, 1, 1))
    with pytest.raises(NotImplementedError, match='no second derivative'):
        y.backward(enable_double_backprop=True)
