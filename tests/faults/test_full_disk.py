"""F-09 and F-10: where a file cannot be written, one message says so, and nothing is lost."""

import errno
import os
import resource
import shutil
from dataclasses import dataclass

import children
import pytest
import tiny

from chainer_jo.errors import WriteError
from chainer_jo.training import trial

CONFIG = tiny.config('cross_entropy', 'cross_entropy.train.epochs=2')


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
    out = tmp_path_factory.mktemp('whole')
    tiny.run(CONFIG, out)
    return tiny.outcome(CONFIG, out)


@pytest.fixture
def full_at(monkeypatch):
    """The disk is found full at the ``number``-th sync, where file systems report it at last."""
    fsync = os.fsync

    def install(number):
        syncs = iter(range(1, number + 1))

        def full(descriptor):
            if next(syncs, number) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        monkeypatch.setattr(os, 'fsync', full)

    def room():
        monkeypatch.setattr(os, 'fsync', fsync)

    install.room = room
    return install


def test_a_disk_full_at_any_write_loses_nothing(full_at, expected, tmp_path, figure):
    write, failed = 0, True
    while failed:
        write += 1
        full_at(write)
        out = tmp_path / f'{write}'
        failed = fails_for_want_of_room(out)
        full_at.room()
        tiny.run(CONFIG, out)
        assert tiny.outcome(CONFIG, out) == expected, write
    # Ten writes, each with a sync of the file and of its folder: the holder's name, configuration,
    # noise, log thrice, snapshot, net, labels, result.
    assert write - 1 == 2 * 10
    figure('F-09', f'disk full at each of {write - 1} syncs, {write - 1} resumed and identical')


def fails_for_want_of_room(out):
    try:
        tiny.run(CONFIG, out)
    except WriteError as error:
        left = list(tiny.folder(CONFIG, out).glob('.*.tmp'))
        return 'No space left on device' in error.seen and not left
    return False


@dataclass
class NoFileLargerThan:
    """Lets the kernel refuse to write more than ``size`` bytes to a file."""

    size: int

    def __call__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@pytest.mark.parametrize('size', [1000, 3000, 10_000])
def test_a_write_that_ends_half_way_is_one_message_and_exit_code_6(size, expected, tmp_path):
    out = tmp_path / 'out'
    child = children.Child(tiny.words(CONFIG, out), tmp_path / 'log', NoFileLargerThan(size))
    assert child.wait() == WriteError.exit_code == 6
    assert list(tiny.folder(CONFIG, out).glob('.*.tmp')) == []
    assert 'error: cannot write' in child.said()
    assert 'bytes to write)' in child.said()
    assert 'Traceback' not in child.said()
    tiny.run(CONFIG, out)
    assert tiny.outcome(CONFIG, out) == expected


@pytest.mark.parametrize('place', ['a file', '/proc', '/dev/null'])
def test_a_folder_that_cannot_be_written_is_one_message_and_exit_code_6(place, tmp_path, figure):
    (tmp_path / 'a file').write_text('kept')
    child = children.Child(tiny.words(CONFIG, tmp_path / place / 'out'), tmp_path / 'log')
    assert child.wait() == 6
    assert child.said().startswith('error: cannot make the folder')
    assert len(child.said().splitlines()) == 3
    assert (tmp_path / 'a file').read_text() == 'kept'
    figure('F-10', f'folder under {place}: exit code 6')


def test_a_folder_removed_while_running_ends_the_trial_and_stays_away(tmp_path):
    folder = tiny.folder(CONFIG, tmp_path)
    observer = trial.Observer(lambda *_: None, lambda row: shutil.rmtree(folder), lambda *_: None)
    with pytest.raises(WriteError, match='cannot write'):
        tiny.run(CONFIG, tmp_path, observer)
    assert not folder.exists()
