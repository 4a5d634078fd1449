"""F-11 to F-13: two processes never write one trial."""

import errno
import fcntl
import signal
import socket
import threading
from collections import Counter

import children
import filelock
import pytest
import tiny

from chainer_jo import store
from chainer_jo.errors import InUseError, WriteError


def test_of_two_processes_the_second_is_refused_with_pid_and_host_of_the_first(tmp_path, figure):
    config, out = tiny.config('cross_entropy'), tmp_path / 'out'
    words = tiny.words(config, out)
    first = children.Child(words, tmp_path / 'first')
    first.wait_for('epoch 1/')
    first.send(signal.SIGSTOP)
    second = children.Child(words, tmp_path / 'second')
    assert second.wait() == InUseError.exit_code == 4
    assert f'seen: pid {first.pid} on {socket.gethostname()}' in second.said()
    first.send(signal.SIGCONT)
    assert first.wait() == 0
    assert tiny.outcome(config, out) == whole(config, tmp_path)
    figure('F-11', 'the second process got exit code 4 with pid and host of the first')


def whole(config, tmp_path):
    tiny.run(config, tmp_path / 'whole')
    return tiny.outcome(config, tmp_path / 'whole')


@pytest.mark.parametrize('starts', [5, pytest.param(100, marks=pytest.mark.long)])
def test_of_two_processes_started_together_one_trains(starts, tmp_path, figure):
    config = tiny.config('cross_entropy')
    expected = whole(config, tmp_path)
    for i in range(starts):
        words = tiny.words(config, tmp_path / f'{i}')
        pair = [children.Child(words, tmp_path / f'log{i}{name}') for name in 'ab']
        codes = [child.wait() for child in pair]
        # 0 twice: the first was done before the second asked.
        assert sorted(codes) in ([0, 4], [0, 0])
        said = Counter(line for child in pair for line in child.said().splitlines())
        assert sum('epoch 1/' in line for line in said.elements()) == 1
        for child, code in zip(pair, codes, strict=True):
            assert code == 0 or f'on {socket.gethostname()}' in child.said()
        assert tiny.outcome(config, tmp_path / f'{i}') == expected
    figure('F-11', f'{starts} times two processes at once: trained once each time, identical')


def test_a_lock_whose_holder_ends_meanwhile_is_taken(tmp_path):
    # As seen between a holder's last two calls, when it has removed its name but not let go.
    nameless = filelock.FileLock(tmp_path / '.lock', thread_local=False)
    with nameless:
        threading.Timer(4 * store.LOCK_SECONDS, nameless.release).start()
        with store.lock(tmp_path):
            assert (tmp_path / '.holder').exists()


def test_a_lock_that_stays_without_a_name_is_refused(tmp_path):
    with (
        filelock.FileLock(tmp_path / '.lock'),
        pytest.raises(InUseError) as caught,
        store.lock(tmp_path),
    ):
        pass
    assert 'has not written its name' in caught.value.seen


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, 'Function not implemented')

    monkeypatch.setattr(fcntl, 'flock', flock)
    with pytest.raises(WriteError) as caught, store.lock(tmp_path):
        pass
    assert 'not implemented' in caught.value.seen
    assert not (tmp_path / '.holder').exists()


def test_the_lock_of_a_dead_process_is_free(tmp_path, figure):
    config, out = tiny.config('cross_entropy'), tmp_path / 'out'
    child = children.Child(tiny.words(config, out), tmp_path / 'log')
    child.wait_for('epoch 1/')
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert (tiny.folder(config, out) / '.holder').exists()
    tiny.run(config, out)
    assert tiny.outcome(config, out) == whole(config, tmp_path)
    figure('F-12', 'lock of a dead process taken over, identical')


def test_two_processes_share_a_table_and_train_each_trial_once(tmp_path, figure):
    overrides = tiny.overrides('cross_entropy')
    words = [
        *('run', 'table2', '--preset', 'quick', '--only', 'cross_entropy', '--rates', '0.5'),
        *('--trials', '3', '--jobs', '1', '--device', 'cpu', '--out', str(tmp_path / 'out')),
        *(word for override in overrides for word in ('--set', override)),
    ]
    pair = [children.Child(words, tmp_path / name) for name in 'ab']
    assert [child.wait() for child in pair] == [0, 0]
    said = ''.join(child.said() for child in pair)
    for seed in range(3):
        trial = tiny.config('cross_entropy', seed=seed)
        assert said.count(f'{trial.trial}: epoch 1/3') == 1
        tiny.run(trial, tmp_path / 'whole')
        assert tiny.outcome(trial, tmp_path / 'out') == tiny.outcome(trial, tmp_path / 'whole')
    assert all('(3)' in child.said() for child in pair)
    figure('F-13', 'two processes, 3 trials, each trained once, identical')
