"""The trial that corrects labels: its id, its sizes, its time, and what is said of every image."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import tiny

from chainer_jo import datasets, store
from chainer_jo.datasets import Dataset
from chainer_jo.datasets.label_files import load_noise
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.errors import ConfigError, DataError, StoppedError
from chainer_jo.training import corrections, result, saved_net, state, trial
from chainer_jo.training.extensions import Evaluate

OVERRIDES = (
    'net.filters=[4, 4, 4, 4]', 'net.stem_stride=4', 'ours.correct.epochs=2',
    'ours.correct.begin=1', 'ours.fine_tune.epochs=1',
)  # fmt: skip


def dataset(count=50):
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) % 2
    images = rng.integers(0, 40, (count, 1, 8, 8)) + 200 * labels[:, None, None, None]
    return Dataset(
        'images', 'variant', 'f' * 64, ('a', 'b'), ArrayImages(images.astype('B'), labels)
    )


def test_a_trial_is_known_by_its_labels_and_has_the_sizes_of_its_images():
    images = dataset()
    labels = images.train.labels
    described = corrections.describe(images, labels)
    assert described.trial == corrections.describe(images, labels.copy()).trial
    assert described.trial != corrections.describe(images, 1 - labels).trial
    others = replace(images, digest='0' * 64)
    assert described.trial != corrections.describe(others, labels).trial
    assert described.trial != corrections.describe(images, labels, seed=1).trial
    assert described.dataset == 'images'
    sizes = {'train_images': 45, 'validation_images': 5, 'batch_size': 16}
    assert sizes.items() <= described.common.items()
    for count, size in ((4, 3), (1000, 30), (3000, 64)):
        described = corrections.describe(dataset(count), np.zeros(count, 'i'))
        assert described.common['batch_size'] == size
    with pytest.raises(ConfigError, match='too few'):
        corrections.describe(dataset(3), np.zeros(3, 'i'))
    # It could not be loaded again.
    with pytest.raises(ConfigError, match='with a PreAct ResNet only'):
        corrections.describe(images, labels, overrides=['net.link=resnet50'])


def test_the_time_is_of_every_epoch_and_evaluation_and_leaves_no_files(monkeypatch, tmp_path):
    images = dataset()
    labels = images.train.labels
    described, machine = corrections.describe(images, labels, 0, OVERRIDES), tiny.machine(tmp_path)
    assert 0 < corrections.seconds(described, images, labels, machine) < 60
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Evaluate, '__call__', lambda _: {})
    # As if everything took a second: 45 images are three steps and an evaluation in an epoch.
    monkeypatch.setattr(corrections, '_took', lambda function, _: (function(), 1.0)[1])
    assert corrections.seconds(described, images, labels, machine) == (2 + 1) * (3 + 1)


def test_every_image_is_judged_and_the_net_comes_back_from_its_files(tmp_path):
    images = dataset()
    labels = images.train.labels
    described, machine = corrections.describe(images, labels, 0, OVERRIDES), tiny.machine(tmp_path)
    found = corrections.run(described, images, labels, machine, trial.Observer())
    assert found.probabilities.shape == (50, 2)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert found.held_out.sum() == 5
    f = found.net.probabilities(images.train.images)
    assert np.allclose(f[found.held_out], found.probabilities[found.held_out], atol=1e-6)
    # A trained image is judged by its corrected label too.
    y = store.read_arrays(machine.folder(described.trial) / 'labels.arrays')['y']
    model = state.on_host(found.net.net)
    assert result.digests(model, y, b'')['model'] == found.result['digests']['model']
    trained = ~found.held_out
    assert np.allclose((f[trained] + y) / 2, found.probabilities[trained], atol=1e-6)
    found.net.save(tmp_path / 'net')
    loaded = saved_net.load(tmp_path / 'net', 'cpu')
    assert (loaded.probabilities(images.train.images) == f).all()
    assert loaded.classes == ['a', 'b']
    path = tmp_path / 'net' / 'net.arrays'
    # The weights of a net that was trained longer, or on other labels.
    other = store.read_arrays(path)
    store.write_arrays(path, other | {'fc/b': other['fc/b'] + 1})
    with pytest.raises(DataError, match='do not fit together') as raised:
        saved_net.load(tmp_path / 'net', 'cpu')
    assert 'another net' in raised.value.seen
    path.write_bytes(path.read_bytes()[:-1])
    # Here nothing writes the file again, as a trial does with its own.
    for damage in (lambda: None, path.unlink):
        damage()
        with pytest.raises(DataError) as raised:
            saved_net.load(tmp_path / 'net', 'cpu')
        assert raised.value.fix.startswith('restore both files')
    with pytest.raises(ConfigError, match='no trained net'):
        saved_net.load(tmp_path, 'cpu')


def answered(tmp_path, known, observer=tiny.SILENT, seconds=60.0):
    """Returns which labels are as given after a training, which of them are known, the result."""
    images = dataset(100)
    labels = np.where(np.arange(100) % 10 == 3, 1 - images.train.labels, images.train.labels)
    images = replace(images, known=known)
    described = corrections.describe(images, labels, 0, OVERRIDES)
    where = tiny.machine(tmp_path, snapshot_seconds=seconds)
    result = corrections.run(described, images, labels, where, observer).result
    folder = tiny.folder(described, tmp_path)
    given, _, index = load_noise(folder / 'noisy_labels.arrays')
    y = store.read_arrays(folder / 'labels.arrays')['y']
    kept = (y == np.eye(2)[given]).all(axis=1)
    return kept, None if known is None else known[index], result


def test_labels_that_a_human_knows_do_not_move_and_change_what_is_trained(tmp_path):
    known = np.arange(100) % 4 == 0
    kept, pinned, result = answered(tmp_path, known)
    assert kept[pinned].all()
    assert not kept[~pinned].any()
    free, _, without = answered(tmp_path, None)
    assert not free.any()
    assert result['trial'] != without['trial']
    assert result['digests']['model'] != without['digests']['model']
    # Other answers, though the labels are the same ones.
    _, _, other = answered(tmp_path, ~known)
    assert len({made['trial'] for made in (result, without, other)}) == 3


def test_a_trial_with_known_labels_goes_on_from_its_snapshot(tmp_path):
    def stop(row):
        if row['epoch'] == 2:
            raise StoppedError(signal.SIGTERM, seen='', fix='')

    known = np.arange(100) % 4 == 0
    with pytest.raises(StoppedError):
        answered(tmp_path / 'pieces', known, trial.Observer(epoch=stop), seconds=0)
    _, _, pieces = answered(tmp_path / 'pieces', known)
    _, _, whole = answered(tmp_path / 'whole', known)
    assert pieces['times']['resumes'] == 1
    assert tiny.digests(pieces) == tiny.digests(whole)


@pytest.mark.parametrize('method', ['pencil', 'forward'])
def test_methods_that_have_no_use_for_known_labels_refuse_them(method, tmp_path):
    images = replace(datasets.load('fashion_mnist'), known=np.arange(6000) < 10)
    with pytest.raises(ConfigError, match='cannot use labels that are known') as refused:
        tiny.run(tiny.config(method), tmp_path, dataset=images)
    assert 'ours or tanaka' in refused.value.fix
    assert list(tmp_path.iterdir()) == []
