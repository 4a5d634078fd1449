import chainer
import numpy as np
import pytest
import tiny

from chainer_jo import backends, cli
from chainer_jo.backends import cudnn_plans, onednn, onednn_api
from chainer_jo.errors import ConfigError
from chainer_jo.functions.pooling import global_average_pooling

image = np.zeros((1, 1, 2, 2), np.float32)


@pytest.fixture
def no_wheel(monkeypatch):
    """A machine on which oneDNN's wheel was never installed."""
    # All of the module's: primitives belong to the library that was loaded when they were made.
    caches = [value for value in vars(onednn).values() if hasattr(value, 'cache_clear')]
    caches.append(backends._why_not)
    monkeypatch.setattr(onednn_api, 'WHEEL', 'a-wheel-nobody-has')
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures('onednn_loaded')
class TestWithOneDNN:
    def test_float32_arrays_of_numpy_go_to_onednn(self):
        assert backends.name_for(image) == 'onednn'
        assert backends.name_for(chainer.Variable(image), image) == 'onednn'

    def test_the_door_gives_a_function_for_arrays_that_it_takes_and_else_none(self):
        assert backends.op('average', image) is onednn.average
        assert backends.op('average', chainer.Variable(image), image) is onednn.average
        assert backends.op('average', image.astype(np.float64)) is None
        assert backends.op('linear', image) is None
        backends.use('chainer')
        assert backends.op('average', image) is None

    def test_a_cpu_is_fast_and_has_no_steps_to_capture(self):
        assert backends.is_fast('@numpy')
        assert backends.capturer('@numpy') is None
        backends.use('chainer')
        assert not backends.is_fast('@numpy')

    def test_gradients_are_computed_by_what_computed_the_result(self):
        x = chainer.Variable(np.ones((1, 2, 3, 3), np.float32))
        y = global_average_pooling(x)
        backends.use('chainer')
        y.grad = np.ones((1, 2), np.float32)
        y.backward()
        np.testing.assert_allclose(x.grad, 1 / 9, rtol=1e-6)

    def test_arrays_of_another_type_go_to_chainer(self):
        assert backends.name_for(image.astype(np.float64)) == 'chainer'
        assert backends.name_for(image, image.astype(np.float16)) == 'chainer'

    def test_chainer_can_be_forced(self):
        backends.use('chainer')
        assert backends.name_for(image) == 'chainer'
        assert 'as requested' in backends.describe()

    def test_the_description_names_version_and_threads(self):
        assert backends.describe().startswith('onednn (oneDNN 3.2.')
        assert 'thread' in backends.describe()

    def test_another_version_of_the_library_is_refused(self, monkeypatch):
        monkeypatch.setattr(onednn_api, 'VERSION', (3, 99))
        with pytest.raises(OSError, match=r'oneDNN is 3\.2, not 3\.99'):
            onednn_api.load()


@pytest.mark.usefixtures('no_wheel')
class TestWithoutOneDNN:
    def test_auto_takes_chainer_and_says_why(self):
        assert backends.name_for(image) == 'chainer'
        assert 'a-wheel-nobody-has is not installed' in backends.describe()

    def test_a_trial_says_so_in_one_line(self, tmp_path, capsys):
        config = tiny.config('cross_entropy', 'cross_entropy.train.epochs=1')
        with pytest.raises(SystemExit, match='0'):
            cli.main([*tiny.words(config, tmp_path)])
        lines = [line for line in capsys.readouterr().err.splitlines() if 'on the CPU' in line]
        assert len(lines) == 1
        assert 'a-wheel-nobody-has is not installed' in lines[0]

    def test_asking_for_onednn_is_an_error_with_the_reason(self):
        with pytest.raises(ConfigError, match='a-wheel-nobody-has is not installed'):
            backends.use('onednn')


@pytest.fixture
def no_gpu():
    """Skips a test on a machine with a GPU that cuDNN can use."""
    if backends.name_on('@cupy:0') == 'cudnn':
        pytest.skip('here is a GPU')


@pytest.mark.usefixtures('no_gpu')
class TestWithoutGPU:
    def test_asking_for_cudnn_is_an_error_with_the_reason(self):
        with pytest.raises(ConfigError, match='the backend cudnn cannot be used') as raised:
            backends.use('cudnn')
        assert raised.value.seen
        assert cudnn_plans.WHEEL in raised.value.fix

    def test_a_gpu_would_get_chainers_functions_and_the_description_says_why(self):
        assert backends.name_on('@cupy:0') == 'chainer'
        assert backends.describe('@cupy:0').startswith("chainer (Chainer's own functions; ")

    def test_float16_is_refused(self):
        for backend in (None, 'onednn', 'chainer'):
            with pytest.raises(ConfigError, match='float16 cannot be used here') as raised:
                backends.check_precision('float16', backend)
            assert 'only cudnn, on a GPU, supports it' in raised.value.seen


def test_an_unknown_backend_or_precision_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ConfigError, match='auto, chainer, onednn, cudnn'):
        backends.use('cuda')
    with pytest.raises(ConfigError, match='float32, strict_float32, bfloat16, float16'):
        backends.check_precision('float8')


def test_strict_float32_is_there_for_every_backend():
    for backend in (None, 'onednn', 'cudnn', 'chainer'):
        backends.check_precision('strict_float32', backend)
