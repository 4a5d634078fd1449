"""A worker process, seen from outside."""

import contextlib
import json
import os
import subprocess

from chainer_jo.errors import ChainerJoError
from chainer_jo.sweep.local import THREAD_VARIABLES, cores


class WorkerError(ChainerJoError):
    """A worker ended, or never began."""


def environment():
    """Returns the variables of all workers: as many threads each, and OpenMP's own way to wait.

    By default an idle thread spins for some milliseconds, then sleeps: quick between the layers of
    one step, and quiet while other systems have their turn.
    """
    threads = os.environ.get('OMP_NUM_THREADS') or str(cores())
    kept = {k: v for k, v in os.environ.items() if k not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')}
    return kept | dict.fromkeys(THREAD_VARIABLES, threads)


class WorkerProcess:
    """Starts a worker and waits until it is ready; a ``with`` block ends it.

    Args:
        words (sequence of str): Its command line.

    Attributes:
        greeting (dict): What it said first.

    Raises:
        WorkerError: It did not start.
    """

    def __init__(self, words):
        self._words = words
        pipes = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.PIPE)
        try:
            self._process = subprocess.Popen(words, env=environment(), text=True, **pipes)
        except OSError as error:
            raise self._failed(str(error)) from error
        self.greeting = self._read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def ask(self, command):
        """Returns the answer to a command, when it is there."""
        # If the process has gone, the missing answer says why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(command + '\n')
            self._process.stdin.flush()
        return self._read()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            raise self._failed(said.strip() or f'exit code {self._process.returncode}')
        return json.loads(line)

    def _failed(self, seen):
        return WorkerError(
            f'{self._words[0]} cannot run its part of the benchmark',
            seen=seen,
            fix='mend the cause, or see python -m chainer_jo benchmark --help',
        )
