"""What ``result.json`` says of a trial; written last, so that its presence means done.

What cannot be had is ``null``: without true labels ``noise.wrong`` and ``label_accuracy``; without
a test set ``data.test`` and the ``test_accuracy`` of ``best`` and ``last``. In ``log.jsonl`` such
figures are left out.
"""

import datetime
import os
import platform
import time

import chainer
import numpy as np

from chainer_jo import backends, store
from chainer_jo.training import machine
from chainer_jo.version import __version__

SCHEMA = 1


class Clock:
    """When a process began with a trial, and how long others were at it before.

    Attributes:
        before (float): Seconds that earlier processes spent on it, up to their last snapshots.
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
        config (TrialConfig): What was trained.
        dataset (Dataset), data (TrialData): On what.
        noise_digest (str): SHA-256 of the noisy labels.
        rows (list of dict): The log.
        environments (list of dict): Where: every :func:`environment` that differed, the last one
            last.
        digests (dict): See :func:`digests`.
        times (dict): See :meth:`Clock.times`.
    """
    last_stage = list(config.stages)[-1]
    # max() keeps the first of equals: the first epoch on ties (D-20).
    best = max(
        (row for row in rows if row['stage'] == last_stage),
        # Chosen by validation images alone; the test set is only read off at that epoch.
        key=lambda row: row['validation/main/accuracy'],
    )
    # Rows say where they come from if another trial has trained the first stage.
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


def digests(model, y, log):
    """Returns the section ``digests`` of the net's arrays, a dict, the labels and the log, bytes.

    What lies beside ``result.json`` can be checked against it.
    """
    return {
        'model': store.digest(*(model[name] for name in sorted(model))),
        'labels': store.digest(y),
        'log': store.sha256(log),
    }


def environment(device, graph, threads, processes=1):
    """Returns versions, backend, device and processor of this process, as plain JSON values.

    Another processor, instruction set, backend or number of threads adds in another order, and
    gives other last digits.

    Args:
        device (chainer.Device): What trains.
        graph (bool): Whether steps are captured as CUDA graphs.
        threads (int): How many threads compute.
        processes (int): How many processes train the trial together; said if there are several.
    """
    return {
        'version': __version__,
        'python': platform.python_version(),
        'numpy': np.__version__,
        'chainer': chainer.__version__,
        'backend': backends.describe(device.name),
        'device': device.name,
        'machine': platform.machine(),
        'cores': os.cpu_count(),
        'processor': machine.processor()['processor'],
        'instruction_set': backends.instruction_set() or machine.widest_instructions(),
        'threads': backends.threads() or threads,
        'graph': graph,
    } | ({'processes': processes} if processes > 1 else {})
