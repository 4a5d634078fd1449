"""Runs one trial in a child process, by the command that tables print next to it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque

from chainer_jo.errors import (
    ChainerJoError,
    InUseError,
    KilledError,
    OutOfMemoryError,
    UnforeseenError,
    excerpt,
)
from chainer_jo.training import failure, mpiexec
from chainer_jo.training.machine import THREAD_VARIABLES
from chainer_jo.training.signals import SIGNALS

LINES_KEPT = 200


def words(config, machine):
    """Returns the words after ``python`` of the command of a trial (TrialConfig) on a Machine."""
    return [*shlex.split(config.command)[1:], *machine.as_words(), '--json']


class Attempt:
    """Runs a trial, or resumes it, in a child process.

    Args:
        words (list of str): The trial's command; see :func:`words`.
        threads (int): Threads of a new trial; a resumed one keeps its number.
        folder (os.PathLike): Working folder of the process; ``None`` for the current folder.
        without (tuple of str): Environment variables that are not passed on.
        launcher (list of str): Words that start several processes, see
            :func:`chainer_jo.training.mpiexec.launcher`.
    """

    def __init__(self, words, threads, folder=None, without=(), launcher=()):
        self._words = [*launcher, sys.executable, *words, '--while-stdin-is-open']
        self._folder, self._launched = folder, bool(launcher)
        handed = {name: value for name, value in os.environ.items() if name not in without}
        # All of them: NumPy may be linked to any of these libraries.
        self._environment = handed | dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._process = self._signum = None

    def run(self, on_line, on_text):
        """Waits for the process to end; returns its exit code and the last lines of its stderr.

        A process that cannot be started counts as one that ran out of memory.

        Args:
            on_line (callable): Called with every JSON line on its stdout, a dict.
            on_text (callable): Called with any other line on its stdout, such as those of
                libraries.
        """
        said, texts = deque(maxlen=LINES_KEPT), deque(maxlen=LINES_KEPT)
        try:
            reader = self._start(said)
        except (OSError, RuntimeError) as error:
            # The machine lacks memory, processes, files or threads, and may have them again.
            said = f'error: its process cannot be started\nseen: {error}'
            return OutOfMemoryError.exit_code, said
        with self._process:
            # stop() may have been called before the process existed.
            if self._signum is not None:
                self._process.send_signal(self._signum)
            try:
                for line in self._process.stdout:
                    _hand_on(line, on_line, lambda text: (texts.append(text), on_text(text)))
            except BaseException:
                # The process ends, as if this one were gone; only then can its stderr be closed.
                self._process.stdin.close()
                self._process.stdout.close()
                reader.join()
                raise
            reader.join()
            code, said = self._process.wait(), ''.join(said)
            # MPICH tells it on stdout, Open MPI on stderr.
            told = '\n'.join([*texts, said])
            killed = mpiexec.killed_by(told) if code and self._launched else None
            return (code if killed is None else -killed), said

    def _start(self, said):
        """Starts the process, and the thread that appends its lines on stderr to ``said``."""
        self._process = subprocess.Popen(
            self._words,
            cwd=self._folder,
            env=self._environment,
            # Nothing is written to this pipe. It closes when this process dies, however it dies,
            # and the child then stops.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors='replace',
            # A new session: otherwise Ctrl-C would reach the child twice, from the terminal too.
            start_new_session=True,
        )
        # In a thread: a child that fills one pipe blocks while this process reads the other.
        reader = threading.Thread(target=lambda: said.extend(self._process.stderr))
        try:
            reader.start()
        except RuntimeError:
            # Closes the pipe on which the process depends, and waits for its end.
            self._process.communicate()
            raise
        return reader

    def stop(self, signum):
        """Signals the process, now or once it has started, to take a snapshot and end."""
        self._signum = signum
        if self._process is not None:
            self._process.send_signal(signum)


def is_unsaved(code):
    """Returns whether a process that was asked to stop ended with this code, and no snapshot."""
    # One that found its trial in use, or that the signal itself has killed, had not begun.
    fine = (0, InUseError.exit_code, *(-number for number in SIGNALS))
    return code < 128 and code not in fine


def _hand_on(line, on_line, on_text):
    # Libraries may print to stdout as well; only a JSON object is a line of the trial.
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        on_line(value)
    elif line.strip():
        on_text(line.rstrip('\n'))


class TrialFailedError(ChainerJoError):
    """A trial's process ended with an error.

    Args:
        trial (str): The trial's id.
        exit_code (int): Exit code of the process; ``-n`` if signal ``n`` killed it.
        said (str): The last lines of its stderr.
        worker (str): The worker that ran it, if any.

    Attributes:
        reason (str): The reason, in one line.
    """

    def __init__(self, trial, exit_code, said, worker=None):
        own, end = None, f'exit code {exit_code}'
        if exit_code < 0:
            own, end = KilledError, f'its process was killed by {_signal_name(-exit_code)}'
        elif exit_code - 128 in SIGNALS:
            # Sent to it alone: a sweep that is stopped itself does not ask for a reason.
            own, end = KilledError, f'its process was stopped by {_signal_name(exit_code - 128)}'
        elif exit_code == 1:
            # No trial exits with 1 by design: it is Python's code after a traceback.
            own, end = UnforeseenError, 'its process ended with a traceback'
        seen = [said.strip()] if said.strip() else []
        seen += [f'on worker {worker}'] if worker else []
        super().__init__(
            f'trial {trial} failed',
            seen='\n        '.join(seen + [end] * (own is not None or not seen)),
            fix='fix the cause and run the same command again; finished trials are kept',
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
    """Returns the line of a stderr that best explains why the process ended, or ``None``."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [place for place, line in enumerate(lines) if line.startswith('error: ')]
    # Without an error of this package, the last line is mostly the exception of a traceback.
    if not errors:
        return lines[-1] if lines else None
    problem, *rest = lines[errors[-1] :]
    seen = [f' ({line.removeprefix("seen: ")})' for line in rest[:1] if line.startswith('seen: ')]
    return ''.join([problem.removeprefix('error: '), *seen])


def failed(config, machine, *ended):
    """Returns the TrialFailedError of a trial, and records its reason in the trial's folder."""
    error = TrialFailedError(config.trial, *ended)
    failure.keep(machine.folder(config.trial), error.exit_code, error.reason)
    return error
