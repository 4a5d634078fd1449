"""The end of a first stage, handed on to other trials whose first stage is the same.

The paper's method, its ablations of step 2 and Tanaka's method train the same step 1 on the same
labels. With this it is trained once a seed; the others go on from its end as from a snapshot of
their own, so bit for bit as if they had trained it.

There is no lock. A file is whole or absent, and two processes that need it at the same time both
train and write the same content.
"""

import contextlib
import json
from pathlib import Path

import chainer
import numpy as np

from chainer_jo import methods, paper, store
from chainer_jo.errors import DataError, WriteError
from chainer_jo.training import result, snapshot, state
from chainer_jo.training.machine import SHARED
from chainer_jo.version import source_digest


class SharedStage:
    """Where the end of a trial's first stage lies for other trials.

    Args:
        out (pathlib.Path): Output folder; the file is in its folder ``shared``.
        config (TrialConfig): The trial.
        method (Method): With the state in which the first stage starts.
        data_digest (str): Of the data set.
        environment (dict): See :func:`chainer_jo.training.result.environment`.
    """

    def __init__(self, out, config, method, data_digest, environment):
        self.trial, self.environment = config.trial, environment
        self.digest = _digest(config, method, data_digest, environment)
        self.path = Path(out) / SHARED / f'{self.digest[:32]}.arrays'

    def take(self, warn):
        """Returns the arrays of a snapshot at the end of the stage, or ``None``.

        Args:
            warn (callable): Called with a line of text about what was found.
        """
        if not self.path.exists():
            return None
        try:
            arrays = store.read_arrays(self.path)
        except DataError as error:
            warn(f'{error.problem}: the first stage is trained again')
            self.path.unlink(missing_ok=True)
            return None
        told = {'trial': str(arrays.pop('trial')), 'digest': self.digest}
        rows = [row | {'shared': told} for row in snapshot.rows(arrays)]
        warn(f'{self.trial}: goes on from the end of stage {arrays["stage"]} of {told["trial"]}')
        return arrays | {'log': np.array(json.dumps(rows))}

    def offer(self, path):
        """Hands on a snapshot at the end of the stage, unless another trial already has.

        Args:
            path (pathlib.Path): The snapshot. If another environment than this one had part in it,
                its last digits are those of neither, and it is not handed on.
        """
        arrays = store.read_arrays(path)
        if self.path.exists() or snapshot.environments(arrays) != [self.environment]:
            return
        # Only a saving of time: another process may be removing the folder because its table is
        # done.
        with contextlib.suppress(WriteError):
            store.make_folder(self.path.parent)
            store.write_arrays(self.path, arrays | {'trial': np.array(self.trial)})


def remove_all(out):
    """Deletes what was handed on in an output folder: a finished table no longer needs it."""
    folder = Path(out) / SHARED
    for path in [*folder.glob('*.arrays'), *folder.glob('.*.tmp')]:
        path.unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _digest(config, method, data_digest, environment):
    """SHA-256 of everything that determines the end of the first stage.

    The state at its start stands for all that a method's ``setup`` makes of its settings and of the
    noisy labels, the source for all that happens to it.
    """
    stage, values = next(iter(config.stages)), config.as_dict()
    chosen = ('dataset', 'noise', 'seed', 'common', 'net', 'precision')
    start = state.arrays(method)
    return store.digest(
        {name: values[name] for name in chosen} | {stage: config.stages[stage]},
        [paper.updaters(config.method, stage), _behaviour(type(method), stage)],
        [data_digest, environment, snapshot.FORMAT, result.SCHEMA, source_digest()],
        sorted(start),
        *(chainer.get_device('@numpy').send(start[name]) for name in sorted(start)),
    )


def _behaviour(kind, stage):
    """Which classes define each function that a first stage may call, the first one first.

    The losses of other stages are left out, so a method that adds nothing but such losses behaves
    as the one that it inherits from.
    """
    settings = paper.hyperparameters('paper')
    losses = {name for method in paper.methods() for name in settings[method]} - {stage}
    classes = [c for c in kind.__mro__ if c.__module__.startswith(f'{methods.__name__}.')]
    names = {name for c in classes for name in vars(c)} - losses
    return {
        name: [f'{c.__module__}.{c.__qualname__}' for c in classes if name in vars(c)]
        for name in sorted(names)
        if callable(getattr(kind, name))
    }
