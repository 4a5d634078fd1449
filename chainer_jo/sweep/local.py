"""Runs trials side by side on this machine, each in a child process.

If this process dies, no work is lost: the next run resumes each trial from its snapshot. A trial
that another process is training is checked again after the others. A trial whose process was killed
or ran out of memory is tried again a few times.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor, wait

from chainer_jo import store
from chainer_jo.errors import InUseError, KilledError, OutOfMemoryError, StoppedError, count_of
from chainer_jo.sweep.attempt import Attempt, failed, is_unsaved, words
from chainer_jo.training.machine import asked_threads, cores
from chainer_jo.training.signals import Signals

RETRY_SECONDS = 2.0
#: Number of retries by exit code, for failures whose cause may pass.
RETRIES = {KilledError.exit_code: 2, OutOfMemoryError.exit_code: 1}
SIGNAL_SECONDS = 0.1


class LocalSweep:
    """Runs trials in up to ``jobs`` processes.

    Args:
        machine (Machine): Device, backend and folders of every trial.
        jobs (int): Processes at a time.
        threads (int): Threads of a new trial; a resumed one keeps its number.
        on_line (callable): Called with (TrialConfig, dict) for every JSON line of a trial, and
            with ``{'end': exit code}`` when its process has ended without a result, and
            ``{'failed': exit code}`` when it will not be tried again.
        on_text (callable): Called with (TrialConfig, str) for other output of its process, and for
            the error of a trial that fails.
        say (callable): Called with a line of text for what happens to the sweep itself.
        launcher (list of str): Words that start a trial as several processes; one by default.
    """

    def __init__(
        self,
        machine,
        jobs,
        threads,
        on_line,
        on_text=lambda config, text: None,
        say=lambda text: None,
        launcher=(),
    ):
        self.machine, self.jobs, self.on_line, self.on_text = machine, jobs, on_line, on_text
        self.say, self.launcher = say, launcher
        self._waits = False
        self._threads = threads
        self._attempts, self._lock = set(), threading.Lock()
        self._failures, self._unsaved = Counter(), []
        self._signals = Signals()

    def run(self, configs):
        """Runs all trials and returns the errors of those that failed.

        Raises:
            StoppedError: A signal came; the running trials have taken a snapshot, or it says how
                many have not.
        """
        # Signals are only recorded, and passed on to the children, which then save a snapshot.
        with self._signals:
            # The longest first, so that the last ones to finish are short.
            todo = deque(sorted(configs, key=lambda config: -config.epochs))
            with ThreadPoolExecutor(self.jobs) as pool:
                workers = [pool.submit(self._work, todo) for _ in range(self.jobs)]
                self._heed_signals(workers)
            failures = [error for worker in workers for error in worker.result()]
        if self._signals.last is not None:
            unsaved = len(self._unsaved)
            raise StoppedError(
                self._signals.last,
                seen=f'{count_of(unsaved, "running trial")} ended without a snapshot'
                if unsaved
                else 'every running trial took a snapshot',
                fix='the same command resumes each trial from its last snapshot',
            )
        return failures

    def _heed_signals(self, workers):
        told = None
        while wait(workers, SIGNAL_SECONDS).not_done:
            if self._signals.last != told:
                told = self._signals.last
                with self._lock:
                    attempts = tuple(self._attempts)
                for attempt in attempts:
                    attempt.stop(told)

    def _work(self, todo):
        failures = []
        while todo and self._signals.last is None:
            config = self._next(todo)
            if config is None:
                self._say_that_it_waits()
                # Those processes may die.
                time.sleep(RETRY_SECONDS)
                continue
            code, said = self._attempt(config)
            if code == InUseError.exit_code:
                # Another process took it between the check in _next and the start.
                todo.append(config)
            elif self._signals.last is not None:
                self._note_end(config, code, said)
            elif code:
                error = failed(config, self.machine, code, said)
                self._failures[config.trial] += 1
                if self._failures[config.trial] <= RETRIES.get(error.exit_code, 0):
                    self.say(f'{error.problem}: {error.reason}; it is tried again')
                    # After the others: the memory may be free again by then.
                    todo.append(config)
                else:
                    self.on_line(config, {'failed': error.exit_code})
                    self.on_text(config, str(error))
                    failures.append(error)
        return failures

    def _say_that_it_waits(self):
        with self._lock:
            # With trials of its own still running, it does not only wait.
            if self._waits or self._attempts:
                return
            self._waits = True
        self.say('other processes are training the remaining trials')

    def _note_end(self, config, code, said):
        """Tells why a trial that was asked to stop has not taken a snapshot."""
        if is_unsaved(code):
            self._unsaved.append(config)
            self.on_text(config, str(failed(config, self.machine, code, said)))

    def _next(self, todo):
        """Takes the first trial that no process is training out of ``todo``; ``None`` if none."""
        for _ in range(len(todo)):
            with contextlib.suppress(IndexError):  # Other threads take trials too.
                config = todo.popleft()
                if not store.holder(self.machine.folder(config.trial)):
                    return config
                todo.append(config)
        return None

    def _attempt(self, config):
        attempt = Attempt(words(config, self.machine), self._threads, launcher=self.launcher)
        with self._lock:
            self._attempts.add(attempt)
            # A signal after this check finds the attempt in the set, and stops it.
            if self._signals.last is not None:
                return 0, ''
        try:
            code, said = attempt.run(
                lambda line: self.on_line(config, line), lambda text: self.on_text(config, text)
            )
            if not code and said.strip():
                self.on_text(config, said.strip())
            if code:
                self.on_line(config, {'end': code})
            return code, said
        finally:
            with self._lock:
                self._attempts.discard(attempt)


def default_jobs(device, threads=1):
    """Returns the default number of trials side by side: one on a GPU, else as the cores allow.

    Args:
        device (str): Chainer's name of the device.
        threads (int): Threads of a trial.
    """
    return 1 if device.startswith('@cupy') else max(1, cores() // threads)


def default_threads(device, jobs=1):
    """Returns the default number of threads of a new trial: ``OMP_NUM_THREADS`` if it is set.

    Otherwise it is one on a CPU, even for the last trial: trials side by side have the highest
    throughput, and the result of a trial must not depend on the number of others.

    Args:
        device (str): Chainer's name of the device.
        jobs (int): Trials side by side, which share the CPU cores if they run on a GPU.
    """
    shared = max(1, cores() // jobs) if device.startswith('@cupy') else 1
    return asked_threads() or shared


def processes_for_gpus(gpus, batch_size):
    """Returns the number of processes of a trial that uses all GPUs of a machine.

    It is one per GPU, or fewer if a batch cannot be divided equally, and one without a GPU.
    """
    return max(size for size in range(1, max(1, gpus) + 1) if batch_size % size == 0)
