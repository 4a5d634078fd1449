"""What happens between mini-batches: label correction, schedule, evaluation, log, guard."""

import json
import time

import chainer
import numpy as np
from chainer import training
from chainer.serializers import DictionarySerializer

from chainer_jo import store
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import DivergedError
from chainer_jo.training import evaluation, state


def epoch_end(trainer):
    """A trigger that fires after the last step of each epoch."""
    return trainer.updater.is_new_epoch


def learning_rate(stage, epoch):
    """Returns the rate of epoch ``epoch`` (0 for the first): divided by 10 after given epochs.

    Args:
        stage (dict): ``learning_rate`` and, if it ever falls, ``divide_after`` (epochs) and
            perhaps ``division``, ``floor`` for the floor division of PENCIL's public code.
    """
    falls = sum(epoch >= e for e in stage.get('divide_after', ()))
    if falls and stage.get('division') == 'floor':
        return stage['learning_rate'] // 10**falls
    return stage['learning_rate'] / 10**falls


class Evaluate(training.Extension):
    """Measures validation and test accuracy after every epoch."""

    trigger = staticmethod(epoch_end)
    priority = 400

    def __call__(self, trainer):
        method, data = trainer.updater.method, trainer.updater.data
        for name in ('validation', 'test'):
            images, labels = getattr(data, name)
            accuracy = evaluation.accuracy(method, images, labels, data.mean)
            chainer.report({f'{name}/main/accuracy': accuracy})


class CorrectLabels(training.Extension):
    """Lets the method correct its labels after every epoch (Algorithm 1), and measures them."""

    trigger = staticmethod(epoch_end)
    priority = 300

    def __call__(self, trainer):
        updater = trainer.updater
        method = updater.method
        probe = Probe(updater, trainer.observation['validation/main/accuracy'])
        if getattr(method.hyper, 'label_pass', 'train') == 'eval':
            method.labels.record_all(probe.outputs(), updater.epoch - 1)
        method.end_epoch(updater.epoch, probe)
        hits = method.labels.y.argmax(axis=1) == updater.data.true_labels
        chainer.report({'label_accuracy': float(hits.mean())})


class Probe:
    """Answers what :class:`chainer_jo.methods.base.Probe` asks, from an updater."""

    def __init__(self, updater, validation_accuracy):
        self.validation_accuracy = validation_accuracy
        self._method, self._data = updater.method, updater.data
        self._seed, self._epoch = updater.config.seed, updater.epoch - 1

    def outputs(self):
        scores = evaluation.collect(self._method.log_f, self._data.images, self._data.mean)
        return self._method.xp.exp(scores)

    def features(self, index):
        images = self._data.images[index]
        return evaluation.collect(self._method.net.features, images, self._data.mean)

    def rng(self, purpose):
        return rng(self._seed, f'{self._method.stage}/{purpose}', self._epoch)


class Guard(training.Extension):
    """Stops a run whose state is no longer made of finite numbers."""

    trigger = staticmethod(epoch_end)
    priority = 200

    def __call__(self, trainer):
        require_finite(trainer.updater)


def finite_state(updater):
    """Returns all that a snapshot must hold of an updater: a dict of arrays on the host.

    Raises:
        DivergedError: See :func:`require_finite`.
    """
    require_finite(updater)
    serializer = DictionarySerializer()
    updater.serialize(serializer)
    return {name: np.asarray(value) for name, value in serializer.target.items()}


def require_finite(updater):
    """Checks on the device, and asks it once.

    Raises:
        DivergedError: The epoch's loss so far, a weight, a statistic or a label is not finite.
    """
    xp, arrays = updater.method.xp, state.arrays(updater, 'f')
    finite = xp.stack([xp.isfinite(array).all() for array in arrays.values()]).tolist()
    bad = sorted(name for name, all_are in zip(arrays, finite, strict=True) if not all_are)
    if bad:
        raise DivergedError(
            'training diverged: ' + ('the loss' if 'sums' in bad else bad[0]) + ' is not finite',
            seen=f'stage {updater.method.stage}, epoch {updater.epoch_detail:.2f}, '
            f'learning rate {updater.optimizer.lr:g}',
            fix='lower the learning rate of this stage with --set; snapshots are from before',
        )


class Schedule(training.Extension):
    """Sets the learning rate as a function of the epoch, hence rightly after a resume too."""

    trigger = staticmethod(epoch_end)
    priority = 110

    def initialize(self, trainer):
        self(trainer)

    def __call__(self, trainer):
        updater = trainer.updater
        updater.optimizer.lr = learning_rate(
            updater.method.stages[updater.method.stage], updater.epoch
        )


class Log(training.Extension):
    """Adds one row an epoch to ``log.jsonl`` and hands it to ``progress``.

    The rows of all stages are part of every snapshot; the file is made from them.

    Args:
        path (pathlib.Path): The file.
        rows (list of dict): Rows of the epochs so far.
        progress (callable): Called with each new row.
    """

    trigger = staticmethod(epoch_end)
    priority = 150

    def __init__(self, path, rows, progress):
        self.path, self.rows, self.progress = path, rows, progress

    def initialize(self, trainer):
        self._since = time.monotonic()

    def __call__(self, trainer):
        updater, now = trainer.updater, time.monotonic()
        row = {
            'epoch': len(self.rows) + 1,
            'stage': updater.method.stage,
            'stage_epoch': updater.epoch,
            'learning_rate': updater.optimizer.lr,
            **updater.report(),
            **trainer.observation,
            'seconds': round(now - self._since, 3),
        }
        self._since = now
        self.rows.append(row)
        store.write_text(self.path, ''.join(json.dumps(row) + '\n' for row in self.rows))
        self.progress(row)
