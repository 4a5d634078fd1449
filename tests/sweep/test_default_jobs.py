import importlib.util

import mpi
import pytest
import tiny

from chainer_jo import cli
from chainer_jo.commands import sweep as commands
from chainer_jo.console import TrialProgress
from chainer_jo.errors import ConfigError
from chainer_jo.sweep import local, plan
from chainer_jo.training import device, mpiexec


def test_a_cpu_gets_as_many_trials_as_their_threads_fit_and_a_gpu_one_trial(monkeypatch):
    monkeypatch.setattr(local, 'cores', lambda: 6)
    assert [local.default_jobs('@numpy', threads) for threads in (1, 2, 4, 8)] == [6, 3, 1, 1]
    assert local.default_jobs('@cupy:1') == 1


@pytest.mark.parametrize('jobs', [1, 2, 6])
def test_a_trial_on_a_cpu_has_one_thread_however_many_there_are(jobs, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(local, 'cores', lambda: 6)
    assert local.default_threads('@numpy', jobs) == 1
    assert local.default_threads('@cupy:0', jobs) == 6 // jobs
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert local.default_threads('@numpy', jobs) == 3


@pytest.mark.parametrize(
    ('gpus', 'batch_size', 'expected'),
    [(0, 32, 1), (1, 32, 1), (2, 32, 2), (8, 32, 8), (6, 32, 4), (3, 128, 2), (3, 48, 3)],
)
def test_a_trial_has_a_process_a_gpu_unless_its_batch_cannot_be_divided(gpus, batch_size, expected):
    assert local.processes_for_gpus(gpus, batch_size) == expected


@pytest.mark.parametrize(
    ('words', 'gpus', 'size'),
    [
        ('--processes auto', 4, 4),
        ('--processes auto', 1, 1),
        ('--processes auto --device cuda:1', 4, 1),
        ('--processes auto --processes 2', 4, 2),
        ('', 4, 1),
    ],
)
def test_table4_is_started_by_mpiexec_where_there_are_several_gpus(words, gpus, size, monkeypatch):
    monkeypatch.setattr(device, 'count_gpus', lambda: gpus)
    monkeypatch.setattr(mpiexec, 'find_mpiexec', lambda: '/bin/mpiexec')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
    monkeypatch.setattr(local, 'cores', lambda: 8)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    given = cli.parser().parse_args(f'run table4 {words}'.split())
    todo = plan.trials('table4', 'paper')
    said = []
    monkeypatch.setattr(commands, 'say', said.append)
    made = commands._here(
        given,
        tiny.machine(),
        '@cupy:0',
        todo,
        TrialProgress(1, 0),
        commands._processes(given, todo),
    )
    # They depart from the paper's batch of 32.
    assert [f' sees {32 // size} images' in line for line in said] == [True] * (size > 1)
    assert made.launcher == (['/bin/mpiexec', '-n', str(size)] if size > 1 else [])
    # They share the cores beside their GPUs.
    assert (made.jobs, made._threads) == (1, 8 // size)


@pytest.mark.parametrize(
    ('words', 'problem'),
    [
        ('--processes 5', 'a batch of 32 cannot be divided among 5 processes'),
        ('--processes 2 --device cuda:0', '2 processes cannot share one GPU'),
        ('--processes 4', '4 processes on a machine with 3 GPU'),
    ],
)
def test_processes_that_no_trial_could_have_are_refused_before_the_first(
    words, problem, monkeypatch
):
    monkeypatch.setattr(device, 'count_gpus', lambda: 0 if '5' in words else 3)
    given = cli.parser().parse_args(f'run table4 {words}'.split())
    with pytest.raises(ConfigError, match=problem):
        commands._processes(given, plan.trials('table4', 'paper'))


def test_several_processes_without_mpi_are_an_error_with_its_fix(monkeypatch):
    monkeypatch.setattr(mpiexec, 'find_mpiexec', lambda: None)
    assert mpiexec.launcher(1) == []
    with pytest.raises(ConfigError, match='no MPI to train with 2 processes') as refused:
        mpiexec.launcher(2)
    assert refused.value.fix == 'pip install ".[mpi]", or --processes 1'


@mpi.NEEDED
def test_a_table_is_trained_by_several_processes_a_trial(tmp_path):
    config, lines = tiny.config('cross_entropy'), []
    sweep = local.LocalSweep(
        tiny.machine(tmp_path),
        1,
        1,
        lambda config, line: lines.append(line),
        launcher=mpiexec.launcher(2),
    )
    assert sweep.run([config]) == []
    assert lines[-1]['result']['environment']['processes'] == 2
