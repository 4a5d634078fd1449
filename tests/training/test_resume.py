"""Every method, stopped anywhere, ends as if it had never been stopped."""

import os
import signal

import pytest
import tiny

from chainer_jo import paper
from chainer_jo.errors import StoppedError
from chainer_jo.training import evaluation, trial

EVERY_STEP = range(1, tiny.STEPS + 1)


def stages(method):
    return len(tiny.config(method).stages)


def run_until_done(config, out, observer=tiny.SILENT, **options):
    """Runs the trial until it is not stopped any more and returns how often it was."""
    stops = 0
    while True:
        try:
            tiny.run(config, out, observer, seconds=0, **options)
        except StoppedError:
            stops += 1
        else:
            return stops


# At the end of an epoch, within one, and at the end of a stage; in the long form after every step.
@pytest.mark.parametrize('steps', [(3, 6, 7), pytest.param(EVERY_STEP, marks=pytest.mark.long)])
@pytest.mark.parametrize('method', paper.methods())
def test_a_trial_stopped_in_every_stage_ends_like_one_that_was_not(
    method, steps, sigterm_at, tmp_path
):
    config = tiny.config(method)
    tiny.run(config, tmp_path / 'whole')
    sigterm_at(steps)
    assert run_until_done(config, tmp_path / 'pieces') == len(steps) * stages(method)
    assert tiny.outcome(config, tmp_path / 'pieces') == tiny.outcome(config, tmp_path / 'whole')


def test_d2l_stopped_after_its_turning_point_ends_like_one_that_was_not(sigterm_at, tmp_path):
    config = tiny.config('d2l', 'd2l.train.begin=1', 'd2l.train.lid_window=1')
    whole = tiny.run(config, tmp_path / 'whole')
    never_turned = tiny.run(tiny.config('d2l'), tmp_path / 'never_turned')
    assert whole['digests']['model'] != never_turned['digests']['model']
    sigterm_at((3, 6, 7))
    assert run_until_done(config, tmp_path / 'pieces') == 3
    assert tiny.outcome(config, tmp_path / 'pieces') == tiny.outcome(config, tmp_path / 'whole')


@pytest.mark.parametrize(
    'method', ['ours', *(pytest.param(name, marks=pytest.mark.long) for name in paper.methods())]
)
def test_a_trial_that_breaks_off_at_every_epoch_end_ends_like_one_that_does_not(method, tmp_path):
    config, seen = tiny.config(method), set()

    def break_off_once(row):
        if row['epoch'] not in seen:
            seen.add(row['epoch'])
            # No snapshot is taken on this way out, so the last step is done again.
            raise StoppedError(signal.SIGTERM, seen='', fix='')

    tiny.run(config, tmp_path / 'whole')
    observer = trial.Observer(lambda *_: None, break_off_once, lambda *_: None)
    stops = run_until_done(config, tmp_path / 'pieces', observer)
    assert stops == config.epochs == 3 * stages(method)
    assert tiny.outcome(config, tmp_path / 'pieces') == tiny.outcome(config, tmp_path / 'whole')


def test_a_resumed_trial_says_how_often_and_from_where(sigterm_at, tmp_path):
    config, started = tiny.config('cross_entropy'), []
    sigterm_at(EVERY_STEP)
    observer = trial.Observer(
        lambda epochs, rows: started.append((epochs, len(rows))), lambda *_: None, lambda *_: None
    )
    run_until_done(config, tmp_path, observer)
    # One that comes in the last step of an epoch is heeded before the epoch is evaluated.
    assert started == [(3, epoch) for epoch in (0, 0, 0, 0, 1, 1, 2, 2)]
    assert tiny.run(config, tmp_path)['times']['resumes'] == tiny.STEPS


def test_a_finished_trial_is_not_trained_again(tmp_path):
    config = tiny.config('cross_entropy')
    first = tiny.run(config, tmp_path)
    assert tiny.run(config, tmp_path) == first


@pytest.mark.parametrize(
    'method', ['ours', *(pytest.param(name, marks=pytest.mark.long) for name in paper.methods())]
)
def test_a_signal_within_an_evaluation_is_heeded_before_its_next_batch(
    method, monkeypatch, tmp_path
):
    config, calls, signals = tiny.config(method), [], []
    kind = type(tiny.assembly(config).method)
    predict = kind.predict
    # Replaced here too: what a method of its own predicts by is among its files.
    with monkeypatch.context() as patch:
        patch.setattr(kind, 'predict', lambda *arguments: predict(*arguments))
        tiny.run(config, tmp_path / 'whole')

    def interrupted(*arguments):
        # No sooner than an evaluation can be done, and at another batch each time: there are five.
        if not signals or len(calls) - signals[-1] == 7:
            signals.append(len(calls))
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(1)
        return predict(*arguments)

    monkeypatch.setattr(kind, 'predict', interrupted)
    stops = []
    while not stops or stops[-1]:
        try:
            tiny.run(config, tmp_path / 'pieces')
        except StoppedError:
            stops.append(len(calls))
        else:
            stops.append(0)
    # One more: the batch in which it came.
    assert stops[:-1] == [place + 1 for place in signals]
    assert len(signals) >= 3 * stages(method)
    assert tiny.outcome(config, tmp_path / 'pieces') == tiny.outcome(config, tmp_path / 'whole')


@pytest.mark.parametrize('method', ['forward_estimated', 'gce', 'd2l'])
def test_a_signal_within_a_query_of_the_method_is_heeded_before_its_next_batch(
    method, monkeypatch, tmp_path
):
    config, calls, stops, collect = tiny.config(method), [], [], evaluation.collect
    monkeypatch.setattr(evaluation, 'BATCH_SIZE', 32)
    tiny.run(config, tmp_path / 'whole')

    def interrupted(function, *arguments, **keywords):
        def one_batch(x):
            calls.append(1)
            # The second batch of the first query, and of its repetition.
            if len(calls) in (2, 4):
                os.kill(os.getpid(), signal.SIGTERM)
            return function(x)

        return collect(one_batch, *arguments, **keywords)

    monkeypatch.setattr(evaluation, 'collect', interrupted)
    while len(stops) < 2:
        with pytest.raises(StoppedError):
            tiny.run(config, tmp_path / 'pieces')
        stops.append(len(calls))
    tiny.run(config, tmp_path / 'pieces')
    assert stops == [2, 4]
    assert tiny.outcome(config, tmp_path / 'pieces') == tiny.outcome(config, tmp_path / 'whole')
