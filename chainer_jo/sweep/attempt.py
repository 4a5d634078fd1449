"""One trial in a process of its own, which runs the very command that tables print beside it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

from chainer_jo.errors import ChainerJoError, KilledError, UnforeseenError, excerpt
from chainer_jo.training import failure
from chainer_jo.training.machine import THREAD_VARIABLES

LINES_KEPT = 200


def words(config, machine):
    """Returns what follows ``python`` on the command line of a trial (TrialConfig) on a Machine."""
    return [*shlex.split(config.command)[1:], *machine.as_words(), '--json']


class Attempt:
    """Runs a trial, or the rest of it.

    Args:
        words (list of str): The trial; see :func:`words`.
        threads (int): Threads that it computes with if it has not begun with others.
        folder (os.PathLike): Where the process runs; ``None`` for the present folder.
        without (tuple of str): Environment variables that it is not handed.
        launcher (list of str): What starts it as several processes, see
            :func:`chainer_jo.training.processes.launcher`.
    """

    def __init__(self, words, threads, folder=None, without=(), launcher=()):
        self._words = [*launcher, sys.executable, *words, '--while-stdin-is-open']
        self._folder = folder
        handed = {name: value for name, value in os.environ.items() if name not in without}
        self._environment = handed | dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._process = self._signum = None

    def run(self, on_line, on_text):
        """Waits for the end and returns the exit code and the last lines said on stderr.

        Args:
            on_line (callable): Called with every line that the trial prints, a dict.
            on_text (callable): Called with any other line on its stdout, which libraries print.
        """
        with subprocess.Popen(
            self._words,
            cwd=self._folder,
            env=self._environment,
            # Nothing is written to this pipe: it closes when this process dies, however it dies.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors='replace',
            # A group of its own: Ctrl-C reaches it once, from here.
            start_new_session=True,
        ) as self._process:
            if self._signum is not None:
                self._process.send_signal(self._signum)
            said = deque(maxlen=LINES_KEPT)
            reader = threading.Thread(target=lambda: said.extend(self._process.stderr))
            reader.start()
            for line in self._process.stdout:
                _hand_on(line, on_line, on_text)
            reader.join()
            return self._process.wait(), ''.join(said)

    def stop(self, signum):
        """Sends the process a signal, now or as soon as there is one; it takes a snapshot."""
        self._signum = signum
        if self._process is not None:
            self._process.send_signal(signum)


def _hand_on(line, on_line, on_text):
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        on_line(value)
    elif line.strip():
        on_text(line.rstrip('\n'))


class TrialFailedError(ChainerJoError):
    """A trial's process ended with an error, which it has said on stderr.

    Args:
        exit_code (int): That of the process; ``-n`` if signal ``n`` ended it.
        said (str): What it said last on stderr.
        worker (str): Where it ran, if not here.

    Attributes:
        reason (str): Why, in one line.
    """

    def __init__(self, trial, exit_code, said, worker=None):
        own, end = None, f'exit code {exit_code}'
        if exit_code < 0:
            own, end = KilledError, f'its process was killed by {_signal_name(-exit_code)}'
        elif exit_code == 1:
            # No trial ends with 1 by itself: it is Python's code for a traceback.
            own, end = UnforeseenError, 'its process broke off'
        seen = [said.strip()] if said.strip() else []
        seen += [f'on worker {worker}'] if worker else []
        super().__init__(
            f'trial {trial} failed',
            seen='\n        '.join(seen + [end] * (own is not None or not seen)),
            fix='mend the cause and run the same command again; finished trials are kept',
        )
        self.exit_code = own.exit_code if own else exit_code
        self.trial, self.reason = trial, end if own is KilledError else _reason(said) or end

    @property
    def in_a_line(self):
        return f'{self.trial}: {excerpt(self.reason, 300)}'


def _signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f'signal {number}'


def _reason(said):
    """Returns the line of what a process said that says best why it ended, or ``None``."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [place for place, line in enumerate(lines) if line.startswith('error: ')]
    if not errors:
        return lines[-1] if lines else None
    problem, *rest = lines[errors[-1] :]
    seen = [f' ({line.removeprefix("seen: ")})' for line in rest[:1] if line.startswith('seen: ')]
    return ''.join([problem.removeprefix('error: '), *seen])


def failed(config, machine, *ended):
    """Returns the TrialFailedError of a trial, and keeps its reason in the trial's folder."""
    error = TrialFailedError(config.trial, *ended)
    failure.keep(Path(machine.out) / 'runs' / config.trial, error.exit_code, error.reason)
    return error
