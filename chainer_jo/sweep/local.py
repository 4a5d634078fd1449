"""Runs trials side by side on this machine, each in a process of its own.

If this process dies, nothing is lost: a trial goes on from its snapshot when it is asked for again,
and one that another process holds is looked at again after the others.
"""

import signal
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from chainer_jo.errors import ChainerJoError, InUseError, StoppedError
from chainer_jo.sweep.attempt import Attempt
from chainer_jo.training.machine import cores

RETRY_SECONDS = 2.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
        machine (Machine): Where every trial runs.
        jobs (int): Processes at a time.
        on_line (callable): Called with (TrialConfig, dict) for every line a trial prints.
    """

    def __init__(self, machine, jobs, on_line):
        self.machine, self.jobs, self.on_line = machine, jobs, on_line
        self._threads = max(1, cores() // jobs)
        self._attempts, self._lock = set(), threading.Lock()
        self._signum = None

    def run(self, configs):
        """Runs all trials and returns the errors of those that failed.

        Raises:
            StoppedError: A signal came; every running trial has taken a snapshot.
        """
        # What nohup has this process ignore, it goes on ignoring.
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        previous = {number: signal.signal(number, self._stop) for number in heeded}
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
        for attempt in tuple(self._attempts):
            attempt.stop(signum)

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
        attempt = Attempt(config, self.machine, self._threads)
        with self._lock:
            self._attempts.add(attempt)
            if self._signum is not None:
                return 0, ''
        try:
            return attempt.run(lambda line: self.on_line(config, line))
        finally:
            with self._lock:
                self._attempts.discard(attempt)


def default_jobs(device):
    """Returns how many trials run side by side unless one says.

    Args:
        device (str): Chainer's name of it: one a core on a CPU, and one on a GPU.
    """
    return 1 if device.startswith('@cupy') else cores()
