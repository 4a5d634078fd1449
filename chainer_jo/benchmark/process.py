"""A worker process, seen from outside."""

import contextlib
import json
import os
import subprocess
import tempfile

from chainer_jo.errors import ChainerJoError
from chainer_jo.training.machine import THREAD_VARIABLES, cores


class WorkerError(ChainerJoError):
    """A worker ended, or never began."""


def environment(jobs=1, threads=None):
    """Returns the variables of workers: threads for their share, and OpenMP's own way to wait.

    By default an idle thread spins for some milliseconds, then sleeps: quick between the layers of
    one step, and quiet while other systems have their turn.

    Args:
        jobs (int): How many workers compute at the same time.
        threads (int): Those of each; by default its share of the cores.
    """
    share = os.environ.get('OMP_NUM_THREADS') or str(max(1, cores() // jobs))
    kept = {k: v for k, v in os.environ.items() if k not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')}
    return kept | dict.fromkeys(THREAD_VARIABLES, str(threads or share))


class WorkerProcess:
    """Starts a worker; a ``with`` block waits until it is ready, and ends it.

    One that cannot be started says so when it is waited for.

    Args:
        words (sequence of str): Its command line.
        jobs (int), threads (int): See :func:`environment`.

    Attributes:
        greeting (dict): What it said first.

    Raises:
        WorkerError: It did not start.
    """

    def __init__(self, words, jobs=1, threads=None):
        self._words = words
        # A file holds whatever a compiler prints; a pipe that nobody reads would block it.
        self._said = tempfile.TemporaryFile('w+')  # noqa: SIM115
        pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': self._said}
        self._process = None
        try:
            self._process = subprocess.Popen(
                words, env=environment(jobs, threads), text=True, **pipes
            )
        except OSError as error:
            self._reason = error

    def __enter__(self):
        if self._process is None:
            raise self._failed(str(self._reason)) from self._reason
        self.greeting = self.read()
        return self

    def __exit__(self, *_):
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                # A worker ends when its commands end, so that it can free its memory.
                self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
        self._said.close()

    def ask(self, command):
        """Returns the answer to a command, when it is there."""
        self.send(command)
        return self.read()

    def send(self, command):
        """Gives a command and does not wait; :meth:`read` returns the answer."""
        # If the process is gone or never started, the missing answer will say why.
        with contextlib.suppress(BrokenPipeError, AttributeError):
            self._process.stdin.write(command + '\n')
            self._process.stdin.flush()

    def read(self):
        """Waits for the answer to the oldest command and returns it."""
        line = self._process.stdout.readline()
        if not line:
            # No line means that the process is gone: its exit code and stderr say why.
            code = self._process.wait()
            self._said.seek(0)
            said = self._said.read().strip()
            self.__exit__()
            raise self._failed(said or f'exit code {code}')
        return json.loads(line)

    def _failed(self, seen):
        return WorkerError(
            f'{self._words[0]} cannot run its part of the benchmark',
            seen=seen,
            fix='mend the cause, or see python -m chainer_jo benchmark --help',
        )
