"""Reads finished trials: ``result.json`` for the figures, ``log.jsonl`` for the curves."""

import json
from pathlib import Path

from chainer_jo import store
from chainer_jo.errors import DataError


def collect(out):
    """Returns the results under ``<out>/runs/*/result.json``, sorted by trial id.

    Files that are torn, empty, of another schema, with a value missing or out of range, or in the
    folder of another trial are left out; :func:`unreadable` lists them. Nothing else is read.

    Args:
        out (path): Output folder of a preset, such as ``results/quick``.

    Returns:
        list of dict: ``result.json`` contents; accuracies and rates are fractions.
    """
    return [result for _, result, problem in _read_all(out) if problem is None]


def unreadable(out):
    """Returns ``{path, problem}`` for every ``result.json`` that :func:`collect` leaves out."""
    return [
        {'path': str(path), 'problem': problem}
        for path, _, problem in _read_all(out)
        if problem is not None
    ]


def read_log(folder):
    """Returns the rows of a trial's ``log.jsonl`` in the order of their epochs.

    A last line that a killed process left unfinished is dropped. An epoch that was trained again
    after a resume counts once.

    Raises:
        DataError: The file is missing, or a line before the last is damaged.
    """
    path = Path(folder) / 'log.jsonl'
    fix = 'delete the folder of the trial and run its command again'
    try:
        lines = path.read_bytes().split(b'\n')
    except OSError as error:
        raise DataError(f'cannot read {path}', seen=str(error), fix=fix) from error
    rows = {}
    # What follows the last line break is empty in a whole file and torn otherwise.
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
            rows[row['epoch']] = row
        except (ValueError, KeyError, TypeError) as error:
            problem = f'line {number} of {path} is damaged'
            raise DataError(problem, seen=str(error), fix=fix) from error
    return [rows[epoch] for epoch in sorted(rows)]


def _read_all(out):
    for path in sorted(Path(out).glob('runs/*/result.json')):
        try:
            result = store.read_json(path)
        except DataError as error:
            yield path, None, error.seen
        else:
            yield path, result, _problem(result, path.parent.name)


def _problem(result, folder):
    for key, (holds, wanted) in _REQUIRED.items():
        try:
            value = _value(result, key)
        except (KeyError, TypeError):
            return f'{key} is missing'
        if not holds(value):
            return f'{key} is {value!r}, not {wanted}'
    if result['trial'] != folder:
        return f'it is the result of {result["trial"]}'
    return None


def _value(result, key):
    for name in key.split('.'):
        result = result[name]
    return result


def _number(low, high=float('inf'), optional=False):
    def holds(value):
        if value is None:
            return optional
        return type(value) in (int, float) and low <= value <= high

    limits = f'a number from {low} to {high}' if high < float('inf') else f'a number from {low}'
    return holds, limits + (' or null' if optional else '')


def _kind(kind):
    return lambda value: isinstance(value, kind), f'of type {kind.__name__}'


_SIZE = _number(0, 1e15)
_TEXT = _kind(str)
_FRACTION = _number(0, 1)
_KNOWN_FRACTION = _number(0, 1, optional=True)

# Everything that the report reads, so that a file which passes cannot stop it half-way.
_REQUIRED = {
    'schema': (lambda value: type(value) is int and value == 1, '1'),
    'trial': _TEXT,
    'config.preset': _TEXT,
    'config.dataset': _TEXT,
    'config.method': _TEXT,
    'config.noise.kind': _TEXT,
    'config.noise.rate': _KNOWN_FRACTION,
    'config.seed': _SIZE,
    'config.common': _kind(dict),
    'config.net': _kind(dict),
    'config.stages': _kind(dict),
    'config.modified': _kind(list),
    'data.name': _TEXT,
    'data.variant': _TEXT,
    'data.digest': _TEXT,
    'data.train': _SIZE,
    'data.validation': _SIZE,
    'data.test': _SIZE,
    'noise.wrong': _KNOWN_FRACTION,
    'best.epoch': _SIZE,
    'best.validation_accuracy': _FRACTION,
    'best.test_accuracy': _FRACTION,
    'last.epoch': _SIZE,
    'last.validation_accuracy': _FRACTION,
    'last.test_accuracy': _FRACTION,
    'label_accuracy': _KNOWN_FRACTION,
    'epochs': _SIZE,
    'environment': _kind(dict),
    'times.seconds': _SIZE,
}
