import errno
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque

import mpi
import pytest
import tiny

from chainer_jo import store
from chainer_jo.errors import StoppedError
from chainer_jo.sweep import local
from chainer_jo.sweep.overview import Overview
from chainer_jo.training import failure, mpiexec
from chainer_jo.training.trial import Observer

NEVER = 10**6


def sweep(out, jobs=2, on_line=lambda config, line: None, threads=1, **more):
    return local.LocalSweep(tiny.machine(out), jobs, threads, on_line, **more)


def test_all_trials_run_and_tell_their_start_epochs_and_result(tmp_path):
    configs, lines = [tiny.config(name) for name in ('cross_entropy', 'ours')], {}
    failures = sweep(
        tmp_path, on_line=lambda config, line: lines.setdefault(config.trial, []).append(line)
    ).run(configs)
    assert failures == []
    for config in configs:
        start, begin, *others, result = lines[config.trial]
        assert start == {'start': []}
        assert begin['begin']['trial'] == config.trial
        rows = [line for line in others if 'step' not in line]
        assert [row['epoch'] for row in rows] == list(range(1, config.epochs + 1))
        assert result['result'] == store.read_sealed(
            tiny.folder(config, tmp_path) / 'result.json'
        )  # fmt: skip


def test_a_failed_trial_is_told_with_its_message_and_the_others_go_on(tmp_path):
    good = tiny.config('cross_entropy')
    bad = tiny.config('cross_entropy', 'cross_entropy.train.learning_rate=1e9')
    (error,) = sweep(tmp_path).run([bad, good])
    assert error.exit_code == 5
    assert error.problem == f'trial {bad.trial} failed'
    assert 'error: training diverged' in error.seen
    assert (tiny.folder(good, tmp_path) / 'result.json').exists()
    # Kept for plan.
    seen = Overview([bad, good], tmp_path).trials
    assert [trial.state for trial in seen] == ['failed', 'done']
    assert seen[0].detail == error.reason
    assert re.fullmatch(
        r'training diverged: .* is not finite \(stage train, epoch .*\)', error.reason
    )


def test_a_trial_whose_process_is_killed_is_tried_again_and_ends_the_same(tmp_path):
    config, killed, texts = tiny.config('cross_entropy'), [], []
    holder = tiny.folder(config, tmp_path) / '.holder'

    def kill_once(config, line):
        if 'epoch' in line and not killed:
            killed.append(int(holder.read_text().split()[1]))
            os.kill(killed[0], signal.SIGKILL)

    machine = tiny.machine(tmp_path, snapshot_seconds=0)
    ended = local.LocalSweep(machine, 1, 1, kill_once, say=texts.append).run([config])
    assert ended == []
    assert 'killed by SIGKILL; it is tried again' in texts[0]
    assert not (holder.parent / failure.NAME).exists()
    result = store.read_sealed(holder.parent / 'result.json')
    tiny.run(config, tmp_path / 'whole', threads=1)
    whole = store.read_sealed(tiny.folder(config, tmp_path / 'whole') / 'result.json')
    assert tiny.digests(result) == tiny.digests(whole)


@pytest.fixture
def starts_fail(monkeypatch):
    """Makes starts with these numbers fail, of a process or of the thread that reads it."""

    def fail(kind, name, error, numbers):
        real, count = getattr(kind, name), iter(range(100))

        def start(self, *args, **options):
            # The threads of the pool that runs the trials start.
            if not getattr(self, 'name', '').startswith('ThreadPool') and next(count) in numbers:
                raise error
            return real(self, *args, **options)

        monkeypatch.setattr(kind, name, start)

    return fail


@pytest.mark.parametrize(
    ('kind', 'name', 'error'),
    [
        (subprocess.Popen, '__init__', BlockingIOError(errno.EAGAIN, 'no more processes')),
        (threading.Thread, 'start', RuntimeError("can't start new thread")),
    ],
    ids=['process', 'thread'],
)
def test_a_trial_whose_process_cannot_be_started_is_tried_again(
    kind, name, error, tmp_path, starts_fail
):
    configs, texts = [tiny.config('cross_entropy', seed=seed) for seed in (0, 1)], []
    starts_fail(kind, name, error, {0})
    assert sweep(tmp_path, 1, say=texts.append).run(configs) == []
    assert texts == [
        f'trial {configs[0].trial} failed: its process cannot be started ({error}); '
        'it is tried again'
    ]
    assert all((tiny.folder(config, tmp_path) / 'result.json').exists() for config in configs)


def test_a_trial_whose_process_never_starts_has_failed_and_the_others_are_trained(
    tmp_path, starts_fail
):
    never, trained = (tiny.config('cross_entropy', seed=seed) for seed in (0, 1))
    error = OSError(errno.ENOMEM, 'Cannot allocate memory')
    starts_fail(subprocess.Popen, '__init__', error, {0, 2})
    (failed,) = sweep(tmp_path, 1).run([never, trained])
    assert (failed.trial, failed.exit_code) == (never.trial, 7)
    assert 'its process cannot be started' in failed.seen
    assert (tiny.folder(trained, tmp_path) / 'result.json').exists()


def test_a_failure_that_cannot_be_recorded_raises_nothing(tmp_path, monkeypatch):
    def stale(path, **_):
        raise OSError(errno.ESTALE, '')

    monkeypatch.setattr(os, 'stat', stale)
    failure.keep(tmp_path / 'runs' / 'trial', 8, 'killed')
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@mpi.NEEDED
def test_a_trial_of_several_processes_is_tried_again_after_one_was_killed(tmp_path):
    config, killed, texts = tiny.config('cross_entropy'), [], []

    def kill_once(config, line):
        if 'epoch' in line and not killed:
            pid = int((tiny.folder(config, tmp_path) / '.holder').read_text().split()[1])
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    machine = tiny.machine(tmp_path, snapshot_seconds=0)
    words = {'say': texts.append, 'launcher': mpiexec.launcher(2)}
    assert local.LocalSweep(machine, 1, 1, kill_once, **words).run([config]) == []
    assert texts[-1].endswith('its process was killed by SIGKILL; it is tried again')
    result = store.read_sealed(tiny.folder(config, tmp_path) / 'result.json')
    assert result['environment']['processes'] == 2


@pytest.mark.parametrize(
    ('said', 'number'),
    [
        ('=  EXIT CODE: 9\nYOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)', 9),
        ('process rank 1 with PID 4459 on node vm exited on\nsignal 11 (Segmentation fault).', 11),
        ('error: stopped by SIGTERM\n  seen: (signal 15)', None),
    ],
    ids=['MPICH', 'Open MPI', 'our own words'],
)
def test_the_signal_that_killed_a_rank_is_in_the_words_of_mpiexec(said, number):
    assert mpiexec.killed_by(said) == number


def test_while_another_process_trains_a_trial_no_process_is_started_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(local, 'RETRY_SECONDS', 0.01)
    config, started, said = tiny.config('cross_entropy'), [], []
    monkeypatch.setattr(
        local.LocalSweep, '_attempt', lambda self, config: started.append(config) or (0, '')
    )
    with store.lock(tiny.folder(config, tmp_path)):
        run = threading.Thread(
            target=local.LocalSweep._work,
            args=(sweep(tmp_path, say=said.append), deque([config])),
        )
        run.start()
        time.sleep(0.1)
        assert started == []
        assert said == ['other processes are training the remaining trials']
    run.join()
    assert started == [config]


def test_a_failure_is_forgotten_as_soon_as_the_trial_is_trained_again(tmp_path):
    config = tiny.config('cross_entropy')
    folder = tiny.folder(config, tmp_path)
    folder.parent.mkdir()
    failure.keep(folder, 8, 'its process was killed by SIGKILL')
    seen = []
    tiny.run(config, tmp_path, Observer(epoch=lambda row: seen.append(failure.reason(folder))))
    assert set(seen) == {None}
    # Killed between its result and its end: the next process finds the result, and nothing else.
    failure.keep(folder, 8, 'its process was killed by SIGKILL')
    tiny.run(config, tmp_path, Observer(epoch=lambda row: pytest.fail('trained again')))
    assert failure.reason(folder) is None


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_every_trial_after_a_snapshot(signum, tmp_path):
    configs = [
        tiny.config('cross_entropy', f'cross_entropy.train.epochs={NEVER}', seed=seed)
        for seed in range(3)
    ]
    running = set()

    def stop_when_two_train(config, line):
        running.add(config.trial)
        if len(running) == 2 and 'epoch' in line:
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with pytest.raises(StoppedError) as error:
        sweep(tmp_path, on_line=stop_when_two_train).run(configs)
    assert error.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before
    assert len(running) == 2
    for config in configs:
        taken = list(tiny.folder(config, tmp_path).glob('snapshot-*.arrays'))
        assert bool(taken) == (config.trial in running)


def test_a_trial_that_another_process_holds_is_left_until_the_others_are_done(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(local, 'RETRY_SECONDS', 0.1)
    held, free = (tiny.config('cross_entropy', seed=seed) for seed in (0, 1))
    order, release = [], threading.Event()

    def on_line(config, line):
        if 'result' in line:
            order.append(config)
            release.set()

    def hold():
        with store.lock(tiny.folder(held, tmp_path)):
            taken.set()
            release.wait()

    taken = threading.Event()
    other = threading.Thread(target=hold)
    other.start()
    taken.wait()
    assert sweep(tmp_path, jobs=1, on_line=on_line).run([held, free]) == []
    other.join()
    assert order == [free, held]


def test_trials_side_by_side_share_a_first_stage_and_end_as_alone(tmp_path):
    configs = [
        tiny.config('ours'),
        tiny.config('tanaka'),
        tiny.config('ours', 'ours.fine_tune.loss=kl'),
    ]
    machine = tiny.machine(tmp_path / 'shared', share=True)
    assert local.LocalSweep(machine, 2, 1, lambda config, line: None).run(configs) == []
    assert sweep(tmp_path / 'alone').run(configs) == []

    for config in configs:
        shared, alone = (
            store.read_sealed(tiny.folder(config, tmp_path / out) / 'result.json')
            for out in ('shared', 'alone')
        )
        assert tiny.digests(shared) == tiny.digests(alone)
        assert 'shared' not in alone
    # Two begin at once and train their own; the third comes after one of them.
    assert shared['shared']['trial'] in {config.trial for config in configs[:2]}


def test_the_longest_trials_start_first(tmp_path):
    short, long = tiny.config('cross_entropy'), tiny.config('ours')
    started = []
    sweep(
        tmp_path, 1, lambda config, line: started.append(config) if 'start' in line else None
    ).run([short, long])
    assert started == [long, short]


@pytest.mark.parametrize('threads', [1, 2])
def test_a_trial_that_begins_has_the_threads_of_the_sweep_whatever_the_environment_says(
    threads, tmp_path, monkeypatch
):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    monkeypatch.setenv('OMP_WAIT_POLICY', 'PASSIVE')  # Waiting threads leave a busy core alone.
    config = tiny.config('cross_entropy')
    assert sweep(tmp_path, threads=threads).run([config]) == []
    result = store.read_sealed(tiny.folder(config, tmp_path) / 'result.json')
    assert result['environment']['threads'] == threads
