"""A trial that has to wait for its cores says so once, and what helps."""

import os
import threading
import time

import pytest
import tiny

from chainer_jo.benchmark.neighbour import busy_neighbour
from chainer_jo.training import neighbours, trial


@pytest.mark.skipif(neighbours.seconds_waited() is None, reason='needs /proc/self/task/*/schedstat')
def test_a_thread_that_shares_its_core_has_waited():
    def work(found):
        # One core for both; of this thread alone.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with busy_neighbour():
            before, end = neighbours.seconds_waited(), time.monotonic() + 1
            while time.monotonic() < end:
                pass
            found.append(neighbours.seconds_waited() - before)

    found = []
    thread = threading.Thread(target=work, args=[found])
    thread.start()
    thread.join()
    assert 0.2 < found[0] <= 1.1


@pytest.fixture
def waited(monkeypatch):
    """Lets every look find that a part of the time was waited for."""

    def set_share(share):
        now = iter(range(10**6))
        monkeypatch.setattr(neighbours, 'SECONDS', 1)
        monkeypatch.setattr(neighbours.time, 'monotonic', lambda: float(next(now)))
        monkeypatch.setattr(neighbours, 'seconds_waited', lambda: share * next(now))

    return set_share


@pytest.mark.parametrize(('threads', 'count'), [(2, 1), (1, 0)])
def test_a_trial_of_several_threads_that_waits_says_once_what_helps(
    threads, count, waited, tmp_path
):
    config, told = tiny.config('cross_entropy', 'cross_entropy.train.epochs=1'), []
    waited(0.5)
    tiny.run(config, tmp_path, trial.Observer(warn=told.append), threads=threads)
    assert len(told) == count
    if told:
        assert told[0].startswith(f'{config.trial}: waited for a core 50 % of the last ')
        assert '--threads 1' in told[0]


@pytest.mark.parametrize('share', [0.1, None])
def test_a_trial_that_hardly_waits_or_of_which_nobody_knows_says_nothing(
    share, waited, monkeypatch
):
    told = []
    waited(share or 0.5)
    if share is None:
        monkeypatch.setattr(neighbours, 'seconds_waited', lambda: None)
    extension = neighbours.NoticeNeighbours('a trial', 2, told.append)
    extension.initialize(None)
    for _ in range(100):
        extension(None)
    assert told == []
