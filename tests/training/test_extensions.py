import numpy as np
import pytest
import tiny

from chainer_jo import config, datasets
from chainer_jo.training import evaluation
from chainer_jo.training.extensions import (
    CorrectLabels,
    EndEpoch,
    Evaluate,
    Guard,
    Log,
    MeasureLabels,
    Progress,
    Schedule,
    learning_rate,
)
from chainer_jo.training.images import ResidentImages
from chainer_jo.training.snapshot import Snapshot

CLASSES = (CorrectLabels, EndEpoch, MeasureLabels, Guard, Log, Schedule, Progress)


def test_the_paper_fine_tunes_at_a_fifth_and_divides_by_ten_after_40_and_80_epochs():
    stage = config.trial('ours', 'cifar10', 'symmetric', 0.7, 0).stages['fine_tune']
    rates = [learning_rate(stage, epoch) for epoch in range(stage['epochs'])]
    assert rates == pytest.approx([0.2] * 40 + [0.02] * 40 + [0.002] * 40)


def test_the_paper_corrects_labels_at_one_rate_of_table_1():
    stage = config.trial('ours', 'cifar10', 'symmetric', 0.7, 0).stages['correct']
    assert {learning_rate(stage, epoch) for epoch in range(200)} == {0.08}


def test_main_accuracy_and_loss_are_means_over_the_steps_of_an_epoch():
    updater = tiny.updater(tiny.config('cross_entropy'))
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


def test_accuracy_is_that_of_one_image_at_a_time_over_the_ends_of_batches():
    made = tiny.assembly(tiny.config('cross_entropy'))
    mean, (images, labels) = made.train.mean, some_test_images(501)
    made.method.net.bn.avg_mean[...] = 0.1
    right = 0
    for image, label in zip(images, labels, strict=True):
        (scores,) = evaluation.collect(made.method.predict, ResidentImages(image[None], mean))
        right += scores.argmax() == label
    evaluate = Evaluate('test', ResidentImages(images, mean), labels, made.method)
    for _ in range(2):
        (accuracy,) = evaluate().values()
        # A tie in float32 may fall either way.
        assert accuracy == pytest.approx(right / 501, abs=2 / 501)
        assert isinstance(accuracy, float)


def test_the_images_of_each_part_are_measured_against_their_own_labels():
    config = tiny.config('cross_entropy', 'common.validation_labels=noisy')
    made = tiny.assembly(config)
    data = tiny.prepare(config)
    for evaluator, part in zip(made.evaluators, (data.validation, data.test), strict=True):
        images = np.concatenate(list(evaluator.images.batches(50)))
        expected = part.source.images[part.places()] / np.float32(255) - made.train.mean
        np.testing.assert_allclose(images, expected, atol=1e-6)
        np.testing.assert_array_equal(evaluator.labels, part.labels)
    assert [list(evaluator()) for evaluator in made.evaluators] == [
        ['validation/main/accuracy'],
        ['test/main/accuracy'],
    ]


def test_evaluation_changes_nothing_that_trains():
    made = tiny.assembly(tiny.config('cross_entropy'))
    before = {name: param.array.copy() for name, param in made.method.namedparams()}
    mean = made.method.net.bn.avg_mean.copy()
    for evaluator in made.evaluators:
        evaluator()
    for name, param in made.method.namedparams():
        np.testing.assert_array_equal(param.array, before[name])
    np.testing.assert_array_equal(made.method.net.bn.avg_mean, mean)


def test_large_images_are_evaluated_in_the_memory_of_many_small_ones():
    assert evaluation.batch_size(np, (3, 32, 32)) == evaluation.batch_size(np, (1, 28, 28)) == 500
    assert evaluation.batch_size(None, (3, 32, 32)) == 2500
    assert evaluation.batch_size(None, (3, 224, 224)) == 51
    assert evaluation.batch_size(np, (3, 4000, 4000)) == 1


def test_images_of_some_places_are_those_of_all_images_there():
    images = tiny.assembly(tiny.config('cross_entropy')).train
    everything = np.concatenate(list(images.batches(50)))
    places = np.array([5, 3, 127, 5])
    np.testing.assert_array_equal(
        np.concatenate(list(images.batches(3, places))), everything[places]
    )


def test_the_extensions_of_a_trial_run_in_the_order_in_which_they_are_listed(tmp_path, monkeypatch):
    """Labels are corrected after the accuracy is measured, and all of it is in the snapshot."""
    order = []
    for kind in (Evaluate, *CLASSES, Snapshot):
        monkeypatch.setattr(kind, '__call__', noted(kind, order))
    config = tiny.config('ours')
    tiny.run(config, tmp_path)
    names = [kind.__name__ for kind in CLASSES]
    at_an_end = ['Evaluate', 'Evaluate', *names, 'Snapshot']
    first_end = order.index('Evaluate')
    # The learning rate is set before the first step, too.
    assert order[:first_end] == ['Schedule', *['Progress', 'Snapshot'] * 2]
    assert order[first_end : first_end + len(at_an_end)] == at_an_end
    assert order.count('CorrectLabels') == 3
    assert order.count('EndEpoch') == 6


def noted(kind, order):
    call = kind.__call__

    def instead(extension, *arguments):
        order.append(kind.__name__)
        return call(extension, *arguments)

    return instead


def some_test_images(count):
    """The first test images with their labels."""
    test = datasets.load('fashion_mnist').test
    return test.images[:count], test.labels[:count]
