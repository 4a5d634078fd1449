"""Starts a worker process of a benchmark, and talks to it."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile

from chainer_jo.errors import ChainerJoError
from chainer_jo.training.machine import THREAD_VARIABLES, cores


class WorkerError(ChainerJoError):
    """A worker exited early, or did not start."""


def environment(jobs=1, threads=None):
    """Returns the environment variables of workers: their threads, and OpenMP's default waiting.

    By default an idle thread spins for some milliseconds and then sleeps. So it is quick between
    the layers of a step, and quiet during the turns of other systems.

    Args:
        jobs (int): Number of workers that compute at the same time.
        threads (int): Threads of each worker; by default its share of the cores, and for a single
            worker ``OMP_NUM_THREADS`` if it is set.
    """
    asked = os.environ.get('OMP_NUM_THREADS') if jobs == 1 else None
    share = asked or str(max(1, cores() // jobs))
    # A user's settings of these would change how idle threads wait.
    kept = {k: v for k, v in os.environ.items() if k not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')}
    return kept | dict.fromkeys(THREAD_VARIABLES, str(threads or share))


class WorkerProcess:
    """Starts a worker; a ``with`` block waits until it is ready, and ends it on exit.

    If the worker cannot be started, the error is raised on entering the block.

    Args:
        words (sequence of str): The worker's command line.
        jobs (int), threads (int): See :func:`environment`.

    Attributes:
        greeting (dict): The worker's first message.

    Raises:
        WorkerError: The worker did not start.
    """

    def __init__(self, words, jobs=1, threads=None):
        self._words = words
        # A file, because compilers may print a lot, and a pipe that nobody reads would block them.
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
                # A worker exits at the end of its commands, so that it can free its memory.
                self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
        self._said.close()

    def ask(self, command):
        """Gives a command, waits for the answer and returns it."""
        self.send(command)
        return self.read()

    def send(self, command):
        """Gives a command without waiting; :meth:`read` returns the answer."""
        # If the process is gone or never started, `read` reports why.
        with contextlib.suppress(BrokenPipeError, AttributeError):
            self._process.stdin.write(command + '\n')
            self._process.stdin.flush()

    def read(self):
        """Waits for the answer to the oldest command and returns it."""
        line = self._process.stdout.readline()
        if not line:
            # The process is gone; its exit code and stderr say why.
            code = self._process.wait()
            self._said.seek(0)
            said = self._said.read().strip()
            self.__exit__()
            if code == -signal.SIGKILL:
                # It has no time to say anything, and mostly it was the system that killed it.
                raise self._failed(
                    'killed, as the system does if memory runs out',
                    'close other programs, or free memory in another way',
                )
            raise self._failed(said or f'exit code {code}')
        return json.loads(line)

    def _failed(self, seen, fix='correct the cause, or see python -m chainer_jo benchmark --help'):
        return WorkerError(
            f'{self._words[0]} cannot run its part of the benchmark',
            seen=seen,
            fix=fix,
        )
