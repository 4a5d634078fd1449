"""The table of human labels: five sets of one file, each a column."""

import numpy as np
import pytest

from chainer_jo import datasets, paper, store
from chainer_jo.datasets.dataset import Dataset
from chainer_jo.errors import ConfigError, DataError
from chainer_jo.sweep import label_sets, plan

NAMES = ('aggre_label', 'random_label1', 'random_label2', 'random_label3', 'worse_label')


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A file of five sets, and arrays in place of CIFAR-10's archive."""
    rng = np.random.default_rng(0)
    sets = {name: rng.integers(0, 10, 60) for name in NAMES}
    with open(tmp_path / label_sets.NAME, 'wb') as file:
        np.savez(file, clean_label=np.arange(60) % 10, **sets)
    images, labels = np.zeros((60, 3, 32, 32), np.uint8), np.arange(60, dtype='i') % 10
    arrays = images, labels, images, labels
    dataset = Dataset.of_arrays('cifar10', 'official', arrays, map(str, range(10)))
    monkeypatch.setattr(datasets, 'load', lambda name, data: dataset)
    return tmp_path, sets


def test_each_set_is_a_column_whose_trials_have_its_labels(given):
    folder, sets = given
    labels = label_sets.read('human', 'paper', None, folder)
    planned = plan.trials('human', 'paper', ['ours'], count=2, labels=labels)
    assert [paper.column(trial.as_record()) for trial in planned] == [
        (f'file:{name}', None) for name in NAMES for _ in range(2)
    ]
    for trial in planned:
        path, _, name = trial.labels_file.rpartition(':')
        assert path == str(folder / label_sets.NAME)
        assert trial.noise['labels'] == store.digest(sets[name].astype('i'))
    assert len({trial.trial for trial in planned}) == 10


def test_one_set_is_asked_for_by_name(given):
    folder, sets = given
    place = str(folder / label_sets.NAME)
    assert set(label_sets.read('human', 'paper', f'{place}:worse_label', None)) == {
        'file:worse_label'
    }
    assert len(label_sets.read('human', 'paper', place, None)) == 5
    with pytest.raises(ConfigError, match='unknown set of labels') as error:
        label_sets.read('human', 'paper', f'{place}:worst_label', None)
    assert 'worse_label' in error.value.fix


def test_other_tables_take_no_labels(given):
    assert label_sets.read('table2', 'paper', None, None) is None
    with pytest.raises(ConfigError, match='table2 takes no labels'):
        label_sets.read('table2', 'paper', 'labels.npz', None)


def test_labels_that_are_not_there_are_an_error_that_says_where_it_looked(given, tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(DataError, match='human labels of CIFAR-10') as error:
        label_sets.read('human', 'paper', None, empty)
    assert str(empty) in error.value.seen


@pytest.mark.parametrize(
    ('labels', 'data'), [('x' * 300 + ':y', None), ('x' * 300, None), (None, 'x' * 300)]
)
def test_a_name_that_no_file_can_have_is_a_missing_file(labels, data, given):
    with pytest.raises(DataError) as error:
        label_sets.read('human', 'paper', labels, data)
    assert error.value.seen
    assert error.value.fix
