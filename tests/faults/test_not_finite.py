"""F-14: a loss that is no longer a number ends the trial, and no snapshot holds it."""

import children
import numpy as np
import pytest
import tiny

from chainer_jo import paper, store
from chainer_jo.errors import DivergedError
from chainer_jo.training import extensions


@pytest.mark.parametrize('seconds', ['0', '60'])
def test_a_diverged_trial_ends_with_exit_code_5_every_time(seconds, tmp_path, figure):
    config = tiny.config('cross_entropy', 'cross_entropy.train.learning_rate=1e9')
    words = tiny.words(config, tmp_path, '--snapshot-seconds', seconds)
    folder = tiny.folder(config, tmp_path)
    for _ in range(2):
        child = children.Child(words, tmp_path / 'log')
        assert child.wait() == DivergedError.exit_code == 5
        assert 'error: training diverged: ' in child.said()
        assert 'stage train, epoch ' in child.said()
        assert 'learning rate 1e+0' in child.said()
        assert 'Traceback' not in child.said()
        assert not (folder / 'result.json').exists()
    for path in folder.glob('snapshot-*.arrays'):
        for array in store.read_arrays(path).values():
            assert array.dtype.kind != 'f' or np.isfinite(array).all()
    figure('F-14', f'diverged, a snapshot every {seconds} s: exit code 5 twice, no result')


@pytest.mark.parametrize('method', paper.methods())
def test_no_method_ends_as_if_it_had_learnt_at_an_absurd_rate(method, tmp_path):
    settings = paper.hyperparameters('quick')[method]
    rates = [
        f'{method}.{stage}.learning_rate=1e9' for stage in settings if type(settings[stage]) is dict
    ]
    config = tiny.config(method, *rates)
    child = children.Child(tiny.words(config, tmp_path / 'out'), tmp_path / 'log')
    assert child.wait() == 5
    assert 'Traceback' not in child.said()
    assert not (tiny.folder(config, tmp_path / 'out') / 'result.json').exists()


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_whatever_is_not_finite_is_named(value):
    updater = tiny.updater(tiny.config('tanaka'))
    updater.update()
    extensions.require_finite(updater)
    method = updater.method
    for name, array in (
        ('the loss', updater.sums),
        ('labels/y', method.labels.y),
        ('net/fc/W', method.net.fc.W.array),
        ('net/bn/avg_var', method.net.bn.avg_var),
    ):
        before, array.flat[0] = array.flat[0], value
        with pytest.raises(DivergedError, match=f'{name} is not finite') as error:
            extensions.require_finite(updater)
        assert error.value.seen == 'stage correct, epoch 0.44, learning rate 0.01'
        array.flat[0] = before
