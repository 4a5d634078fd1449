import chainer
import pytest
import tiny

from chainer_jo import backends
from chainer_jo.errors import ConfigError
from chainer_jo.training import device


@pytest.fixture(autouse=True)
def automatic_backend():
    yield
    backends.use('auto')


def test_the_cpu_can_always_be_chosen():
    assert device.choose('cpu', 'auto') == '@numpy'


@pytest.mark.parametrize('name', ['gpu', 'cuda', 'cuda:', 'cuda:x', '0', ''])
def test_a_device_that_does_not_exist_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match='unknown device') as error:
        device.choose(name, 'auto')
    assert error.value.fix == 'choose auto, cpu or cuda:N'


@pytest.mark.skipif(chainer.backends.cuda.available, reason='here is a GPU')
def test_a_gpu_that_cannot_be_used_is_never_replaced_by_the_cpu_in_silence():
    assert device.choose('auto', 'auto') == '@numpy'
    with pytest.raises(ConfigError, match='the device cuda:0 cannot be used'):
        device.choose('cuda:0', 'auto')
    assert device.describe().startswith('none: ')


def test_each_process_has_a_gpu_of_its_own_or_the_only_one_that_it_sees(monkeypatch):
    monkeypatch.setattr(device, 'count_gpus', lambda: 4)
    assert [device.of_rank(number, 3) for number in range(3)] == ['@cupy:0', '@cupy:1', '@cupy:2']
    with pytest.raises(ConfigError, match='5 processes on a machine with 4 GPU') as refused:
        device.of_rank(0, 5)
    assert 'mpiexec -n 4' in refused.value.fix
    monkeypatch.setattr(device, 'count_gpus', lambda: 1)
    assert [device.of_rank(number, 2) for number in range(2)] == ['@cupy:0', '@cupy:0']


def test_a_trial_on_the_cpu_captures_nothing_and_says_so(tmp_path):
    result = tiny.run(tiny.config('cross_entropy'), tmp_path)
    assert result['environment']['graph'] is False
