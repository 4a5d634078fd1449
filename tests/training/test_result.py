"""Which epochs of a log a result names."""

import tiny

from chainer_jo import datasets
from chainer_jo.training.result import result

# Stage, validation accuracy, test accuracy, label accuracy.
LOG = [
    ('correct', 0.9, 0.8, 0.4),
    ('fine_tune', 0.5, 0.7, 0.5),
    ('fine_tune', 0.6, 0.1, 0.6),
    ('fine_tune', 0.6, 0.2, 0.7),
    ('fine_tune', 0.3, 0.3, 0.8),
]


def made():
    config = tiny.config('ours')
    rows = [
        {
            'epoch': epoch,
            'stage': stage,
            'validation/main/accuracy': validation,
            'test/main/accuracy': test,
            'label_accuracy': labels,
        }
        for epoch, (stage, validation, test, labels) in enumerate(LOG, 1)
    ]
    data, dataset = tiny.prepare(config), datasets.load('fashion_mnist')
    return result(config, dataset, data, '0' * 64, rows, [{}], {}, {})


def test_best_is_of_the_last_stage_by_validation_and_the_first_of_equals():
    assert made()['best'] == {'epoch': 3, 'validation_accuracy': 0.6, 'test_accuracy': 0.1}


def test_last_is_the_last_epoch_however_bad():
    assert made()['last'] == {'epoch': 5, 'validation_accuracy': 0.3, 'test_accuracy': 0.3}
    assert made()['label_accuracy'] == 0.8
    assert made()['epochs'] == 5
