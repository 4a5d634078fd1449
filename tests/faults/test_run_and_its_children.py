"""``run`` and the processes of its trials: whoever ends, however it ends, the other knows."""

import os
import signal
import sys
import time

import children
import pytest
import tiny

from chainer_jo.errors import KilledError, OutOfMemoryError, StoppedError, UnforeseenError
from chainer_jo.sweep import attempt, local
from chainer_jo.training import failure, snapshot

NEVER = 'cross_entropy.train.epochs=1000000'
CONFIG = tiny.config('cross_entropy', NEVER)


def words(out, *overrides, trials=2):
    overrides = [*tiny.overrides('cross_entropy'), *overrides]
    return [
        *('run', 'table2', '--preset', 'quick', '--only', 'cross_entropy', '--rates', '0.5'),
        *('--trials', f'{trials}', '--jobs', '2', '--device', 'cpu', '--out', str(out)),
        *(word for override in overrides for word in ('--set', override)),
    ]


def pids_of(out):
    """The processes that train in a folder, by the names that they leave beside their locks."""
    return [int(path.read_text().split()[1]) for path in out.glob('runs/*/.holder')]


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_when_run_is_killed_its_trials_take_a_snapshot_and_end(tmp_path, figure):
    out = tmp_path / 'out'
    child = children.Child(words(out, NEVER), tmp_path / 'log')
    for seed in range(2):
        trial = tiny.config('cross_entropy', NEVER, seed=seed).trial
        child.wait_for(f'{trial}: epoch 1/')
    pids = pids_of(out)
    assert len(pids) == 2
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    began = time.monotonic()
    while any(map(lives, pids)):
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    for seed in range(2):
        config = tiny.config('cross_entropy', NEVER, seed=seed)
        assert snapshot.list_newest_first(tiny.folder(config, out))
    figure('orphans', 'run killed: 2 trials, 2 snapshots, both ended within seconds')


@pytest.mark.parametrize('rounds', [3, pytest.param(20, marks=pytest.mark.long)])
def test_signals_that_come_several_at_once_end_a_run(rounds, tmp_path, figure):
    for number in range(rounds):
        out = tmp_path / f'{number}'
        child = children.Child(words(out, NEVER), tmp_path / 'log')
        child.wait_for('epoch 1/')
        for signum in (signal.SIGTERM, signal.SIGINT) * 10:
            child.send(signum)
        assert child.wait() in (130, 143, -signal.SIGTERM)
        assert list(out.glob('runs/*/snapshot-*.arrays'))
    figure('signals', f'{rounds} runs, 20 signals at once each: {rounds} ended')


def test_damaged_snapshots_are_told_through_run(tmp_path, figure):
    config, out = tiny.config('cross_entropy'), tmp_path / 'out'
    folder = tiny.folder(config, out)
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f'snapshot-{number:06d}.arrays').write_text('nothing of a snapshot')
    child = children.Child(words(out, trials=1), tmp_path / 'log')
    assert child.wait() == 0
    assert 'set aside as snapshot-000002.corrupt, an older one is used' in child.said()
    assert 'set aside as snapshot-000001.corrupt, the trial starts over' in child.said()
    figure('warnings', 'both snapshots damaged under run: 2 warnings told')


def sweep_of(script, tmp_path, monkeypatch, texts=None):
    """Sweeps over one trial whose process runs ``script``; returns failures, lines and texts."""
    lines, texts = [], [] if texts is None else texts
    monkeypatch.setattr(attempt.sys, 'executable', '/bin/sh')
    real = attempt.shlex.split
    monkeypatch.setattr(attempt.shlex, 'split', lambda text: ['python', '-c', script])
    try:
        failures = local.LocalSweep(
            tiny.machine(tmp_path), 1, 1, lambda c, line: lines.append(line),
            lambda c, text: texts.append(text), texts.append,
        ).run([CONFIG])  # fmt: skip
    finally:
        monkeypatch.setattr(attempt.shlex, 'split', real)
    return failures, lines, texts


def test_what_is_not_json_on_stdout_is_passed_on_as_text(tmp_path, monkeypatch):
    script = """echo onednn_verbose,exec,cpu; echo '{"epoch": 1}'; echo 3; printf '{"ep'"""
    failures, lines, texts = sweep_of(script, tmp_path, monkeypatch)
    assert (failures, lines) == ([], [{'epoch': 1}])
    assert texts == ['onednn_verbose,exec,cpu', '3', '{"ep']


STOPPED = 'trap "{}" TERM; kill -TERM $PPID; while :; do sleep 0.1; done'


def test_a_child_that_takes_no_snapshot_after_a_signal_is_told(tmp_path, monkeypatch):
    texts, script = [], STOPPED.format('echo full >&2; exit 6')
    (tmp_path / 'runs').mkdir()
    with pytest.raises(StoppedError) as error:
        sweep_of(script, tmp_path, monkeypatch, texts)
    assert error.value.exit_code == 128 + signal.SIGTERM
    assert error.value.seen == '1 running trial ended without a snapshot'
    (text,) = texts
    assert text.startswith(f'error: trial {CONFIG.trial} failed\n  seen: full')
    assert failure.reason(tiny.folder(CONFIG, tmp_path)) == 'full'


@pytest.mark.parametrize('end', ['exit 143', 'exit 0', 'exit 4', 'trap - TERM; kill -TERM $$'])
def test_a_child_that_ends_by_the_signal_as_it_should_has_not_failed(end, tmp_path, monkeypatch):
    texts = []
    with pytest.raises(StoppedError) as error:
        sweep_of(STOPPED.format(end), tmp_path, monkeypatch, texts)
    assert error.value.seen == 'every running trial took a snapshot'
    assert texts == []


@pytest.mark.parametrize(
    ('script', 'code', 'seen', 'tries'),
    [
        ('kill -KILL $$', KilledError.exit_code, 'its process was killed by SIGKILL', 3),
        ('kill -SEGV $$', KilledError.exit_code, 'its process was killed by SIGSEGV', 3),
        ('exit 143', KilledError.exit_code, 'its process was stopped by SIGTERM', 3),
        ('exit 130', KilledError.exit_code, 'its process was stopped by SIGINT', 3),
        ('echo full >&2; exit 7', OutOfMemoryError.exit_code, 'full', 2),
        (
            'echo Traceback >&2; exit 1',
            UnforeseenError.exit_code,
            'its process ended with a traceback',
            1,
        ),
        ('echo unforeseen >&2; exit 70', UnforeseenError.exit_code, 'unforeseen', 1),
        ('echo usage >&2; exit 2', 2, 'usage', 1),
        ('echo diverged >&2; exit 5', 5, 'diverged', 1),
    ],
)
def test_a_child_that_dies_has_a_code_and_a_number_of_tries_of_its_own(
    script, code, seen, tries, tmp_path, monkeypatch
):
    count = tmp_path / 'count'
    (tmp_path / 'runs').mkdir()
    (error,), _, texts = sweep_of(f'echo >> {count}; {script}', tmp_path, monkeypatch)
    assert error.exit_code == code
    assert error.seen.endswith(seen)
    assert count.read_text() == tries * '\n'
    again = f'trial {CONFIG.trial} failed: {error.reason}; it is tried again'
    assert texts == [again] * (tries - 1) + [str(error)]
    assert failure.reason(tiny.folder(CONFIG, tmp_path)) == error.reason


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs capabilities')
def test_snapshots_that_may_not_be_read_are_no_damage(tmp_path, figure):
    config = tiny.config('cross_entropy')
    folder = tiny.folder(config, tmp_path)
    folder.mkdir(parents=True)
    path = folder / 'snapshot-000001.arrays'
    path.write_text('unread')
    path.chmod(0)
    child = children.Child(
        tiny.words(config, tmp_path), tmp_path / 'log', children.without_privileges
    )
    assert child.wait() == 6
    assert f'error: cannot read {path}\n  seen: Permission denied' in child.said()
    path.chmod(0o600)
    assert path.read_text() == 'unread'
    figure('rights', 'a snapshot of mode 000: exit code 6, left as it is')


def test_the_time_of_a_resumed_trial_is_the_sum(tmp_path):
    from chainer_jo.training import trial

    def stop(row):
        if row['epoch'] == 2:
            time.sleep(1)
            raise StoppedError(signal.SIGTERM, seen='', fix='')

    def slow(row):
        time.sleep(1)

    config = tiny.config('cross_entropy')
    # Slept in epoch 1, whose snapshots hold it; what follows the last snapshot is lost.
    with pytest.raises(StoppedError):
        tiny.run(config, tmp_path, trial.Observer(epoch=lambda row: (slow(row), stop(row))), 0)
    seconds = tiny.run(config, tmp_path)['times']['seconds']
    assert seconds >= 1
