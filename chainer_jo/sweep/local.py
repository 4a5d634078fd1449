"""Runs trials side by side on this machine, each in a process of its own.

A process runs the very command that the tables print beside a trial. If this process dies, nothing
is lost: a trial goes on from its snapshot when it is asked for again, and one that another process
holds is looked at again after the others.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from chainer_jo.errors import ChainerJoError, InUseError, StoppedError

RETRY_SECONDS = 2.0
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')


class TrialFailedError(ChainerJoError):
    """A trial's process ended with an error, which it has said on stderr.

    Args:
        exit_code (int): That of the process.
    """

    def __init__(self, trial, exit_code, said):
        super().__init__(
            f'trial {trial} failed',
            seen=said.strip() or f'exit code {exit_code}',
            fix='mend the cause and run the same command again; finished trials are kept',
        )
        self.exit_code = exit_code if exit_code > 0 else 1


class LocalSweep:
    """Runs trials in up to ``jobs`` processes that share the cores.

    Args:
        options (sequence of str): Command-line options added to every trial's own command.
        jobs (int): Processes at a time.
        on_line (callable): Called with (TrialConfig, dict) for every line a trial prints.
    """

    def __init__(self, options, jobs, on_line):
        self.options, self.jobs, self.on_line = tuple(options), jobs, on_line
        self._processes, self._lock = set(), threading.Lock()
        self._signum = None

    def run(self, configs):
        """Runs all trials and returns the errors of those that failed.

        Raises:
            StoppedError: A signal came; every running trial has taken a snapshot.
        """
        previous = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            # The longest first, so that the last ones to finish are short.
            todo = deque(sorted(configs, key=lambda config: -config.epochs))
            with ThreadPoolExecutor(self.jobs) as pool:
                workers = [pool.submit(self._work, todo) for _ in range(self.jobs)]
            failures = [error for worker in workers for error in worker.result()]
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self._signum is not None:
            raise StoppedError(
                self._signum,
                seen='every running trial took a snapshot',
                fix='the same command goes on from there',
            )
        return failures

    def _stop(self, signum, _):
        self._signum = signum
        with self._lock:
            for process in self._processes:
                process.send_signal(signum)

    def _work(self, todo):
        failures = []
        while self._signum is None:
            try:
                config = todo.popleft()
            except IndexError:
                break
            code, said = self._attempt(config)
            if code == InUseError.exit_code:
                # Another process trains it: the others first, then see whether it is done.
                todo.append(config)
                time.sleep(RETRY_SECONDS)
            elif code and self._signum is None:
                failures.append(TrialFailedError(config.trial, code, said))
        return failures

    def _attempt(self, config):
        words = shlex.split(config.command)[1:]
        threads = str(max(1, cores() // self.jobs))
        environment = dict.fromkeys(THREAD_VARIABLES, threads) | os.environ
        with subprocess.Popen(
            [sys.executable, *words, *self.options, '--json'],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors='replace',
            # A group of its own: Ctrl-C reaches it once, from here.
            start_new_session=True,
        ) as process:
            with self._lock:
                self._processes.add(process)
                if self._signum is not None:
                    process.send_signal(self._signum)
            said = []
            reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
            reader.start()
            for line in process.stdout:
                self.on_line(config, json.loads(line))
            reader.join()
            code = process.wait()
        with self._lock:
            self._processes.discard(process)
        return code, said[0]


def default_jobs(device):
    """Returns how many trials run side by side unless one says.

    Args:
        device (str): Chainer's name of it: one a core on a CPU, and one on a GPU.
    """
    return 1 if device.startswith('@cupy') else cores()


def cores():
    """Returns the number of processor cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
