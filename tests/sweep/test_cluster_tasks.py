"""What becomes of a cluster's tasks whose worker is gone at the wrong moment; no cluster needed."""

from collections import deque
from types import SimpleNamespace

import pytest
import tiny

pytest.importorskip('distributed')

from chainer_jo import store
from chainer_jo.errors import StoppedError
from chainer_jo.sweep import cluster


class Gone:
    """A finished task whose worker died with the answer."""

    status = 'finished'

    def done(self):
        return True

    def result(self, timeout):
        raise TimeoutError(f'no answer in {timeout} s')


def sweep(tmp_path):
    told, said = [], []
    made = cluster.ClusterSweep(
        *('tcp://gone:1', tiny.machine(tmp_path), {}),
        *(lambda *line: told.append(line), None, said.append),
    )
    made.told, made.said = told, said
    return made


def two_arriving(made, tmp_path, end):
    configs = [tiny.config('cross_entropy', seed=seed) for seed in (0, 1)]
    made._arriving = [(config, end) for config in configs]
    for config in configs:
        store.make_folder(tiny.folder(config, tmp_path))
    return configs


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


def test_a_result_that_nobody_takes_is_told_again_and_no_other_is_lost(tmp_path):
    made = sweep(tmp_path)
    configs = two_arriving(made, tmp_path, 0.0)
    for config in configs:
        store.write_sealed(tiny.folder(config, tmp_path) / 'result.json', {'a': 1})
    tell, failed = made.on_line, []

    def fail_once(config, line):
        if not failed:
            failed.append(config)
            raise OSError('gone')
        tell(config, line)

    made.on_line = fail_once
    with pytest.raises(OSError, match='gone'):
        made._receive()
    made._receive()
    assert made.told == [(config, {'result': {'a': 1}}) for config in configs]
    assert made._arriving == []


def test_a_result_that_does_not_arrive_or_is_damaged_is_told_as_a_failure(tmp_path):
    made = sweep(tmp_path)
    missing, damaged = two_arriving(made, tmp_path, 0.0)
    store.write_text(tiny.folder(damaged, tmp_path) / 'result.json', '{}')
    made._receive()
    assert made.told == [(missing, {'failed': 6}), (damaged, {'failed': 3})]
    assert made.said == [str(error) for error in made._failures]
    assert 'fix:  make sure that all machines use the same results folder' in made.said[0]
    assert made._arriving == []


def test_a_result_may_arrive_later(tmp_path):
    made = sweep(tmp_path)
    two_arriving(made, tmp_path, float('inf'))
    made._receive()
    assert len(made._arriving) == 2
    assert made.told == made.said == []


@pytest.mark.parametrize(('code', 'unsaved'), [(6, 1), (143, 0)])
def test_a_trial_that_takes_no_snapshot_after_a_signal_is_told(code, unsaved, tmp_path):
    made = sweep(tmp_path)
    made._client = SimpleNamespace(cancel=lambda futures: None)
    for seed in (0, 1):
        trial = cluster._Trial(tiny.config('cross_entropy', seed=seed))
        made._tasks[seed] = cluster._Task(trial, None, {'a'}, 'a')
    for seed, event in ((0, {'ends': code, 'said': 'full\n'}), (1, {'ends': 143, 'said': ''})):
        made._events.put((0.0, {'key': seed} | event))
    with pytest.raises(StoppedError) as error:
        made._stop(SimpleNamespace(last=15))
    seen = ['every running trial took a snapshot', '1 of 2 running trials have not confirmed']
    assert error.value.seen.startswith(seen[unsaved])
    assert [('full' in text) for text in made.said] == [True] * unsaved


def test_workers_get_the_place_of_the_data_that_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('CHAINER_JO_DATA', 'data')
    assert cluster._everywhere(tiny.machine()).data == str(tmp_path / 'data')
    assert cluster._everywhere(tiny.machine(data='other')).data == str(tmp_path / 'other')
    monkeypatch.delenv('CHAINER_JO_DATA')
    assert cluster._everywhere(tiny.machine()).data is None
