"""What the updaters add to a step, and where a stage says which it wants."""

import hashlib
import json
from pathlib import Path

import chainer
import numpy as np
import pytest
import tiny

from chainer_jo import config, methods, paper
from chainer_jo.errors import ConfigError
from chainer_jo.sweep import plan
from chainer_jo.training import evaluation, updaters
from chainer_jo.training.updaters import LabelCorrectionUpdater, MixUpUpdater, StageUpdater

STAGES = [
    (method, stage)
    for method in paper.methods()
    for stage in config.trial(method, 'cifar10', 'symmetric', 0.5, 0).stages
]
RESULTS = sorted((Path(__file__).parents[2] / 'results').glob('**/result.json'))


def updater(method, stage, *overrides):
    return tiny.assembly(tiny.config(method, *overrides)).updater(stage)


@pytest.mark.parametrize(('method', 'stage'), STAGES)
def test_a_stage_gets_the_updater_that_it_names(method, stage):
    expected = {
        ('tanaka', 'correct'): LabelCorrectionUpdater,
        ('ours', 'correct'): LabelCorrectionUpdater,
        ('ours', 'fine_tune'): MixUpUpdater,
        ('mixup', 'train'): MixUpUpdater,
    }
    made = updater(method, stage)
    assert type(made) is expected.get((method, stage), StageUpdater)
    assert isinstance(made, chainer.training.updaters.StandardUpdater)
    assert made.get_iterator('main') is made.iterator
    assert made.get_optimizer('main').target is made.method


def test_the_names_of_updaters_are_no_settings_and_change_no_trial(monkeypatch):
    for method, stage in STAGES:
        assert 'updater' not in tiny.config(method).stages[stage]
        with pytest.raises(ConfigError, match='unknown setting'):
            tiny.config(method, f'{method}.{stage}.updater=mix_up')


@pytest.mark.parametrize('path', RESULTS, ids=lambda path: path.parent.name)
def test_committed_results_still_are_those_of_their_trials(path):
    result = json.loads(path.read_text())
    assert config.from_dict(result['config']).trial == result['trial'] == path.parent.name


@pytest.mark.parametrize('preset', ['quick', 'reduced'])
def test_a_table_still_asks_for_the_trials_that_are_committed(preset):
    asked = {trial.trial for trial in plan.trials('table2', preset)}
    assert asked <= {path.parent.name for path in RESULTS}


@pytest.mark.parametrize('label_pass', ['train', 'eval'])
@pytest.mark.parametrize('kind', ['soft', 'hard'])
def test_labels_change_first_at_the_end_of_epoch_begin(kind, label_pass):
    settings = f'tanaka.correct.labels={kind}', f'tanaka.correct.label_pass={label_pass}'
    made = updater('tanaka', 'correct', *settings)
    made.optimizer.lr = 0.01
    labels = made.method.labels
    noisy = labels.y.copy()
    for epoch in (1, 2, 3):
        while made.epoch < epoch:
            made.update()
        made.correct_labels()
        assert (labels.y == noisy).all() == (epoch < 2)
    mean = labels.past.history.mean(axis=0)
    expected = mean if kind == 'soft' else np.eye(10)[mean.argmax(axis=1)]
    np.testing.assert_allclose(labels.y, expected, atol=1e-6)


def test_outputs_of_a_pass_of_its_own_take_the_place_of_those_in_training():
    made = updater('tanaka', 'correct', 'tanaka.correct.label_pass=eval')
    made.optimizer.lr = 0.01
    history = made.method.labels.past.history
    while made.epoch < 1:
        made.update()
    assert not history.any()
    made.correct_labels()
    expected = evaluation.outputs(made.method, made.iterator.dataset)
    np.testing.assert_array_equal(history[0], expected)


def test_the_weight_decay_of_the_settings_pulls_at_the_weights():
    after = {}
    for decay in (0.0, 0.5):
        made = updater('cross_entropy', 'train', f'common.weight_decay={decay}')
        made.optimizer.lr = 1.0
        before = made.method.net.fc.W.array.copy()
        made.update()
        after[decay] = made.method.net.fc.W.array
    np.testing.assert_allclose(after[0.0] - after[0.5], 0.5 * before, rtol=1e-4, atol=1e-6)


def test_the_labels_of_a_stage_that_corrects_none_stay(tmp_path):
    for method, stage in (('tanaka', 'retrain'), ('ours', 'fine_tune'), ('cross_entropy', 'train')):
        made = updater(method, stage)
        made.optimizer.lr = 0.01
        before = made.method.labels.y.copy()
        for _ in range(3):
            made.update()
        made.correct_labels()
        np.testing.assert_array_equal(made.method.labels.y, before)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_a_batch_of_a_stage_that_mixes_is_mixed(per):
    made = updater('ours', 'fine_tune', f'ours.fine_tune.mix_lambda={per}')
    next(made.iterator)
    batch = made.batch()
    lam = np.broadcast_to(batch.lam, len(batch.x))
    assert (len(np.unique(lam)) > 1) == (per == 'sample')
    for i, j in enumerate(batch.partner):
        mixed = lam[i] * batch.x[i] + (1 - lam[i]) * batch.x[j]
        np.testing.assert_allclose(batch.x_mixed[i], mixed, atol=1e-6)
    plain = updater('ours', 'correct')
    next(plain.iterator)
    assert plain.batch().x_mixed is None


class Both(methods.load('ours')):
    """A method with one stage that records outputs, corrects labels and mixes."""

    def correct(self, batch):
        return self.fine_tune(batch)


def test_a_stage_can_both_record_and_mix(monkeypatch):
    settings = tiny.config('ours').stages
    both = settings['correct'] | settings['fine_tune']
    trial = tiny.config('ours')
    monkeypatch.setitem(trial.stages, 'correct', both)
    monkeypatch.setattr(methods, 'load', lambda name: Both)
    names = ('label_correction', 'mix_up')
    monkeypatch.setattr(paper, 'updaters', lambda method, stage: names)
    made = tiny.assembly(trial).updater('correct')
    made.optimizer.lr = 0.01
    for _ in range(3):
        made.update()
    assert made.epoch == 1
    assert made.batch().x_mixed is not None
    history = made.method.labels.past.history
    np.testing.assert_allclose(history[0].sum(axis=1), 1, atol=1e-5)
    alone = updaters.kind(['label_correction'])
    assert issubclass(updaters.kind(names), alone)
    assert alone is LabelCorrectionUpdater


def test_labels_over_all_past_epochs_are_the_mean_of_all_outputs(tmp_path):
    """`window=all` is the window that holds every epoch."""
    config = tiny.config('ours', 'ours.correct.window=all')
    everything = tiny.run(config, tmp_path)
    assert everything['config']['stages']['correct']['window'] == 'all'
    made = {
        window: updater('tanaka', 'correct', f'tanaka.correct.window={window}')
        for window in ('all', '3')
    }
    for one in made.values():
        one.optimizer.lr = 0.01
        while one.epoch < 3:
            one.update()
        one.correct_labels()
    ys = [one.method.labels.y for one in made.values()]
    # The batch that closes an epoch holds images of the fourth: there all four count.
    ahead = made['all'].method.labels.past.count == 4
    assert 0 < ahead.sum() < 56
    np.testing.assert_allclose(ys[0][~ahead], ys[1][~ahead], atol=1e-6)


@pytest.mark.parametrize('text', ['"all"', 'all', '3'])
def test_a_window_is_a_number_of_epochs_or_all(text):
    trial = tiny.config('tanaka', f'tanaka.correct.window={text}')
    assert trial.stages['correct']['window'] == ('all' if 'all' in text else 3)
    trial = tiny.config('tanaka', 'tanaka.correct.window=all', f'tanaka.correct.window={text}')
    assert trial.stages['correct']['window'] == ('all' if 'all' in text else 3)
    with pytest.raises(ConfigError):
        tiny.config('tanaka', 'tanaka.correct.window=some')


def test_the_digest_of_a_trial_is_that_of_its_settings_alone():
    trial = tiny.config('ours')
    text = json.dumps(trial.as_dict(), sort_keys=True, allow_nan=False)
    assert trial.digest == hashlib.sha256(text.encode()).hexdigest()


def test_an_unknown_kind_of_updater_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown updater 'mixup'") as error:
        updaters.kind(['mixup'])
    assert 'did you mean mix_up?' in error.value.fix


def test_a_method_sees_the_gradients_before_the_step_changes_the_weights(monkeypatch):
    updater = tiny.updater(tiny.config('cross_entropy'))
    W, seen = updater.method.net.fc.W, []
    monkeypatch.setattr(
        updater.method, 'after_backward', lambda batch: seen.append(W.array.copy()), raising=False
    )
    before = W.array.copy()
    updater.update()
    np.testing.assert_array_equal(seen[0], before)
    assert (W.array != before).any()
