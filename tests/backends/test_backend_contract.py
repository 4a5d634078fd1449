"""Both backends keep the contract."""

import doctest
import inspect

import pytest

from chainer_jo import backends
from chainer_jo.backends import contract, cudnn, onednn


def functions(protocol):
    return {
        name: list(inspect.signature(function).parameters.values())[1:]
        for name, function in vars(protocol).items()
        if inspect.isfunction(function) and not name.startswith('_')
    }


OF_ALL, OF_A_GPU = functions(contract.Backend), functions(contract.GPUBackend)
CASES = [(module, name) for module in (onednn, cudnn) for name in OF_ALL]
CASES += [(cudnn, name) for name in OF_A_GPU]


@pytest.mark.parametrize(('module', 'name'), CASES, ids=lambda v: getattr(v, '__name__', v))
def test_a_backend_has_every_function_with_the_arguments_of_the_contract(module, name):
    wanted = (OF_ALL | OF_A_GPU)[name]
    found = list(inspect.signature(getattr(module, name)).parameters.values())
    assert [(p.name, p.default) for p in found[: len(wanted)]] == [
        (p.name, p.default) for p in wanted
    ]
    # What a backend takes besides is for itself.
    assert all(p.default is not p.empty for p in found[len(wanted) :])


def test_the_backend_of_a_cpu_has_none_of_what_only_a_gpu_needs():
    assert not [name for name in OF_A_GPU if hasattr(onednn, name)]


def test_every_function_of_a_backend_that_is_asked_for_is_in_the_contract():
    from test_architecture import TREES, calls

    asked = {
        call.args[0].value
        for module, tree in TREES.items()
        if not module.startswith('backends/')
        for name, call in calls(tree)
        if name == 'backends.op'
    }
    used = {
        name.removeprefix('self.backend.')
        for tree in TREES.values()
        for name, _ in calls(tree)
        if name.startswith('self.backend.')
    }
    assert asked
    assert used
    assert asked | used <= OF_ALL.keys() | OF_A_GPU.keys()
    assert callable(backends.op)


def test_the_example_of_the_door_is_true():
    found = doctest.testmod(backends)
    assert found.attempted > 2
    assert not found.failed
