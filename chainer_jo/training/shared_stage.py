"""Shares the end of a first stage among trials that have the same first stage.

The paper's method, its ablations of step 2 and Tanaka's method train the same step 1 on the same
labels. With sharing it is trained once per seed. The other trials resume from its end as from their
own snapshot, and give the same result bit for bit as without sharing.

No lock is needed. A file is written atomically, and two processes that need it at the same time
both train the stage and write the same content.
"""

import contextlib
import json
import os
from pathlib import Path

import chainer
import numpy as np

from chainer_jo import methods, paper, store
from chainer_jo.errors import DataError, WriteError
from chainer_jo.training import result, snapshot, state
from chainer_jo.training.machine import SHARED
from chainer_jo.version import source_digest


class SharedStage:
    """The shared file with the end of a trial's first stage.

    Args:
        out (pathlib.Path): Output folder; the file is in its subfolder ``shared``.
        config (TrialConfig): The trial.
        method (Method): The method, in its state at the start of the first stage.
        data_digest (str): Digest of the data set.
        environment (dict): See :func:`chainer_jo.training.result.environment`.
    """

    def __init__(self, out, config, method, data_digest, environment):
        self.trial, self.environment = config.trial, environment
        self.digest = _digest(config, method, data_digest, environment)
        self.path = Path(out) / SHARED / f'{self.digest[:32]}.arrays'

    def take(self, warn):
        """Returns the arrays of a snapshot at the end of the stage, or ``None``.

        Args:
            warn (callable): Called with a line of text that says which trial is used, or that the
                file is damaged or cannot be read.
        """
        # Not Path.exists, which raises an error of its own where a file server fails.
        if not os.path.exists(self.path):
            return None
        try:
            trial, arrays = self._read()
        except WriteError as error:
            # It may be intact, so it stays.
            warn(f'{error.problem} ({error.seen}): the first stage is trained again')
            return None
        except DataError as error:
            warn(f'{error.problem}: the first stage is trained again')
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            return None
        told = {'trial': trial, 'digest': self.digest}
        rows = [row | {'shared': told} for row in snapshot.rows(arrays)]
        warn(f'{self.trial}: starts from the end of stage {arrays["stage"]} of {trial}')
        return arrays | {'log': np.array(json.dumps(rows))}

    def _read(self):
        """Returns the trial that trained the stage, and its arrays."""
        arrays = store.read_arrays(self.path)
        trial, digest = (str(arrays.pop(name, '')) for name in ('trial', 'digest'))
        # The name of the file proves nothing: it may have been renamed.
        if digest != self.digest or not trial:
            raise DataError(
                f'{self.path} is of another first stage',
                seen=f'digest {digest or "missing"}, expected {self.digest}',
                fix='delete the file',
            )
        return trial, arrays

    def offer(self, path):
        """Shares a snapshot at the end of the stage, unless another trial already has.

        Args:
            path (pathlib.Path): The snapshot. It is not shared if another environment took part in
                training it, because its last digits then belong to neither environment.
        """
        if os.path.exists(self.path):
            return
        arrays = store.read_arrays(path)
        if snapshot.environments(arrays) != [self.environment]:
            return
        own = {'trial': np.array(self.trial), 'digest': np.array(self.digest)}
        # Sharing only saves time, so a failed write is ignored. Another process may be removing the
        # folder because its table is done.
        with contextlib.suppress(WriteError):
            store.make_folder(self.path.parent)
            store.write_arrays(self.path, arrays | own)


def remove_all(out):
    """Deletes the shared files of an output folder, which a finished table no longer needs."""
    folder = Path(out) / SHARED
    for path in [*folder.glob('*.arrays'), *folder.glob('.*.tmp')]:
        # A file of another user only takes space.
        with contextlib.suppress(OSError):
            path.unlink()
    # Another run that ends now may do the same; a folder with files stays.
    with contextlib.suppress(OSError):
        folder.rmdir()


def _digest(config, method, data_digest, environment):
    """Returns the SHA-256 of everything that determines the end of the first stage.

    The state at its start covers all that a method's ``setup`` derives from settings and noisy
    labels. The digest of the source code covers everything that is done with it.
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
    """Returns, for each attribute that a first stage may use, the classes that define it.

    The classes are in method resolution order. Losses of later stages, own or inherited, are left
    out, so a method that only adds such losses behaves like the one from which it inherits.
    """
    classes = [c for c in kind.__mro__ if c.__module__.startswith(f'{methods.__name__}.')]
    # The file of a method has its name.
    files = {c.__module__.rpartition('.')[2] for c in classes} & paper.methods().keys()
    settings = paper.hyperparameters('paper')
    losses = {name for method in files for name in settings[method]} - {stage}
    names = {name for c in classes for name in vars(c)} - losses
    return {
        name: [f'{c.__module__}.{c.__qualname__}' for c in classes if name in vars(c)]
        for name in sorted(names)
        # Not what Python gives to every class, such as its docstring and the registry of its ABC.
        if callable(getattr(kind, name)) or not name.startswith(('__', '_abc_'))
    }
