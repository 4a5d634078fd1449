"""F-01 on a cluster: worker, trial or scheduler killed at any moment loses nothing."""

import contextlib
import os
import random
import signal
import threading

import dask_cluster
import pytest
import tiny

pytestmark = [dask_cluster.NEEDED, pytest.mark.long]
KILLS = 100
# Of ten kills so many meet each.
TARGETS = ['worker'] * 4 + ['trial'] * 5 + ['scheduler']


class Killer:
    """Kills processes of a cluster of two nannies, one after the other, in a thread."""

    def __init__(self, folder):
        self.cluster, self.done, self.over = dask_cluster.Cluster(folder), 0, threading.Event()
        self._moments = random.Random(0)
        self._start_workers()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self._thread.join()
        self.cluster.close()

    def _start_workers(self):
        self._nannies = [
            self.cluster.worker(f'{name}-{self.done}', nanny=True) for name in ('one', 'two')
        ]

    def _kill(self):
        while not self.over.wait(self._moments.uniform(0.2, 1.5)) and self.done < KILLS:
            target = self._moments.choice(TARGETS)
            if target == 'scheduler':
                self.cluster.close()
                self.done += 1
                self.cluster.start_scheduler()
                self._start_workers()
            elif pids := [pid for pid, kind in self._processes() if kind == target]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._moments.choice(pids), signal.SIGKILL)
                    self.done += 1

    def _processes(self):
        import psutil

        for nanny in self._nannies:
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(nanny.pid).children(recursive=True):
                    words = process.cmdline()
                    if 'chainer_jo' in words:
                        yield process.pid, 'trial'
                    elif any('spawn_main' in word for word in words):
                        yield process.pid, 'worker'


def test_killed_at_random_moments_trials_on_a_cluster_end_bit_identical(
    tmp_path, monkeypatch, figure
):
    from chainer_jo.sweep import cluster

    dask_cluster.hurry(monkeypatch)
    monkeypatch.setattr(cluster, 'TRIES', 10**6)
    configs = [
        tiny.config(method, f'{method}.{stage}.epochs=20', seed=seed)
        for method, stage in (('cross_entropy', 'train'), ('ours', 'fine_tune'))
        for seed in range(2)
    ]
    expected = [outcome(config, tmp_path / 'here') for config in configs]
    runs = identical = 0
    with Killer(tmp_path / 'cluster') as killer:
        while killer.done < KILLS:
            out, runs = tmp_path / f'run{runs}', runs + 1
            assert dask_cluster.Run(killer.cluster.address, out)(configs) == []
            found = [tiny.outcome(config, out) for config in configs]
            identical += sum(map(dict.__eq__, found, expected))
    assert identical == runs * len(configs)
    figure(
        'F-01',
        f'on a cluster: {killer.done} kills, {runs * len(configs)} trials, {identical} identical',
    )


def outcome(config, out):
    tiny.run(config, out)
    return tiny.outcome(config, out)
