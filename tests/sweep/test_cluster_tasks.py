"""What becomes of a cluster's tasks whose worker is gone at the wrong moment; no cluster needed."""

from collections import deque
from types import SimpleNamespace

import pytest
import tiny

pytest.importorskip('distributed')

from chainer_jo.sweep import cluster


class Gone:
    """A finished task whose worker died with the answer."""

    status = 'finished'

    def done(self):
        return True

    def result(self, timeout):
        raise TimeoutError(f'no answer in {timeout} s')


def sweep(tmp_path):
    told = []
    made = cluster.ClusterSweep(
        'tcp://gone:1', tiny.machine(tmp_path), {}, lambda *line: told.append(line), None, print
    )
    made.told = told
    return made


def test_a_trial_whose_answer_is_lost_is_handed_out_again(tmp_path, monkeypatch):
    made = sweep(tmp_path)
    task = cluster._Task(cluster._Trial(tiny.config('cross_entropy')), Gone(), {'a'})
    made._tasks['key'] = task
    with pytest.raises(OSError, match='no answer'):
        made._collect()
    monkeypatch.setattr(made, '_connect', lambda: setattr(made, '_client', object()))
    made._lost(OSError('no answer'), SimpleNamespace(last=None))
    assert made._todo == deque([task.trial])
    assert made._tasks == {}


def test_only_an_epoch_that_was_not_trained_before_clears_failures(tmp_path):
    made = sweep(tmp_path)
    trial = cluster._Trial(tiny.config('cross_entropy'))
    task = cluster._Task(trial, None, {'a'})
    left = []
    for epoch in (1, 2, 2, 1, 3):
        trial.failures += 1
        trial.failed_at.add('a')
        made._heed(task, {'line': {'epoch': epoch}})
        left.append((trial.failures, len(trial.failed_at)))
    assert left == [(0, 0), (0, 0), (1, 1), (2, 1), (0, 0)]
    assert [line['epoch'] for _, line in made.told] == [1, 2, 2, 1, 3]
