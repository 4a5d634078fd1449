"""Trainer extensions: label correction, learning rate, evaluation, log, guard, progress."""

import json
import time

import chainer
from chainer import training

from chainer_jo import store
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import DivergedError
from chainer_jo.training import evaluation, state
from chainer_jo.training.processes import ALONE


def epoch_end(trainer):
    """A trigger that fires after the last step of each epoch."""
    return trainer.updater.is_new_epoch


def learning_rate(stage, epoch):
    """Returns the learning rate of an epoch, counted from 0: divided by 10 after given epochs.

    Args:
        stage (dict): ``learning_rate``, and optionally ``divide_after`` (epochs) and ``division``:
            ``floor`` for the floor division of PENCIL's public code.
    """
    falls = sum(epoch >= e for e in stage.get('divide_after', ()))
    if falls and stage.get('division') == 'floor':
        return stage['learning_rate'] // 10**falls
    # One division: 0.1 * 0.1 is not 0.01 in floating point, and repeated division adds up errors.
    return stage['learning_rate'] / 10**falls


class Evaluate(training.Extension):
    """Reports ``name/main/accuracy``: the share of images whose top prediction is their label.

    Args:
        name (str): Name of the part, such as ``test``.
        images (ResidentImages or StreamedImages): The images.
        labels (array): ``(n,)``, int32, on the method's device.
        method (Method): The method to evaluate.
        total (callable): Sums numbers over the ranks, each of which evaluates other images.

    Attributes:
        between (callable): Called before each batch. If it raises, the evaluation ends.
    """

    # Without staticmethod the function would be bound, and called with the extension as well.
    trigger = staticmethod(epoch_end)

    def __init__(self, name, images, labels, method, total=ALONE.total):
        self.name, self.images, self.labels = name, images, labels
        self._method, self._total, self.between = method, total, lambda: None

    def __call__(self, trainer=None):
        hits = 0
        # One of many ranks may have no image of a small part.
        if len(self.labels):
            scores = evaluation.collect(self._method.predict, self.images, between=self.between)
            hits = int((scores.argmax(axis=1) == self.labels).sum())
        right, images = self._total(hits, len(self.labels))
        found = {f'{self.name}/main/accuracy': right / images}
        chainer.report(found)
        return found


class JoinRanks(training.Extension):
    """Merges the sums and statistics of the ranks before other extensions read them.

    Args:
        ranks (Ranks): The processes.
    """

    trigger = staticmethod(epoch_end)

    def __init__(self, ranks):
        self._ranks = ranks

    def __call__(self, trainer):
        self._ranks.end_epoch(trainer.updater)


class CorrectLabels(training.Extension):
    """Makes the updater correct the labels after every epoch (Algorithm 1)."""

    # Not part of a step: labels change only between epochs, so that an image has one label
    # throughout an epoch.
    trigger = staticmethod(epoch_end)

    def __call__(self, trainer):
        trainer.updater.correct_labels()


class EndEpoch(training.Extension):
    """Calls the method's ``end_epoch`` with a :class:`Probe`, by which it can query the net.

    Args:
        seed (int): The trial's seed.
        between (callable): Called before each batch of a query. If it raises, the epoch's end is
            repeated later.
    """

    trigger = staticmethod(epoch_end)

    def __init__(self, seed, between):
        self._seed, self._between = seed, between

    def __call__(self, trainer):
        # Chainer clears the observation before each step. Evaluate has run before this extension
        # and filled it.
        updater, accuracy = trainer.updater, trainer.observation['validation/main/accuracy']
        probe = Probe(updater, self._seed, accuracy, self._between)
        updater.method.end_epoch(updater.epoch, probe)


class Probe:
    """Implements :class:`chainer_jo.methods.base.Probe` with an updater."""

    def __init__(self, updater, seed, validation_accuracy, between=lambda: None):
        self.validation_accuracy, self._between = validation_accuracy, between
        self._method, self._images = updater.method, updater.iterator.dataset
        self._ranks, self._seed, self._epoch = updater.ranks, seed, updater.epoch - 1

    def outputs(self):
        return evaluation.outputs(self._method, self._images, self._between, self._ranks)

    def features(self, index):
        features = self._method.net.features
        return evaluation.collect(features, self._images, index, self._between)

    def rng(self, purpose):
        return rng(self._seed, f'{self._method.stage}/{purpose}', self._epoch)


class MeasureLabels(training.Extension):
    """Reports ``label_accuracy``: the share of labels whose largest entry is the true class.

    Args:
        true_labels (array): ``(n,)``, int32, on the method's device.
    """

    trigger = staticmethod(epoch_end)

    def __init__(self, true_labels):
        self._true_labels = true_labels

    def __call__(self, trainer):
        # argmax takes the lower class on a tie.
        hits = trainer.updater.method.labels.y.argmax(axis=1) == self._true_labels
        chainer.report({'label_accuracy': float(hits.mean())})


class Guard(training.Extension):
    """Stops a run if the loss, a weight or a label is no longer finite."""

    trigger = staticmethod(epoch_end)

    def __call__(self, trainer):
        # Runs before the log and the snapshot, so that neither keeps a diverged state.
        require_finite(trainer.updater)


def require_finite(updater):
    """Checks the state on the device, with a single transfer to the host.

    Raises:
        DivergedError: The epoch's loss so far, a weight, a statistic or a label is not finite.
    """
    xp = updater.method.xp
    arrays = {name: a for name, a in state.arrays(updater, 'f').items() if a.size}
    # min and max both propagate NaN, and unlike isfinite they need no temporary array.
    ends = xp.stack(
        [a.astype('d') for array in arrays.values() for a in (array.min(), array.max())]
    )
    finite = xp.isfinite(ends).reshape(-1, 2).all(axis=1).tolist()
    bad = sorted(name for name, all_are in zip(arrays, finite, strict=True) if not all_are)
    if bad:
        what = 'the loss' if 'sums' in bad else bad[0].removeprefix('model:main/')
        raise DivergedError(
            f'training diverged: {what} is not finite',
            seen=f'stage {updater.method.stage}, epoch {updater.epoch_detail:.2f}, '
            f'learning rate {updater.optimizer.lr:g}',
            fix='lower the learning rate of this stage with --set; the snapshots are finite',
        )


class Schedule(training.Extension):
    """Sets the learning rate as a function of the epoch, so it is also right after a resume."""

    trigger = staticmethod(epoch_end)

    def initialize(self, trainer):
        # Chainer calls this before the first step, also of a resumed run. Chainer's own extensions
        # such as ExponentialShift count their calls, and that count would have to be saved.
        self(trainer)

    def __call__(self, trainer):
        updater = trainer.updater
        # While the end of an epoch is pending, the rate is still that of this epoch.
        updater.optimizer.lr = learning_rate(
            updater.method.stages[updater.method.stage], updater.epoch - updater.in_epoch_end
        )


def log_text(rows):
    """Returns the content of ``log.jsonl``: one line of JSON per row."""
    return ''.join(json.dumps(row) + '\n' for row in rows)


class Log(training.Extension):
    """Adds one row per epoch to ``log.jsonl`` and passes it to ``progress``.

    Every snapshot has the rows of all stages, and the file is written from them.

    Args:
        path (pathlib.Path): The file; ``None`` if another rank writes it.
        rows (list of dict): Rows of the epochs so far.
        progress (callable): Called with each new row.
    """

    trigger = staticmethod(epoch_end)

    def __init__(self, path, rows, progress):
        self.path, self.rows, self.progress = path, rows, progress

    def initialize(self, trainer):
        self._since = time.monotonic()

    def __call__(self, trainer):
        # Not Chainer's LogReport: it saves its rows with a Trainer, but each stage has its own
        # Trainer, and the rows continue. Its file is not synced to the disk either.
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
        if self.path:
            store.write_text(self.path, log_text(self.rows))
        # A copy, so that a callback cannot change the log.
        self.progress(dict(row))


class Progress(training.Extension):
    """Reports the progress of a trial within an epoch, about twice a second at most.

    Args:
        tell (callable): Called with a dict: ``stage``; ``stage_epoch``, from 1; ``step`` in the
            epoch, from 1; ``steps``, their number; ``epochs_done`` and ``epochs`` of all stages;
            ``seconds_left``, estimated from the steps of this process, ``None`` before the second;
            ``loss``, the epoch's mean so far.
        stages (dict): Settings of each stage by name, in order.
    """

    trigger = 1, 'iteration'
    SECONDS = 0.5

    def __init__(self, tell, stages):
        self._tell, self._stages = tell, stages

    def initialize(self, trainer):
        self._began = self._first = None

    def __call__(self, trainer):
        now = time.monotonic()
        if self._began is None:
            # Not timed: the first step finds plans and compiles kernels.
            self._began, self._first = now, trainer.updater.iteration
        elif now - self._told < self.SECONDS:
            return
        self._told = now
        steps = trainer.updater.iteration - self._first
        pace = (now - self._began) / steps if steps else None
        self._tell(self._progress(trainer.updater, pace))

    def _progress(self, updater, pace):
        iterator, stage = updater.iterator, updater.method.stage
        # The iterator counts an epoch with its last step, which still belongs to that epoch.
        epoch = updater.epoch - updater.is_new_epoch
        first, end = (iterator.first_iteration(e) for e in (epoch, epoch + 1))
        names = list(self._stages)
        before = names[: names.index(stage)]
        after = names[names.index(stage) + 1 :]
        epochs_of = {name: settings['epochs'] for name, settings in self._stages.items()}
        steps_left = iterator.first_iteration(epochs_of[stage]) - updater.iteration
        steps_left += sum(iterator.first_iteration(epochs_of[name]) for name in after)
        return {
            'stage': stage,
            'stage_epoch': epoch + 1,
            'step': updater.iteration - first,
            'steps': end - first,
            'epochs_done': sum(epochs_of[name] for name in before) + updater.epoch,
            'epochs': sum(epochs_of.values()),
            'seconds_left': None if pace is None else pace * steps_left,
            'loss': updater.report()['main/loss'],
        }
