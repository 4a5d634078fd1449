"""What only has the name of a file of ours is refused at once: a pipe, a device, a giant.

Reading a pipe waits for a writer, and a file of any size fits on a disk that is empty.
"""

import os
import signal
import tracemalloc

import pytest
import tiny

from chainer_jo import cli, store
from chainer_jo.errors import DataError
from chainer_jo.report import integrity
from chainer_jo.training import snapshot

CONFIG = tiny.config('cross_entropy')
HUGE = 10 << 30


@pytest.fixture(autouse=True)
def at_once():
    """Ends a test that hangs."""

    def end(*_):
        raise AssertionError('it hangs')

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to('/dev/zero')


def huge(path):
    with path.open('wb') as file:
        file.truncate(HUGE)


@pytest.mark.parametrize('make', [pipe, endless, huge])
@pytest.mark.parametrize('name', ['result.json', 'log.jsonl'])
def test_every_command_refuses_it_in_the_place_of_a_result_or_log(name, make, out, capsys, figure):
    path = tiny.folder(CONFIG, out) / name
    path.unlink()
    make(path)
    table = ['table2', '--preset', 'quick', '--out', str(out)]
    overrides = [word for item in tiny.overrides('cross_entropy') for word in ('--set', item)]
    cell = ['--only', 'cross_entropy', '--rates', '0.5', '--trials', '1', *overrides]
    commands = (
        ['verify', str(out)],
        ['report', *table],
        ['plan', *table, *cell],
        ['show', str(path.parent)],
        tiny.words(CONFIG, out),
    )
    for words in commands:
        tracemalloc.start()
        with pytest.raises(SystemExit) as exited:
            cli.main(words)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        told = capsys.readouterr()
        assert exited.value.code == DataError.exit_code == 3, (words, told)
        assert CONFIG.trial in told.out + told.err
        assert most < 100 << 20, words
    figure('odd', f'{make.__name__} in the place of {name}: refused at once by every command')


@pytest.mark.parametrize('make', [pipe, endless])
@pytest.mark.parametrize(
    'name', ['config.json', *(f'{of}.arrays' for of in ('model', 'labels', 'noisy_labels'))]
)
def test_verify_names_it_in_the_place_of_every_other_file(name, make, out):
    path = tiny.folder(CONFIG, out) / name
    path.unlink(missing_ok=True)
    make(path)
    assert [(problem['path'], problem['problem']) for problem in integrity.verify(out)[2]] == [
        (str(path), 'not a regular file')
    ]


def test_a_snapshot_that_is_none_is_set_aside(tmp_path):
    pipe(tmp_path / 'snapshot-000001.arrays')
    warnings = []
    assert snapshot.read_newest(tmp_path, 'identity', warnings.append) is None
    assert 'the trial starts over' in warnings[0]


def test_the_holder_of_a_lock_may_have_written_anything(tmp_path):
    with store.lock(tmp_path):
        (tmp_path / '.holder').write_bytes(b'\x1b[2J\xff' * 50)
        with pytest.raises(store.InUseError) as caught, store.lock(tmp_path):
            pass
    assert caught.value.seen.isprintable()
