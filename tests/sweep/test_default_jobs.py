import pytest

from chainer_jo.sweep import local


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
