"""What a trial tells while it runs."""

from types import SimpleNamespace

import pytest
import tiny

from chainer_jo.training import extensions, trial


@pytest.fixture
def at_every_step(monkeypatch):
    monkeypatch.setattr(extensions.Progress, 'SECONDS', 0)


def test_a_trial_says_at_once_what_it_does(tmp_path):
    config, told = tiny.config('ours'), []
    observer = trial.Observer(begin=told.append, step=lambda _: told.append('step'))
    made = tiny.run(config, tmp_path, observer)
    facts = told[0]
    assert told.count(facts) == 1
    assert facts == {
        'trial': config.trial,
        'data': 'Fashion-MNIST',
        'variant': 'embedded subset',
        'images': 128,
        'wrong': made['noise']['wrong'],
        'method': 'Ours (mix-up with KL entropy)',
        'stages': {'correct': 3, 'fine_tune': 3},
        'steps_per_epoch': 3,
        'environment': made['environment'],
        'out': str(tiny.folder(config, tmp_path)),
    }


def test_progress_counts_steps_within_epochs_and_epochs_within_the_trial(tmp_path, at_every_step):
    told = []
    tiny.run(tiny.config('ours'), tmp_path, trial.Observer(step=told.append))
    seen = [(p['stage'], p['stage_epoch'], p['step'], p['steps'], p['epochs_done']) for p in told]
    # Batches of 56 in epochs of 128 images: 3, 2 and 2 steps.
    steps = [(1, 1, 3, 0), (1, 2, 3, 0), (1, 3, 3, 1), (2, 1, 2, 1), (2, 2, 2, 2), (3, 1, 2, 2)]
    steps += [(3, 2, 2, 3)]
    first = [('correct', *step) for step in steps]
    second = [('fine_tune', *step[:3], step[3] + 3) for step in steps]
    assert seen == first + second
    assert {p['epochs'] for p in told} == {6}
    assert all(p['loss'] > 0 for p in told)


def test_the_time_left_is_that_of_the_measured_steps(at_every_step, tmp_path, monkeypatch):
    """A clock that every look moves on by a second tells how many looks, hence steps, are left."""
    told = []
    seconds = iter(range(10**6))
    monkeypatch.setattr(extensions.time, 'monotonic', lambda: float(next(seconds)))
    progress = extensions.Progress(told.append, {'train': {'epochs': 3}, 'then': {'epochs': 3}})
    updater = tiny.updater(tiny.config('cross_entropy'))
    trainer = SimpleNamespace(updater=updater)
    progress.initialize(trainer)
    for _ in range(tiny.STEPS):
        updater.update()
        progress(trainer)
    assert told[0]['seconds_left'] is None
    left = [p['seconds_left'] for p in told[1:]]
    assert left == [2 * tiny.STEPS - done for done in range(2, tiny.STEPS + 1)]


def test_it_is_told_about_twice_a_second_and_the_result_is_the_same(tmp_path, monkeypatch):
    config, told = tiny.config('ours'), []
    tiny.run(config, tmp_path / 'silent')
    now = iter(range(10**6))
    # Ten steps a second, as far as anybody can see.
    monkeypatch.setattr(extensions, 'time', SimpleNamespace(monotonic=lambda: next(now) / 10))
    tiny.run(config, tmp_path / 'told', trial.Observer(step=told.append))
    monkeypatch.undo()
    # The first step of each stage, and one of every five or fewer that follow.
    assert 3 <= len(told) <= 4
    silent, loud = (tiny.outcome(config, tmp_path / name) for name in ('silent', 'told'))
    assert loud == silent
