"""The content of ``result.json``, which is written last: if it exists, the trial is done.

Unknown figures are ``null``: ``noise.wrong`` and ``label_accuracy`` without true labels;
``data.test`` and the ``test_accuracy`` of ``best`` and ``last`` without a test set. ``log.jsonl``
leaves out such figures.
"""

import datetime
import os
import platform
import time

import chainer
import numpy as np

from chainer_jo import backends, store
from chainer_jo.training import device as devices
from chainer_jo.training import machine
from chainer_jo.version import __version__, source_digest

SCHEMA = 1


class Clock:
    """Measures the time spent on a trial, including that of earlier processes.

    Attributes:
        before (float): Seconds that earlier processes spent, up to their last snapshots.
    """

    def __init__(self):
        self.started, self.before, self._monotonic = _now(), 0.0, time.monotonic()

    def spent(self):
        """Returns the seconds that this and all earlier processes have spent."""
        return self.before + time.monotonic() - self._monotonic

    def times(self, rows, resumes):
        """Returns the section ``times``."""
        return {
            'started': self.started,
            'finished': _now(),
            'seconds': round(self.spent(), 1),
            'training_seconds': round(sum(row['seconds'] for row in rows), 1),
            'resumes': resumes,
        }


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def result(config, dataset, data, noise_digest, rows, environments, digests, times):
    """Returns the content of ``result.json``.

    Args:
        config (TrialConfig): Configuration of the trial.
        dataset (Dataset), data (TrialData): The data set, and the parts used.
        noise_digest (str): SHA-256 of the noisy labels.
        rows (list of dict): The log.
        environments (list of dict): Each different :func:`environment` that trained it, in order.
        digests (dict): See :func:`digests`.
        times (dict): See :meth:`Clock.times`.
    """
    last_stage = list(config.stages)[-1]
    # max() keeps the first of equals: the first epoch on ties (D-20).
    best = max(
        (row for row in rows if row['stage'] == last_stage),
        # Chosen by validation accuracy only; the test accuracy is that of the chosen epoch.
        key=lambda row: row['validation/main/accuracy'],
    )
    # Rows have an entry `shared` if another trial trained the first stage.
    shared = {'stage': rows[0]['stage'], **rows[0]['shared']} if 'shared' in rows[0] else None
    return {
        'schema': SCHEMA,
        'trial': config.trial,
        'config': config.as_record(),
        'data': {
            'name': dataset.name,
            'variant': dataset.variant,
            'digest': dataset.digest,
            'train': len(data.train),
            'validation': len(data.validation),
            'test': None if data.test is None else len(data.test),
        },
        'noise': {'digest': noise_digest, 'wrong': data.wrong},
        'best': _accuracies(best),
        'last': _accuracies(rows[-1]),
        'label_accuracy': rows[-1].get('label_accuracy'),
        'epochs': len(rows),
        'environment': environments[-1],
        'environments': environments,
        'digests': digests,
        'times': times,
    } | ({'shared': shared} if shared else {})


def _accuracies(row):
    return {
        'epoch': row['epoch'],
        'validation_accuracy': row['validation/main/accuracy'],
        'test_accuracy': row.get('test/main/accuracy'),
    }


def digests(model, y, log, own=None):
    """Returns the section ``digests``, against which the files next to ``result.json`` are checked.

    Args:
        model (dict): The net's arrays by name.
        y (numpy.ndarray): The soft labels.
        log (bytes): Content of ``log.jsonl``.
        own (dict): Values of the method's own by name, if there are any to save.
    """
    of_model = {'model': model} | ({'method': own} if own else {})
    return {
        **{name: digest(arrays) for name, arrays in of_model.items()},
        'labels': store.digest(y),
        'log': store.sha256(log),
    }


def digest(arrays):
    """Returns the SHA-256 of a dict of arrays, in the order of their names."""
    return store.digest(*(arrays[name] for name in sorted(arrays)))


def environment(device, graph, threads, processes=1):
    """Returns versions, backend, device and processor of this process, as plain JSON values.

    They are recorded because other code may train in another way, and another processor,
    instruction set, backend or number of threads sums in another order, which changes the last
    digits of a result.

    Args:
        device (chainer.Device): The device that trains.
        graph (bool): Whether steps are captured as CUDA graphs.
        threads (int): Number of threads that compute.
        processes (int): Number of processes that train the trial; recorded if above 1.
    """
    processor = machine.processor()
    widest = (processor['instructions'] or [None])[-1]
    return (
        {
            'version': __version__,
            'source': source_digest()[:12],
            'python': platform.python_version(),
            'numpy': np.__version__,
            'chainer': chainer.__version__,
            'backend': backends.describe(device.name),
            'device': device.name,
            'machine': platform.machine(),
            'cores': os.cpu_count(),
            'processor': processor['processor'],
            'instruction_set': backends.instruction_set() or widest,
            'threads': backends.threads() or threads,
            'graph': graph,
        }
        | devices.facts(device)
        | ({'processes': processes} if processes > 1 else {})
    )
