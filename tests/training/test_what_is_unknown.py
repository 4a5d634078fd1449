"""Trials of images whose true labels nobody knows, and which have no test set."""

import signal
from dataclasses import replace

import fashion_files
import numpy as np
import pytest
import tiny

from chainer_jo import config as configuration
from chainer_jo import console, datasets, paper
from chainer_jo.datasets.label_files import load_noise
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.errors import ConfigError, StoppedError
from chainer_jo.training import data, trial

NEED_T = ('forward', 'backward', 'cnn_crf')


def config(method, *more):
    """A trial on labels as they are given."""
    overrides = (*tiny.overrides(method), *more)
    return configuration.trial(method, 'fashion_mnist', 'none', None, 0, 'quick', overrides)


@pytest.mark.parametrize('method', [name for name in paper.methods() if name not in NEED_T])
def test_a_trial_without_them_leaves_out_what_cannot_be_known(method, tmp_path):
    rows = []
    observer = trial.Observer(epoch=rows.append)
    result = tiny.run(config(method), tmp_path, observer, dataset=fashion_files.unlabelled())
    line = console.accuracies(result)
    assert line.startswith(f'best {result["best"]["validation_accuracy"]:.4f}  last ')
    assert 'labels' not in line
    assert result['noise']['wrong'] is None
    assert result['label_accuracy'] is None
    assert result['data']['test'] is None
    for which in ('best', 'last'):
        assert result[which]['test_accuracy'] is None
        assert 0 <= result[which]['validation_accuracy'] <= 1
    assert len(rows) == result['epochs']
    for row in rows:
        assert not row.keys() & {'test/main/accuracy', 'label_accuracy'}
        assert 'validation/main/accuracy' in row


def test_the_line_of_an_epoch_names_the_figures_that_there_are(capsys):
    watched = console.TrialProgress().of('t')
    watched.start(2, [])
    row = {'epoch': 1, 'stage': 'train', 'main/loss': 2.5, 'main/accuracy': 0.25, 'seconds': 1}
    watched.epoch(row | {'validation/main/accuracy': 0.5})
    said = capsys.readouterr().err
    assert 'loss 2.500  accuracy 0.250  validation 0.500  1.0 s' in said


def test_what_is_unknown_changes_nothing_that_is_trained(tmp_path):
    """True labels and test images are measured against, and nothing else."""
    digests = [
        tiny.digests(tiny.run(config('ours'), tmp_path / name, dataset=dataset))
        for name, dataset in (('known', None), ('unknown', fashion_files.unlabelled()))
    ]
    assert digests[0] == digests[1]


def test_such_a_trial_goes_on_from_its_snapshot(tmp_path):
    whole = tiny.run(config('ours'), tmp_path / 'whole', dataset=fashion_files.unlabelled())

    def stop(row):
        if row['epoch'] == 4:
            raise StoppedError(signal.SIGTERM, seen='', fix='')

    out, dataset = tmp_path / 'pieces', fashion_files.unlabelled()
    with pytest.raises(StoppedError):
        tiny.run(config('ours'), out, trial.Observer(epoch=stop), seconds=0, dataset=dataset)
    pieces = tiny.run(config('ours'), out, dataset=dataset)
    assert pieces['times']['resumes'] == 1
    assert tiny.digests(pieces) == tiny.digests(whole)


@pytest.mark.parametrize('method', NEED_T)
def test_a_method_that_is_granted_the_true_T_refuses_before_training(method, tmp_path):
    with pytest.raises(ConfigError, match='needs the true transition matrix T') as error:
        tiny.run(config(method), tmp_path, dataset=fashion_files.unlabelled())
    assert f'choose {method}_estimated' in error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_an_auxiliary_distribution_without_T_needs_none(tmp_path):
    prior = config('cnn_crf', 'cnn_crf.train.auxiliary=prior')
    assert tiny.run(prior, tmp_path, dataset=fashion_files.unlabelled())['epochs'] == 3


def without_class(absent):
    """The data set, with no training image of one class."""
    dataset = datasets.load('fashion_mnist')
    kept = dataset.train.labels != absent
    labels = dataset.train.labels[kept]
    return replace(dataset, train=ArrayImages(dataset.train.images[kept], labels, labels))


@pytest.mark.parametrize('method', NEED_T)
def test_a_class_without_images_is_said_before_training_where_its_row_of_T_is_counted(
    method, tmp_path
):
    dataset = without_class(3)
    given = np.random.default_rng(0).integers(10, size=len(dataset.train), dtype='i')
    described = configuration.trial(
        method, 'fashion_mnist', 'file', None, 0, 'quick', tiny.overrides(method), labels='0' * 64
    )
    with pytest.raises(ConfigError) as error:
        trial.run(described, tiny.machine(tmp_path), tiny.SILENT, given, dataset)
    assert 'no training image of class 3' in error.value.seen
    assert list(tmp_path.iterdir()) == []
    drawn = tiny.run(tiny.config(method), tmp_path, dataset=dataset)
    assert drawn['epochs'] == 3


def test_images_that_come_with_the_data_set_for_validation_are_used_and_none_is_held_out():
    whole = datasets.load('fashion_mnist')
    dataset = replace(whole, validation=whole.test, test=None)
    parts = data.prepare(dataset, tiny.config('ours', 'common.train_images=6000'))
    assert len(parts.train) == 6000
    assert parts.validation.source is whole.test
    np.testing.assert_array_equal(parts.validation.labels, whole.test.labels)
    assert parts.test is None


def test_labels_that_are_wrong_as_given_are_measured_against_the_true_ones():
    whole = datasets.load('fashion_mnist')
    given = (whole.train.labels + (np.arange(6000) % 4 == 0)).astype('i') % 10
    dataset = replace(whole, train=ArrayImages(whole.train.images, given, whole.train.labels))
    parts = data.prepare(dataset, config('ours'))
    np.testing.assert_array_equal(parts.train.labels, given[parts.train.index])
    np.testing.assert_array_equal(parts.true_labels, whole.train.labels[parts.train.index])
    np.testing.assert_array_equal(
        parts.validation.labels, whole.train.labels[parts.validation.index]
    )
    assert parts.wrong == (parts.train.index % 4 == 0).mean()
    # Nobody drew this noise, so that T is what is counted.
    for i in range(10):
        of_class = parts.train.labels[parts.true_labels == i]
        np.testing.assert_allclose(parts.T[i], np.bincount(of_class, minlength=10) / len(of_class))


def test_asymmetric_noise_needs_the_data_sets_own_map():
    none = replace(datasets.load('fashion_mnist'), flips=None)
    asymmetric = configuration.trial(
        'ours', 'fashion_mnist', 'asymmetric', 0.3, 0, 'quick', tiny.overrides('ours')
    )
    with pytest.raises(ConfigError, match='needs a map of classes'):
        data.prepare(none, asymmetric)


def test_the_labels_a_trial_drew_are_saved_without_the_true_ones_if_nobody_knows_them(tmp_path):
    described = config('cross_entropy')
    tiny.run(described, tmp_path, dataset=fashion_files.unlabelled())
    noisy, true, index = load_noise(tiny.folder(described, tmp_path) / 'noisy_labels.arrays')
    assert true is None
    np.testing.assert_array_equal(noisy, fashion_files.unlabelled().train.labels[index])
