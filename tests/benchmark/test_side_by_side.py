import json
from functools import partial

import pytest

from chainer_jo.benchmark import process, side_by_side, workload

NET = {'filters': [8, 8, 16], 'blocks': [2, 1], 'stem_stride': 2}
OPTIMIZER = {'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4}
small = partial(
    workload.create, net=NET, optimizer=OPTIMIZER, batch=16, images=32, evaluation_images=20
)


def test_groups_of_processes_train_at_the_same_time_and_their_images_are_added(tmp_path):
    said = []
    report = side_by_side.run('cpu', [1, 2], 2, tmp_path, said.append, small)
    assert json.loads((tmp_path / 'jobs-cpu.json').read_text()) == report
    assert [row['jobs'] for row in report['rows']] == [1, 2]
    for row in report['rows']:
        expected = row['jobs'] * 16 / row['seconds_per_step']
        assert row['images_per_second'] == pytest.approx(expected)
        assert row['turns'] == 2
    one, two = (row['peak_memory_bytes'] for row in report['rows'])
    assert 1.5 < two / one < 2.5
    assert '| float32 | 2 |' in (tmp_path / 'jobs-cpu.md').read_text()
    assert said[-1] == 'round 2 of 2'


def test_every_process_of_a_group_has_its_share_of_the_cores(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setattr(process, 'cores', lambda: 16)
    names = process.THREAD_VARIABLES
    assert {process.environment(4)[name] for name in names} == {'4'}
    assert {process.environment(32)[name] for name in names} == {'1'}
    # A user's number is that of a process alone.
    monkeypatch.setenv('OMP_NUM_THREADS', '16')
    assert process.environment(4)['OMP_NUM_THREADS'] == '4'
    assert process.environment(1)['OMP_NUM_THREADS'] == '16'
