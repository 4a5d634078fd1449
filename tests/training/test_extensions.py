import numpy as np
import pytest
import tiny

from chainer_jo import config
from chainer_jo.training import evaluation
from chainer_jo.training.extensions import learning_rate


def test_the_paper_fine_tunes_at_a_fifth_and_divides_by_ten_after_40_and_80_epochs():
    stage = config.trial('ours', 'cifar10', 'symmetric', 0.7, 0).stages['fine_tune']
    rates = [learning_rate(stage, epoch) for epoch in range(stage['epochs'])]
    assert rates == pytest.approx([0.2] * 40 + [0.02] * 40 + [0.002] * 40)


def test_the_paper_corrects_labels_at_one_rate_of_table_1():
    stage = config.trial('ours', 'cifar10', 'symmetric', 0.7, 0).stages['correct']
    assert {learning_rate(stage, epoch) for epoch in range(200)} == {0.08}


def test_main_accuracy_and_loss_are_means_over_the_steps_of_an_epoch(tmp_path):
    updater = tiny.updater(tiny.config('cross_entropy'), tmp_path)
    losses, hits = [], []

    class Watched:
        """Hands a method's answers on and writes them down."""

        def __call__(self, batch):
            loss, log_f = method(batch)
            losses.append(float(loss.array))
            hits.append((log_f.array.argmax(axis=1) == batch.y.argmax(axis=1)).mean())
            return loss, log_f

        def __getattr__(self, name):
            return getattr(method, name)

    method, updater.method = updater.method, Watched()
    for steps in (3, 2, 2):  # 56 does not divide 128.
        losses.clear()
        hits.clear()
        for _ in range(steps):
            updater.update()
        assert updater.is_new_epoch
        report = updater.report()
        assert report['main/loss'] == pytest.approx(np.mean(losses))
        assert report['main/accuracy'] == pytest.approx(np.mean(hits))
    assert updater.epoch == 3


def test_accuracy_is_that_of_one_image_at_a_time_over_the_ends_of_batches(tmp_path):
    updater = tiny.updater(tiny.config('cross_entropy'), tmp_path)
    data = updater.data
    images, labels = (array[:501] for array in data.test)
    updater.method.net.bn.avg_mean[...] = 0.1
    right = 0
    for image, label in zip(images, labels, strict=True):
        scores = evaluation.collect(updater.method.predict, image[None], data.mean)
        right += scores[0].argmax() == label
    accuracy = evaluation.accuracy(updater.method, images, labels, data.mean)
    # A tie in float32 may fall either way.
    assert accuracy == pytest.approx(right / 501, abs=2 / 501)
    assert isinstance(accuracy, float)


def test_evaluation_changes_nothing_that_trains(tmp_path):
    updater = tiny.updater(tiny.config('cross_entropy'), tmp_path)
    before = {name: param.array.copy() for name, param in updater.method.namedparams()}
    mean = updater.method.net.bn.avg_mean.copy()
    evaluation.accuracy(updater.method, *updater.data.test, updater.data.mean)
    for name, param in updater.method.namedparams():
        np.testing.assert_array_equal(param.array, before[name])
    np.testing.assert_array_equal(updater.method.net.bn.avg_mean, mean)
