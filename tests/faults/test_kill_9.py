"""F-01 and F-02: ``kill -9`` at any moment loses nothing."""

import json
import os
import random
import resource
import signal
import time
from dataclasses import dataclass

import children
import clothing_files
import pytest
import tiny

from chainer_jo import config as configuration
from chainer_jo import paper

EVERY_STEP = ('--snapshot-seconds', '0', '--json')


def killed(words, outcome, kills, tmp_path, fresh=False):
    """Kills a command at random moments and repeats it until it has done its work, time and again.

    Args:
        words (callable): The command line that works in a folder.
        outcome (callable): What it leaves in a folder.
        kills (int): How often to kill it.
        fresh (bool): Whether each is a Python of its own.

    Returns:
        tuple of int: Kills, runs to the end, and those with the outcome of one that was not killed.
    """
    moments, log = random.Random(0), tmp_path / 'log'
    child = children.Child(words(tmp_path / 'whole'), log, fresh=fresh)
    child.wait_for('start')
    began = time.monotonic()
    assert child.wait() == 0
    duration, expected = time.monotonic() - began, outcome(tmp_path / 'whole')
    done = runs = identical = 0
    while done < kills:
        out, finished, runs = tmp_path / f'run{runs}', False, runs + 1
        while not finished:
            child = children.Child(words(out), log, fresh=fresh)
            child.wait_for('start')
            if done < kills:
                time.sleep(moments.uniform(0, duration / 2))
                child.send(signal.SIGKILL)
            code = child.wait()
            assert code in (0, -signal.SIGKILL)
            finished = code == 0
            done += not finished
        identical += outcome(out) == expected
    return done, runs, identical


@pytest.mark.parametrize(
    ('kills', 'fresh'), [(20, False), pytest.param(100, True, marks=pytest.mark.long)]
)
def test_killed_at_random_moments_a_trial_ends_bit_identical(kills, fresh, tmp_path, figure):
    config = tiny.config('ours')
    done, runs, identical = killed(
        lambda out: tiny.words(config, out, *EVERY_STEP),
        lambda out: tiny.outcome(config, out),
        kills, tmp_path, fresh,
    )  # fmt: skip
    assert identical == runs
    figure('F-01', f'{done} kills, {runs} runs, {identical} identical')


@pytest.fixture(scope='module')
def index(tmp_path_factory):
    """The index of a stand-in for Clothing1M, whose images are read while a trial trains."""
    folder = tmp_path_factory.mktemp('clothing')
    clothing_files.make(folder / 'data', (300, 32, 32))
    return clothing_files.verify(folder / 'data', folder / 'index', limit=0.02)['index']


@pytest.mark.long
@pytest.mark.parametrize('method', paper.methods())
def test_every_method_killed_at_random_moments_ends_bit_identical(method, tmp_path, figure):
    config = tiny.config(method)
    done, runs, identical = killed(
        lambda out: tiny.words(config, out, *EVERY_STEP),
        lambda out: tiny.outcome(config, out),
        8, tmp_path,
    )  # fmt: skip
    assert identical == runs
    figure('F-01', f'{method}: {done} kills, {runs} runs, {identical} identical')


@pytest.mark.long
@pytest.mark.parametrize(
    'method', ['cross_entropy', 'forward_estimated', 'tanaka', 'pencil', 'ours']
)
def test_a_streamed_trial_killed_at_random_moments_ends_bit_identical(
    method, index, tmp_path, figure
):
    config = configuration.trial(
        method, 'clothing1m', 'none', None, 0, 'quick', tiny.overrides(method, 'clothing1m')
    )
    done, runs, identical = killed(
        lambda out: tiny.words(config, out, '--data', index, *EVERY_STEP),
        lambda out: tiny.outcome(config, out),
        8, tmp_path,
    )  # fmt: skip
    assert identical == runs
    figure('F-01', f'{method}, streamed: {done} kills, {runs} runs, {identical} identical')


@dataclass
class KilledAt:
    """Ends the process before the ``number``-th step of its writes: sync, rename or deletion."""

    number: int

    def __call__(self):
        for name in ('fsync', 'replace', 'unlink'):
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function):
        def call(*arguments, **keywords):
            self.number -= 1
            if self.number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return call


@dataclass
class KilledInTheMiddleOf:
    """Lets the kernel end the process in the middle of writing a file of more than ``size``."""

    size: int

    def __call__(self):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@pytest.fixture(scope='module')
def short(tmp_path_factory):
    """A trial of one epoch, and what it leaves behind."""
    config = tiny.config('cross_entropy', 'cross_entropy.train.epochs=1')
    out = tmp_path_factory.mktemp('whole')
    assert children.run(tiny.words(config, out), out / 'log') == 0
    return config, tiny.outcome(config, out)


def test_killed_at_every_step_of_every_write_a_trial_ends_bit_identical(short, tmp_path, figure):
    config, expected = short
    step, killed = 0, True
    while killed:
        step += 1
        out = tmp_path / f'{step}'
        code = children.run(tiny.words(config, out, *EVERY_STEP), tmp_path / 'log', KilledAt(step))
        killed = code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        tiny.run(config, out)
        assert tiny.outcome(config, out) == expected, step
    # 12 files are synced, renamed and their folder synced: the holder's name, configuration, noise,
    # log twice, four snapshots, net, labels, result. The name and the snapshots are deleted.
    assert step - 1 == 12 * 3 + 1 + 4
    figure('F-02', f'killed before each of {step - 1} steps of writing, {step - 1} identical')


@pytest.mark.parametrize('size', [10, 1000, 2500, 10_000])
def test_killed_in_the_middle_of_a_write_a_trial_ends_bit_identical(size, short, tmp_path):
    config, expected = short
    words = tiny.words(config, tmp_path)
    code = children.run(words, tmp_path / 'log', KilledInTheMiddleOf(size))
    assert code == -signal.SIGXFSZ
    (left,) = tiny.folder(config, tmp_path).glob('.*.tmp')
    assert left.stat().st_size == size
    tiny.run(config, tmp_path)
    assert tiny.outcome(config, tmp_path) == expected


def test_a_trial_killed_just_after_its_result_keeps_it_and_drops_its_snapshots(short, tmp_path):
    config, expected = short
    log, words = tmp_path / 'log', tiny.words(config, tmp_path / 'out')
    children.run(words, log, KilledAtDeletion())
    folder = tiny.folder(config, tmp_path / 'out')
    result = json.loads((folder / 'result.json').read_text())
    # The seal is the file's, not the result's.
    del result['digest']
    assert list(folder.glob('snapshot-*'))
    assert tiny.run(config, tmp_path / 'out') == result
    assert tiny.outcome(config, tmp_path / 'out') == expected


@dataclass
class KilledAtDeletion(KilledAt):
    """Ends the process before it deletes the first snapshot."""

    number: int = 1

    def __call__(self):
        os.unlink = self._counted(os.unlink)
