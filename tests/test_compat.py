"""Chainer 7.8.1 on today's NumPy and Python."""

import subprocess
import sys

import chainer
import numpy as np
import pytest
from chainer import functions as F
from chainer import gradient_check
from chainer.functions.array import as_strided


def run_python(code):
    """Runs ``code`` in a new interpreter in which every warning is an error."""
    return subprocess.run(
        [sys.executable, '-W', 'error', '-c', code], capture_output=True, text=True, check=False
    )


def test_a_new_interpreter_imports_chainer_without_a_warning():
    done = run_python(
        'import chainer_jo, chainer, chainer.links, chainer.training.extensions\n'
        'from chainer import gradient_check\n'
        'print(chainer.__version__)'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '7.8.1\n', '')


def test_the_numpy_namespace_stays_as_it_was():
    done = run_python(
        'import numpy, numpy.testing, sys\n'
        'before = dict(vars(numpy))\n'
        'import chainer_jo, chainer, chainer.testing\n'
        'after = {n: v for n, v in vars(numpy).items() if v is not sys.modules.get("numpy." + n)}\n'
        'print([n for n in after if after[n] is not before.get(n)])\n'
        'print([n for n in before if not hasattr(numpy, n)])'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '[]\n[]\n', '')


def test_install_after_chainer_was_imported_changes_nothing():
    done = run_python(
        'import sys, types\n'
        'sys.modules["chainer"] = types.ModuleType("chainer")\n'
        'before = list(sys.meta_path)\n'
        'import chainer_jo\n'
        'print(sys.meta_path == before)'
    )
    assert (done.returncode, done.stdout) == (0, 'True\n')


def test_install_twice_is_install_once():
    done = run_python(
        'import chainer_jo, sys\n'
        'before = list(sys.meta_path)\n'
        'chainer_jo.compat.install()\n'
        'print(sys.meta_path == before)'
    )
    assert (done.returncode, done.stdout) == (0, 'True\n')


def test_a_rewritten_module_keeps_its_line_numbers():
    with open(as_strided.__file__) as file:
        lines = file.read().splitlines()
    line = as_strided.AsStridedGrad.forward.__code__.co_firstlineno
    assert lines[line - 1] == '    def forward(self, grads):'
    assert F.as_strided is as_strided.as_strided


def test_as_strided_passes_gradients_back_to_every_use_of_an_element():
    x = chainer.Variable(np.arange(5, dtype='f'))
    windows = F.as_strided(x, shape=(3, 3), strides=(1, 1), storage_offset=0)
    F.sum(windows).backward()
    uses = np.zeros(5, 'f')
    for row in range(3):
        for column in range(3):
            uses[row + column] += 1
    np.testing.assert_array_equal(x.grad, uses)


@pytest.mark.parametrize('align_corners', [True, False])
def test_resize_images_to_twice_the_size_keeps_a_constant_image(align_corners):
    x = np.full((1, 2, 3, 4), 7, 'f')
    y = F.resize_images(x, (6, 8), align_corners=align_corners).array
    np.testing.assert_allclose(y, np.full((1, 2, 6, 8), 7, 'f'), rtol=1e-6)


def test_resize_images_interpolates_between_two_pixels():
    x = np.array([[[[0, 4]]]], 'f')
    y = F.resize_images(x, (1, 5)).array
    np.testing.assert_array_equal(y, np.array([[[[0, 1, 2, 3, 4]]]], 'f'))


def test_gradient_check_accepts_a_right_gradient_and_refuses_a_wrong_one():
    class Double(chainer.FunctionNode):
        def __init__(self, factor):
            self.factor = factor

        def forward(self, inputs):
            return (2 * inputs[0],)

        def backward(self, indexes, grads):
            return (self.factor * grads[0],)

    x = np.ones((2, 3))
    gradient_check.check_backward(lambda x: Double(2).apply((x,))[0], x, x)
    with pytest.raises(AssertionError):
        gradient_check.check_backward(lambda x: Double(3).apply((x,))[0], x, x)
