"""Runs trials on a Dask cluster, one per task, each in a child process of its worker.

No state in Dask has to last: a trial resumes from its snapshot in the shared folder, on any worker
and under any scheduler.
"""

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import distributed

from chainer_jo import store
from chainer_jo.datasets.dataset import named_place
from chainer_jo.errors import (
    ChainerJoError,
    ConfigError,
    DivergedError,
    InUseError,
    KilledError,
    StoppedError,
    UnforeseenError,
    WriteError,
)
from chainer_jo.sweep import attempt, on_worker
from chainer_jo.sweep.cluster_workers import Workers
from chainer_jo.training.signals import Signals

CONNECT_SECONDS = 10.0
RETURN_SECONDS = 600.0  # A scheduler may be unreachable for this long.
PATIENCE_SECONDS = 60.0  # Without training before the user is told why.
SNAPSHOT_SECONDS = 60.0  # Time for trials to end after a signal.
ARRIVE_SECONDS = 90.0  # NFS may show a new file to another host a minute late.
RETRY_SECONDS = 2.0  # First pause; it doubles with each retry, up to PATIENCE_SECONDS.
POLL_SECONDS = 0.1
TRIES = 3  # Failures of a trial without a new epoch in between.
MARK = '.cluster-'
MARK_SECONDS = 60.0  # Age from which a mark that is not locked is that of a dead run.


@dataclass
class _Trial:
    config: Any
    handed_out: int = 0
    epoch: int = 0
    failures: int = 0
    failed_at: set = field(default_factory=set)
    pause: float = 0.0
    due: float = 0.0


@dataclass
class _Task:
    trial: _Trial
    future: distributed.Future
    addresses: set
    address: str | None = None
    end: tuple = (0, '')


class ClusterSweep:
    """Runs trials on the workers of a cluster.

    Args:
        address (str): Address of the scheduler, such as ``tcp://node1:8786``.
        machine (Machine): Device, backend and folders, which have the same paths on all machines.
        data (dict): Digest of each data set by name.
        on_line (callable): As for :class:`~chainer_jo.sweep.local.LocalSweep`.
        on_text (callable): Called with (TrialConfig, str) for other output of its process.
        say (callable): Called with messages about the cluster.
        jobs (int): Largest number of trials at a time; by default as many as there are cores or
            GPUs.
    """

    def __init__(self, address, machine, data, on_line, on_text, say, jobs=None):
        self.address, self.machine = address, _everywhere(machine)
        self.on_line, self.on_text, self.say = on_line, on_text, say
        self._data, self._jobs = data, jobs or float('inf')
        # Names this run in keys and topics, because other runs may use the same cluster.
        self._run = secrets.token_hex(4)
        self._events, self._tasks, self._arriving = SimpleQueue(), {}, []
        self._todo, self._failures = deque(), []
        self._client = self._workers = None
        self._idle_since, self._told = time.monotonic(), None

    def run(self, configs):
        """Runs all trials and returns the errors of those that failed.

        Raises:
            StoppedError: A signal came; every running trial was asked for a snapshot.
            ConfigError: The scheduler cannot be reached.
            RefusedError: No worker may train.
        """
        # The longest first, so that the last ones to finish are short.
        self._todo.extend(map(_Trial, sorted(configs, key=lambda config: -config.epochs)))
        if not configs:
            return []
        with Signals() as signals, _marked(self.machine.out, self._run) as mark:
            self._order = {
                'run': self._run,
                'package': on_worker.package(),
                'mark': str(mark),
                'where': self.machine.data,
                'data': self._data,
            }
            try:
                self._connect()
                while self._todo or self._tasks or self._arriving:
                    if signals.last is not None:
                        self._stop(signals)
                    try:
                        self._advance()
                    except (OSError, CancelledError) as error:
                        self._lost(error, signals)
                    except ChainerJoError:
                        raise
                    except Exception as error:
                        # A client that has lost its scheduler raises errors of many kinds.
                        if self._client.status == 'running':
                            raise
                        self._lost(error, signals)
            finally:
                self._disconnect()
        return self._failures

    def _connect(self):
        try:
            self._client = _client(self.address)
            self._client.subscribe_topic(self._run, self._events.put)
            self._workers = Workers(self._client, self._order, self.say)
            self._workers.update()
            # Inside, because it asks the scheduler once more.
            dashboard = self._client.dashboard_link
        except Exception as error:
            raise ConfigError(
                f'the scheduler {self.address} cannot be reached',
                seen=f'{type(error).__name__}: {error}',
                fix='start one with dask scheduler and name the address that it prints',
            ) from error
        count = len(self._workers.present)
        self.say(f'cluster  {self.address}: {count} workers; {dashboard}')

    def _disconnect(self):
        if self._client is not None:
            # Closing cancels the tasks that are still pending. A client that is just connecting
            # again closes too, but raises errors of many kinds.
            with contextlib.suppress(Exception):
                self._client.close(timeout=CONNECT_SECONDS)
        self._client = None

    def _lost(self, error, signals):
        """Waits for the scheduler to return; all trials are then handed out again."""
        self.say(f'{self.address} does not answer ({error}); trials continue when it is back')
        self._disconnect()
        for task in self._tasks.values():
            self._todo.appendleft(task.trial)
        # A worker that is still training one of them holds its lock: the new task finds the trial
        # in use, and tries again later.
        self._tasks.clear()
        end = time.monotonic() + RETURN_SECONDS
        while self._client is None:
            if signals.last is not None:
                raise StoppedError(
                    signals.last,
                    seen='the scheduler was gone; trials take a snapshot when their worker stops',
                    fix='the same command resumes from there',
                )
            try:
                self._connect()
            except ConfigError:
                self._disconnect()
                if time.monotonic() > end:
                    raise
                time.sleep(POLL_SECONDS)

    def _advance(self):
        if self._client.status != 'running':
            raise OSError('the connection is lost')
        self._hear(POLL_SECONDS)
        self._workers.update()
        self._collect()
        self._hand_out()
        self._receive()
        self._explain()

    def _hear(self, seconds):
        """Processes the events from workers; waits at most ``seconds`` for the first."""
        with contextlib.suppress(Empty):
            while True:
                _, event = self._events.get(timeout=seconds)
                seconds = 0
                # Late messages from an earlier task of the same trial are ignored.
                if task := self._tasks.get(event['key']):
                    self._heed(task, event)

    def _heed(self, task, event):
        config = task.trial.config
        if 'begins' in event:
            task.address = event['address']
            self.say(f'{config.trial}: on worker {self._workers.place(task.address)}')
        elif 'ends' in event:
            task.address, task.end = None, (event['ends'], event['said'].strip())
            if event['ends']:
                self.on_line(config, {'end': event['ends']})
        elif 'text' in event:
            self.on_text(config, event['text'])
        # A result counts only once its file is in the folder, so its line is ignored.
        elif 'result' not in event['line']:
            if event['line'].get('epoch', 0) > task.trial.epoch:
                # A new epoch shows that the trial can train: only failures in a row count. One that
                # was trained before, and again from the snapshot, does not.
                task.trial.epoch = event['line']['epoch']
                task.trial.failures = 0
                task.trial.failed_at.clear()
            self.on_line(config, event['line'])

    def _collect(self):
        for key, task in list(self._tasks.items()):
            if task.future.done():
                # Last, because a worker that is gone may keep its answer: then the task is lost,
                # and the trial is handed out again.
                self._end(task)
                del self._tasks[key]
            elif not task.addresses & self._workers.present.keys():
                # Its workers are gone, and the task is restricted to them: submit it again.
                self._client.cancel([task.future])
                self._todo.appendleft(task.trial)
                del self._tasks[key]

    def _end(self, task):
        status = task.future.status
        if status == 'finished':
            done = task.future.result(timeout=CONNECT_SECONDS)
            self._judge(task.trial, done['code'], done['said'].strip(), done['address'])
        elif status == 'error':
            error = task.future.exception(timeout=CONNECT_SECONDS)
            self._judge(task.trial, *_unforeseen(error), None)
        else:
            self._todo.appendleft(task.trial)

    def _judge(self, trial, code, said, address):
        """Decides what to do with a trial whose process has ended."""
        if code == 0:
            if said:
                self.on_text(trial.config, said)
            # The exit code comes by Dask, and may be faster than the file through NFS.
            self._arriving.append((trial.config, time.monotonic() + ARRIVE_SECONDS))
        elif code == InUseError.exit_code:
            # Another run, or the process of a lost worker, is training it: train others first.
            self._again(trial, self._todo.append)
        elif code > 128:
            # Stopped by a signal, because its worker was stopped.
            self._again(trial, self._todo.appendleft)
        else:
            # The worker may be the cause: it is examined, and the trial goes to another.
            self._workers.doubt(address)
            trial.failures += 1
            trial.failed_at.add(address)
            worker = self._workers.place(address)
            error = attempt.failed(trial.config, self.machine, code, said, worker)
            # A diverged trial would diverge on every worker.
            if code == DivergedError.exit_code or trial.failures >= TRIES:
                self._fail(trial.config, error)
            else:
                self.say(f'{error.problem}; it is tried again: {error.seen}')
                self._again(trial, self._todo.append)

    def _again(self, trial, put):
        trial.pause = min(max(RETRY_SECONDS, 2 * trial.pause), PATIENCE_SECONDS)
        trial.due = time.monotonic() + trial.pause
        put(trial)

    def _hand_out(self):
        """Submits only tasks that can run now: a task queued at a worker would be lost with it."""
        accepted, now = self._workers.accepted, time.monotonic()
        gpu = self._needs_gpu()
        free = min(self._jobs, sum(w.slots(gpu) for w in accepted.values())) - len(self._tasks)
        due = [trial for trial in self._todo if trial.due <= now]
        able = {address for address, worker in accepted.items() if worker.slots(gpu)}
        for trial in due[: max(0, free)]:
            # A worker on which the trial failed gets it only if there is no other.
            self._submit(trial, able - trial.failed_at or able, gpu)
            # Only now: if the submission fails, the trial stays in the queue.
            self._todo.remove(trial)

    def _needs_gpu(self):
        device, workers = self.machine.device, self._workers.present.values()
        return device.startswith('cuda') or (
            device == 'auto' and any(worker.gpus for worker in workers)
        )

    def _submit(self, trial, addresses, gpu):
        config, machine = trial.config, self.machine
        if gpu and machine.device == 'auto':
            # With 'auto', a worker whose GPU does not work would train on its cores.
            machine = replace(machine, device='cuda:0')
        trial.handed_out += 1
        # The run is part of the key: other runs on the cluster may have the same trial, in another
        # folder.
        key = f'{config.trial}-{self._run}-{trial.handed_out}'
        order = {
            'run': self._run,
            'words': attempt.words(_with_absolute_labels(config), machine),
            'threads': machine.threads,
            'gpu': gpu,
            'share': self._workers.per_host(gpu),
        }
        future = self._client.submit(
            on_worker.train,
            order,
            key=key,
            pure=False,
            workers=sorted(addresses),
            resources={'GPU': 1} if gpu else None,
        )
        self._tasks[key] = _Task(trial, future, addresses)

    def _receive(self):
        """Reads the results that have appeared in the folder."""
        for config, end in tuple(self._arriving):
            path = self.machine.folder(config.trial) / 'result.json'
            if os.path.exists(path):
                self._read(config, path)
            elif time.monotonic() < end:
                continue
            else:
                self._fail(config, _not_arrived(config, path))
            # Only now: if on_line raises an error, the result is reported again.
            self._arriving.remove((config, end))

    def _read(self, config, path):
        try:
            result = store.read_sealed(path)
        except ChainerJoError as error:
            self._fail(config, error)
        else:
            self.on_line(config, {'result': result})

    def _fail(self, config, error):
        self.on_line(config, {'failed': error.exit_code})
        self.say(str(error))
        self._failures.append(error)

    def _explain(self):
        """Tells the user why, if no trial has been training for a while.

        Raises:
            RefusedError: No worker may train.
        """
        error = self._workers.hopeless()
        if error and not self._tasks:
            raise error
        if self._arriving or any(task.address for task in self._tasks.values()):
            self._idle_since, self._told = time.monotonic(), None
        elif time.monotonic() - self._idle_since > PATIENCE_SECONDS:
            self._idle_since, reason = time.monotonic(), self._why_idle()
            if reason != self._told:
                self._told = reason
                self.say(f'no trial has begun for {PATIENCE_SECONDS:.0f} s: {reason}')

    def _why_idle(self):
        present, accepted = self._workers.present, self._workers.accepted
        gpu = self._needs_gpu()
        if not present:
            return f'no worker has joined {self.address}'
        if gpu and not any(worker.gpus for worker in present.values()):
            return (
                f'none of the {len(present)} workers has the resource GPU; start them with '
                '--resources "GPU=1", or choose --device cpu'
            )
        if self._tasks or not accepted:
            return f'{len(present)} workers are refused, paused, or busy with other tasks'
        return 'other processes are training the remaining trials'

    def _stop(self, signals):
        """Cancels all tasks, and waits for the running trials to take a snapshot.

        Raises:
            StoppedError: Always.
        """
        begun = [task for task in self._tasks.values() if task.address]
        # A client without its scheduler raises errors of many kinds.
        with contextlib.suppress(Exception):
            self._client.cancel([task.future for task in self._tasks.values()])
        end = time.monotonic() + SNAPSHOT_SECONDS
        while any(task.address for task in begun) and time.monotonic() < end:
            self._hear(POLL_SECONDS)
        unsaved = [task for task in begun if attempt.is_unsaved(task.end[0])]
        for task in unsaved:
            # A cancelled task returns no answer.
            self.say(str(attempt.failed(task.trial.config, self.machine, *task.end)))
        raise StoppedError(
            signals.last,
            seen=_snapshots(begun, unsaved),
            fix='the same command resumes each trial from its last snapshot',
        )


def _snapshots(begun, unsaved):
    left = sum(task.address is not None for task in begun) + len(unsaved)
    if left:
        return f'{left} of {len(begun)} running trials have not confirmed a snapshot'
    return 'every running trial took a snapshot' if begun else 'no trial was running'


@contextlib.contextmanager
def _marked(out, run):
    """Yields a new folder in ``out`` whose lock this process holds while the block runs."""
    # Folders of dead runs are removed; those of live runs are locked, and stay, as do new ones,
    # whose runs may be about to lock them.
    for left in out.glob(f'{MARK}*'):
        with contextlib.suppress(OSError, InUseError, WriteError):
            if time.time() - left.stat().st_mtime > MARK_SECONDS:
                with store.lock(left):
                    shutil.rmtree(left, ignore_errors=True)
    mark = out / f'{MARK}{run}'
    try:
        with store.lock(mark):
            yield mark
    finally:
        shutil.rmtree(mark, ignore_errors=True)


def _client(address):
    # Silenced: lost connections are reported here, in fewer words.
    logging.getLogger('distributed').setLevel(logging.CRITICAL)
    for name in ('client', 'core', 'batched', 'comm'):
        logging.getLogger(f'distributed.{name}').setLevel(logging.CRITICAL)
    return distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)


def _everywhere(machine):
    """Returns a Machine with absolute paths: workers run in another folder."""
    # The workers' own environment may name another place.
    paths = {'data': named_place(machine.data), 'weights': machine.weights}
    absolute = {name: os.path.abspath(path) for name, path in paths.items() if path}
    return replace(machine, out=Path(machine.out).absolute(), **absolute)


def _with_absolute_labels(config):
    if not config.labels_file:
        return config
    return replace(config, labels_file=os.path.abspath(config.labels_file))


def _unforeseen(error):
    """Returns an exit code and a message for a task that ended without a result."""
    if isinstance(error, distributed.KilledWorker):
        return KilledError.exit_code, 'every worker that trained it died'
    return UnforeseenError.exit_code, f'{type(error).__name__}: {error}'


def _not_arrived(config, path):
    return WriteError(
        f'the result of trial {config.trial} is missing',
        seen=f'a worker has trained it, but there is no {path}',
        fix='make sure that all machines use the same results folder',
    )
