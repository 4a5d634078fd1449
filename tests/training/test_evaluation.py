"""What evaluation says of a net, and what a method is told of it."""

import numpy as np
import pytest
import tiny

from chainer_jo import methods
from chainer_jo.training import evaluation
from chainer_jo.training.images import ResidentImages


def trained(method):
    """An assembly whose running statistics are no longer those of the start."""
    made = tiny.assembly(tiny.config(method))
    updater = made.updater(next(iter(tiny.config(method).stages)))
    updater.optimizer.lr = 0.05
    for _ in range(3):
        updater.update()
    return made


def test_outputs_are_probabilities_and_do_not_depend_on_the_images_beside():
    """With the batch's own statistics one image by itself would have other outputs."""
    made = trained('ours')
    f = evaluation.outputs(made.method, made.train)
    assert f.shape == (128, 10)
    np.testing.assert_allclose(f.sum(axis=1), 1, atol=1e-5)
    for i in (0, 5, 127):
        alone = ResidentImages(made.train.images[i : i + 1], made.train.mean)
        np.testing.assert_allclose(evaluation.outputs(made.method, alone)[0], f[i], atol=1e-5)


def test_accuracy_is_that_of_what_the_method_predicts_and_not_of_its_net():
    made = trained('cnn_crf')
    # The pair of this class alone outweighs whatever the net says.
    made.method.W.array[4, :] = 100
    for evaluator in made.evaluators:
        (accuracy,) = evaluator().values()
        assert accuracy == pytest.approx((evaluator.labels == 4).mean())


def test_a_method_is_told_the_epoch_of_its_stage_and_the_validation_accuracy(tmp_path, monkeypatch):
    told = []

    def note(method, epoch, probe):
        told.append((method.stage, epoch, probe.validation_accuracy))

    monkeypatch.setattr(methods.load('noise_adaptation'), 'end_epoch', note)
    config = tiny.config('noise_adaptation')
    tiny.run(config, tmp_path)
    rows = tiny.outcome(config, tmp_path)['log.jsonl']
    assert [name for name, _, _ in told] == ['warm_up'] * 3 + ['adapt'] * 3
    assert told == [
        (row['stage'], row['stage_epoch'], row['validation/main/accuracy']) for row in rows
    ]
    assert [epoch for _, epoch, _ in told] == [1, 2, 3, 1, 2, 3]
    assert any(row['validation/main/accuracy'] != row['test/main/accuracy'] for row in rows)
