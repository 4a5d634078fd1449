import chainer
import chainer.functions as F
import numpy as np
import pytest

from chainer_jo.functions.batch_normalization import batch_normalization
from chainer_jo.functions.convolution import convolution_2d
from chainer_jo.functions.first_order import FirstOrderFunction
from chainer_jo.functions.pooling import global_average_pooling
from chainer_jo.functions.tape import Activation, Tape

pytestmark = pytest.mark.usefixtures('onednn_loaded')


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def forward(x, W, V, gamma, beta):
    """A net in which an activation and a parameter are used twice, and a shortcut leads past."""
    running = np.zeros(4, np.float32), np.ones(4, np.float32)
    h = batch_normalization(x, gamma, beta, *running, relu=True)
    h = convolution_2d(h, W, 1, 1, convolution_2d(h, V, 1, 0, x))
    return global_average_pooling(convolution_2d(h, W, 1, 1, h))


SHAPES = ((3, 4, 6, 5), (4, 4, 3, 3), (4, 4, 1, 1), (4,), (4,))


def test_gradients_are_those_of_chainers_graph_bit_for_bit():
    x, *parameters = draw(0, *SHAPES)
    (gy,) = draw(1, (3, 4))
    variables = [chainer.Variable(x), *map(chainer.Parameter, parameters)]
    expected = forward(*variables)
    F.sum(expected * gy).backward()

    tape = Tape(recording=True)
    inputs = [Activation(x, tape), *map(chainer.Parameter, parameters)]
    y = forward(*inputs)
    np.testing.assert_array_equal(y.array, expected.array)
    for actual, variable in zip(tape.gradients(y, gy, inputs), variables, strict=True):
        np.testing.assert_array_equal(actual, variable.grad)


def test_one_gradient_can_be_asked_for_alone():
    x, *parameters = draw(0, *SHAPES)
    found = []
    for wanted in (slice(2, 3), slice(None)):
        tape = Tape(recording=True)
        inputs = [Activation(x, tape), *map(chainer.Parameter, parameters)]
        y = forward(*inputs)
        found.append(tape.gradients(y, np.ones((3, 4), np.float32), inputs[wanted]))
    (alone,), together = found
    np.testing.assert_array_equal(alone, together[2])


def test_gradients_are_given_once_and_only_if_the_tape_recorded():
    for recording in (True, False):
        tape = Tape(recording)
        x = Activation(draw(0, (1, 2, 3, 3))[0], tape)
        y, gy = global_average_pooling(x), np.ones((1, 2), np.float32)
        if recording:
            tape.gradients(y, gy, [x])
        with pytest.raises(RuntimeError, match='once, and only if it was recording'):
            tape.gradients(y, gy, [x])


class Product(FirstOrderFunction):
    def forward(self, inputs):
        return (inputs[0] * inputs[1],)


def test_a_function_gets_the_array_that_stands_for_a_parameter():
    W = chainer.Parameter(np.ones(3, np.float32))
    tape = Tape(recording=True, arrays={id(W): np.full(3, 2, np.float32)})
    x = Activation(np.ones(3, np.float32), tape)
    assert tape.apply(Product(), (x, W)).array.tolist() == [2, 2, 2]
