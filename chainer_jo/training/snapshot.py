"""Snapshots: the complete state of a trial in one file, written atomically, without pickle."""

import functools
import json
import re
import time

import numpy as np
from chainer import training

from chainer_jo import store
from chainer_jo.errors import ConfigError, DataError, StoppedError, excerpt
from chainer_jo.training import state
from chainer_jo.training.extensions import require_finite
from chainer_jo.training.processes import ALONE
from chainer_jo.training.signals import Signals

KEEP = 2
NAME = re.compile(r'snapshot-([0-9]{6,})\.arrays')
#: Increased when the names in a snapshot change; a snapshot of another format is refused.
FORMAT = 2


class Snapshot(training.Extension):
    """Saves the updater periodically, and when a signal asks the run to stop.

    Args:
        folder (pathlib.Path): The trial's folder.
        identity (str): Digest of configuration and data, checked when the snapshot is read.
        rows (list of dict): The log so far; saved.
        environments (list of dict): Environments that trained the trial so far; saved.
        resumes (int): Number of times that the trial was resumed from a snapshot; saved.
        seconds (float): Least time between two snapshots.
        spent (callable): Returns the seconds that all processes have spent; saved.
        ranks (Alone or Ranks): The processes that train the trial together; rank 0 writes.
    """

    trigger = 1, 'iteration'

    def __init__(
        self,
        folder,
        identity,
        rows,
        environments=(),
        resumes=0,
        seconds=60.0,
        spent=lambda: 0.0,
        ranks=ALONE,
    ):
        self.folder, self.identity, self.rows = folder, identity, rows
        self.environments, self.resumes, self.seconds = environments, resumes, seconds
        self.spent, self.ranks = spent, ranks
        self._signals = Signals()

    def __enter__(self):
        self._signals.__enter__()
        return self

    def __exit__(self, *_):
        self._signals.__exit__()

    def initialize(self, trainer):
        self._last = time.monotonic()

    def __call__(self, trainer):
        signum, due = self.ranks.agree(
            self._signals.last or 0, time.monotonic() - self._last >= self.seconds
        )
        if signum:
            self._stop(trainer.updater, signum)
        if due:
            self.save(trainer.updater)

    def stop_between_batches(self, updater):
        """Saves a snapshot and stops if a signal came during the evaluation at an epoch's end.

        With the paper's net the evaluation takes longer than a machine waits when it shuts down.
        The snapshot has no log row of this epoch, which tells :meth:`~StageUpdater.restored` to
        repeat the end of the epoch. Several processes would have to agree first, so they finish the
        evaluation.
        """
        if self._signals.last and self.ranks.size == 1:
            self._stop(updater, self._signals.last)

    def _stop(self, updater, signum):
        path = self.save(updater)
        raise StoppedError(
            signum, seen=f'snapshot {path}', fix='the same command resumes from there'
        )

    def save(self, updater):
        """Writes a snapshot and returns its path; raises DivergedError if a value is not finite."""
        require_finite(updater)
        arrays = self.ranks.pack(functools.partial(state.on_host, updater))
        path = self.ranks.lead(lambda: self._write(arrays, updater.method.stage))
        self._last = time.monotonic()
        return path

    def _write(self, arrays, stage):
        arrays['stage'] = np.array(stage)
        arrays['identity'] = np.array(self.identity)
        arrays['resumes'] = np.array(self.resumes)
        arrays['log'] = np.array(json.dumps(self.rows))
        arrays['environments'] = np.array(json.dumps(list(self.environments)))
        arrays['seconds'] = np.array(self.spent())
        numbered = list_newest_first(self.folder)
        number = _number(numbered[0]) + 1 if numbered else 1
        path = self.folder / f'snapshot-{number:06d}.arrays'
        store.write_arrays(path, arrays)
        for old in numbered[KEEP - 1 :]:
            old.unlink(missing_ok=True)
        return path


def list_newest_first(folder):
    """Returns the snapshot paths, newest first."""
    # By number: file times may go backwards, or be lost in a copy.
    paths = (path for path in folder.glob('snapshot-*.arrays') if NAME.fullmatch(path.name))
    return sorted(paths, key=_number, reverse=True)


def _number(path):
    return int(NAME.fullmatch(path.name)[1])


def read_newest(folder, identity, warn):
    """Returns the arrays of the newest intact snapshot, or ``None``.

    A damaged snapshot is renamed to ``.corrupt`` and reported to ``warn``, and the next older one
    is used. If there is none, the trial starts from the beginning.

    Raises:
        ConfigError: A snapshot belongs to another configuration, data set or version.
        WriteError: The user has no permission to read a snapshot; it may be intact.
    """
    paths = list_newest_first(folder)
    for path in paths:
        try:
            arrays = _checked(path, store.read_arrays(path))
        except DataError as error:
            path.rename(path.with_suffix('.corrupt'))
            rest = 'the trial starts over' if path is paths[-1] else 'an older one is used'
            warn(f'{error.problem}: set aside as {path.stem}.corrupt, {rest}')
            continue
        if str(arrays['identity']) != identity:
            raise ConfigError(
                f'{path} belongs to another configuration, data set or version',
                seen=f'{arrays["identity"]}, expected {identity}',
                fix='delete the trial folder, or choose another one with --out',
            )
        return arrays
    return None


def _checked(path, arrays):
    """Returns the arrays if none that every snapshot has is missing. Raises DataError."""
    try:
        texts = {name: str(arrays[name]) for name in ('identity', 'stage')}
        int(arrays['resumes']), seconds(arrays)
        told, places = rows(arrays), environments(arrays)
        whole = all(texts.values()) and places and all(type(place) is dict for place in places)
        if not (whole and all(row['epoch'] and row['stage'] for row in told)):
            raise ValueError('a text, an environment or a row of the log is not valid')
    # The digest is right, but this package did not write the file.
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f'{path} is damaged', seen=excerpt(repr(error)), fix='delete it') from error
    return arrays


def head(arrays):
    """Returns the part of a snapshot that describes the trial, without the training state."""
    names = ('stage', 'resumes', 'log', 'environments', 'seconds')
    return {name: arrays[name] for name in names}


def remove_all(folder):
    """Deletes the snapshots of a finished trial."""
    for path in list_newest_first(folder):
        path.unlink(missing_ok=True)


def rows(arrays):
    """Returns the log rows saved in a snapshot."""
    return json.loads(str(arrays['log']))


def environments(arrays):
    """Returns the environments that have trained the trial so far, a list of dicts."""
    return json.loads(str(arrays['environments']))


def seconds(arrays):
    """Returns the seconds that all processes had spent on the trial when it was saved."""
    return float(arrays['seconds'])
