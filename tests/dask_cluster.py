"""A Dask scheduler and workers as processes of their own, as on several hosts.

Each worker has a folder of its own. They are started as from a shell, so that one can be killed.
"""

import contextlib
import gc
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings

import pytest
import tiny

from chainer_jo import datasets

PATIENCE = 60  # Seconds until a test gives up; nothing is expected to take long.
NEEDED = pytest.mark.skipif(
    importlib.util.find_spec('distributed') is None,
    reason='Dask is not installed: pip install ".[dask]"',
)
# In a mount namespace of its own, with an empty file system over the folder that follows.
HIDING = ['unshare', '-rm', 'sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"']


def can_hide():
    """Returns whether this machine lets a process have mounts of its own."""
    try:
        return subprocess.run([*HIDING[:2], 'true'], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Process:
    """Python with some words, its output in a file; ``before`` is a command that starts it."""

    def __init__(self, words, log, environment=None, folder=None, before=()):
        self.log = log
        with log.open('a') as file:
            self._process = subprocess.Popen(
                [*map(str, before), sys.executable, *map(str, words)],
                cwd=folder,
                env=os.environ | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid

    def said(self):
        return self.log.read_text()

    def wait_for(self, pattern):
        """Waits until it has printed what matches ``pattern``, and returns the last match."""
        end = time.monotonic() + PATIENCE
        while not (found := re.findall(pattern, self.said())):
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)
        return found[-1]

    def wait(self):
        """Waits for its end and returns its exit code, ``-n`` if signal ``n`` killed it."""
        return self._process.wait(PATIENCE)

    def end(self, signum=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signum)
        return self.wait()


def free_port():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        return taken.getsockname()[1]


class Cluster:
    """A scheduler, and the workers that a test adds.

    Args:
        folder (pathlib.Path): For logs and for what Dask writes.
    """

    def __init__(self, folder):
        self.folder, self.port, self._processes = folder, free_port(), []
        self.address = f'tcp://127.0.0.1:{self.port}'
        folder.mkdir(exist_ok=True)
        self.start_scheduler()

    def start_scheduler(self):
        words = ['--host', '127.0.0.1', '--port', self.port, '--no-dashboard']
        words += ['--dashboard-address', ':0', '--no-jupyter']
        self.scheduler = self._start('scheduler', words)
        self.scheduler.wait_for('Scheduler at')

    def worker(self, name, *more, nanny=False, hides=None, **environment):
        """Starts a worker of one thread and returns its process once it is registered.

        Args:
            more (str): Further options.
            nanny (bool): Whether a second process starts it, again and again.
            hides (os.PathLike): A folder that it does not have, as on a host without its mount.
        """
        words = [self.address, '--name', name, '--nthreads', 1, '--no-dashboard']
        words += ['--nanny' if nanny else '--no-nanny', '--host', '127.0.0.1', *more]
        words += ['--local-directory', self.folder / name]
        (self.folder / name).mkdir(exist_ok=True)
        process = self._start('worker', words, name, environment, hides)
        process.wait_for('Registered to')
        return process

    def _start(self, what, words, name='scheduler', environment=None, hides=None):
        process = Process(
            ['-m', f'distributed.cli.dask_{what}', *words],
            self.folder / f'{name}.log',
            environment,
            self.folder,
            [*HIDING, hides] if hides else [],
        )
        self._processes.append(process)
        return process

    def close(self):
        for process in self._processes:
            process.end()
        with warnings.catch_warnings():
            # Dask leaves a socket open that it was connecting to a scheduler when that was killed.
            warnings.simplefilter('ignore', ResourceWarning)
            gc.collect()


class Run:
    """A ClusterSweep, and all that it says.

    Args:
        heard (callable): Called with every (TrialConfig, dict).
        told (callable): Called with every text for people.
    """

    def __init__(self, address, out, heard=lambda config, line: None, told=None, **options):
        self.lines, self.said, self._told = [], [], told
        self._heard = heard
        from chainer_jo.sweep import cluster

        machine = tiny.machine(out, snapshot_seconds=0.0, **options)
        data = {'fashion_mnist': datasets.load('fashion_mnist').digest}
        self.sweep = cluster.ClusterSweep(
            address, machine, data, self._line, lambda config, text: self._say(text), self._say
        )

    def _line(self, config, line):
        self.lines.append((config.trial, line))
        self._heard(config, line)

    def _say(self, text):
        self.said.append(text)
        if self._told:
            self._told(text)

    def __call__(self, configs):
        return self.sweep.run(configs)


def hurry(monkeypatch):
    """Nobody is waited for as long as on a real cluster."""
    from chainer_jo.sweep import cluster, cluster_workers

    monkeypatch.setattr(cluster, 'PATIENCE_SECONDS', 1.0)
    monkeypatch.setattr(cluster, 'RETRY_SECONDS', 0.2)
    monkeypatch.setattr(cluster_workers, 'AGAIN_SECONDS', 0.5)
    monkeypatch.setattr(cluster_workers, 'ASK_SECONDS', 0.1)
