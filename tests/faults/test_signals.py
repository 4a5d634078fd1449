"""F-03: SIGTERM and Ctrl-C leave a snapshot and the exit code that shells expect."""

import os
import signal
from dataclasses import dataclass

import chainer
import children
import pytest
import tiny


@dataclass
class SignalAt:
    """Sends this process a signal in the middle of its ``step``-th step."""

    signum: int
    step: int

    def __call__(self):
        update = chainer.GradientMethod.update

        def interrupted(optimizer, *arguments):
            self.step -= 1
            if self.step == 0:
                os.kill(os.getpid(), self.signum)
            update(optimizer, *arguments)

        chainer.GradientMethod.update = interrupted


@pytest.mark.parametrize(
    ('signum', 'code'),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=['SIGTERM', 'Ctrl-C', 'terminal closed'],
)
def test_a_signal_takes_a_snapshot_from_which_the_same_command_goes_on(
    signum, code, tmp_path, figure
):
    config, log = tiny.config('ours'), tmp_path / 'log'
    children.run(tiny.words(config, tmp_path / 'whole'), log)
    words = tiny.words(config, tmp_path / 'pieces')
    child = children.Child(words, log, SignalAt(signum, step=9))
    assert child.wait() == code
    (snapshot,) = tiny.folder(config, tmp_path / 'pieces').glob('snapshot-000002.arrays')
    name = 'Ctrl-C' if signum == signal.SIGINT else signum.name
    assert f'error: stopped by {name}\n  seen: snapshot {snapshot}\n' in child.said()
    assert 'Traceback' not in child.said()

    child = children.Child(words, log)
    assert child.wait() == 0
    assert 'resumes after epoch 3 of 6' in child.said()
    assert tiny.outcome(config, tmp_path / 'pieces') == tiny.outcome(config, tmp_path / 'whole')
    figure('F-03', f'{signum.name}: exit code {code}, resumed trial identical')


@dataclass
class Ignored:
    """A process that ignores a signal, as nohup makes it, and then gets it."""

    signum: int

    def __call__(self):
        signal.signal(self.signum, signal.SIG_IGN)
        SignalAt(self.signum, step=2)()


def test_under_nohup_a_trial_goes_on_when_the_terminal_is_closed(tmp_path):
    config = tiny.config('cross_entropy')
    words = tiny.words(config, tmp_path / 'out')
    assert children.run(words, tmp_path / 'log', Ignored(signal.SIGHUP)) == 0
    tiny.run(config, tmp_path / 'whole')
    assert tiny.outcome(config, tmp_path / 'out') == tiny.outcome(config, tmp_path / 'whole')


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_from_outside_ends_a_long_trial_at_once(signum, tmp_path):
    config = tiny.config('cross_entropy', 'cross_entropy.train.epochs=1000000')
    child = children.Child(tiny.words(config, tmp_path / 'out'), tmp_path / 'log')
    child.wait_for('epoch 1/')
    child.send(signum)
    assert child.wait() == 128 + signum
    assert list(tiny.folder(config, tmp_path / 'out').glob('snapshot-*.arrays'))
