"""Threads that take all cores are bound to one each while they compute, and no longer."""

import os
import threading

import pytest
import tiny

from chainer_jo import backends, cores
from chainer_jo.backends import onednn
from chainer_jo.training import trial
from chainer_jo.training.machine import cores as count_cores
from chainer_jo.training.read_ahead import read_ahead

ALL = cores.allowed()

pytestmark = [
    pytest.mark.skipif(len(ALL) < 2, reason='needs two cores'),
    pytest.mark.usefixtures('onednn_loaded'),
]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    for name in cores.BINDING_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def places_of_openmp(count):
    """The cores of each thread that an operation starts from here."""
    found = {}

    @cores._PARALLEL_REGION
    def look(_):
        found[onednn.load().library.omp_get_thread_num()] = os.sched_getaffinity(0)

    onednn.load().library.GOMP_parallel(look, None, count, 0)
    return [found[i] for i in range(count)]


def test_each_thread_has_a_core_while_the_block_runs():
    with backends.binding_threads('@numpy', len(ALL)):
        assert places_of_openmp(len(ALL)) == [{core} for core in ALL]
        assert cores.allowed() == ALL
        assert count_cores() == len(ALL)
        with backends.binding_threads('@numpy', len(ALL)):
            pass
        assert places_of_openmp(len(ALL)) == [{core} for core in ALL]
    assert places_of_openmp(len(ALL)) == [{*ALL}] * len(ALL)


def test_an_error_frees_them_too():
    with pytest.raises(KeyError), backends.binding_threads('@numpy', len(ALL)):
        raise KeyError
    assert os.sched_getaffinity(0) == {*ALL}


@pytest.mark.parametrize('variable', cores.BINDING_VARIABLES)
def test_what_a_user_has_said_of_it_counts(variable, monkeypatch):
    monkeypatch.setenv(variable, 'false')
    with backends.binding_threads('@numpy', len(ALL)):
        assert os.sched_getaffinity(0) == {*ALL}


@pytest.mark.parametrize(
    ('device', 'backend', 'count'),
    [('@numpy', 'auto', 1), ('@numpy', 'auto', len(ALL) + 1), ('@numpy', 'chainer', len(ALL))],
)
def test_other_threads_are_not_bound(device, backend, count):
    backends.use(backend)
    with backends.binding_threads(device, count):
        assert os.sched_getaffinity(0) == {*ALL}


def test_a_process_that_may_use_some_cores_binds_to_those():
    found = []

    def work():
        os.sched_setaffinity(0, {ALL[-1]})
        with backends.binding_threads('@numpy', len(ALL)):
            found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [{ALL[-1]}]


def test_threads_that_read_images_run_on_all_cores():
    with backends.binding_threads('@numpy', len(ALL)):
        found = list(read_ahead(lambda _: os.sched_getaffinity(0), range(3)))
    assert found == [{*ALL}] * 3


@pytest.mark.parametrize(('threads', 'places'), [(len(ALL), 1), (1, len(ALL))])
def test_a_trial_binds_its_threads_while_it_trains(threads, places, tmp_path):
    during = []
    observer = trial.Observer(epoch=lambda _: during.append(len(os.sched_getaffinity(0))))
    config = tiny.config('cross_entropy', 'cross_entropy.train.epochs=1')
    tiny.run(config, tmp_path, observer, threads=threads)
    assert during == [places]
    assert os.sched_getaffinity(0) == {*ALL}


def test_fewer_threads_than_cores_are_not_bound(monkeypatch):
    monkeypatch.setattr(cores, 'allowed', lambda: [*ALL, max(ALL) + 1])
    with backends.binding_threads('@numpy', len(ALL)):
        assert os.sched_getaffinity(0) == {*ALL}
