"""What no longer fits together in the files of a finished trial."""

import os
import shutil
from pathlib import Path

import pytest

from chainer_jo import store
from chainer_jo.report import integrity

RUNS = Path(__file__).parents[2] / 'results/reference/quick/runs'


@pytest.fixture
def trial():
    """The folder of a trial, which is not to be changed, and its result."""
    (folder,) = RUNS.glob('ours-symmetric-0.7-s0-*')
    return folder, store.read_sealed(folder / 'result.json')


@pytest.mark.parametrize('part', ['validation', 'test'])
@pytest.mark.parametrize('which', ['best', 'last'])
def test_an_accuracy_that_the_log_does_not_have_is_told(which, part, trial):
    folder, result = trial
    assert integrity.misfits(result, folder) == []
    result[which][f'{part}_accuracy'] = 0.125
    (problem,) = integrity.misfits(result, folder)
    assert problem.startswith(f'{which}.{part}_accuracy is 0.125, but epoch')


def test_a_label_accuracy_that_the_log_does_not_end_with_is_told(trial):
    folder, result = trial
    result['label_accuracy'] = 0.125
    (problem,) = integrity.misfits(result, folder)
    assert problem.startswith('label_accuracy is 0.125, but log.jsonl ends with')


def test_a_configuration_that_names_other_data_is_told(trial, tmp_path):
    folder, result = trial
    copy = shutil.copytree(folder, tmp_path / 'runs' / folder.name)
    for data, count in ((result['data']['digest'], 0), ('ab' * 32, 1)):
        store.write_sealed(copy / 'config.json', result['config'] | {'data': data})
        problems = [item['problem'] for item in integrity.verify(tmp_path)[2]]
        assert problems == ['it names data different from those in result.json'] * count


def test_results_behind_a_link_are_checked_once(trial, tmp_path):
    folder, _ = trial
    shutil.copytree(folder, tmp_path / 'elsewhere' / 'runs' / folder.name)
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results' / 'paper').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'results' / 'again').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'up').symlink_to(tmp_path / 'results')
    assert integrity.verify(tmp_path / 'results') == (1, 2, [])


def test_a_snapshot_that_a_running_trial_removes_meanwhile_is_no_problem(tmp_path, monkeypatch):
    folder = tmp_path / 'runs' / 'trial'
    folder.mkdir(parents=True)
    snapshot = folder / 'snapshot-000001.arrays'
    snapshot.write_bytes(b'torn')
    (problem,) = integrity.verify(tmp_path)[2]
    assert problem['path'] == str(snapshot)
    real = os.listdir

    def listed(place):
        names = real(place)
        snapshot.unlink(missing_ok=True)
        return names

    monkeypatch.setattr(integrity.os, 'listdir', listed)
    assert integrity.verify(tmp_path)[2] == []
