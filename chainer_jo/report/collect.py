"""Reads finished trials: ``result.json`` for the numbers, ``log.jsonl`` for the curves.

Results may come from other people, so nothing in them is trusted. A file is listed and left out if
a report could fail on it, if its text could disguise what it says, or if it was changed after it
was written.
"""

import functools
import json
import re
from itertools import groupby
from pathlib import Path

from chainer_jo import store
from chainer_jo.config import LONGEST_OVERRIDE, MOST_SEED
from chainer_jo.errors import DataError, WriteError
from chainer_jo.report.escape import plain

MOST_BYTES = 1_000_000
DEEPEST = 20
MEASURES = (
    'main/loss',
    'main/accuracy',
    'validation/main/accuracy',
    'test/main/accuracy',
    'label_accuracy',
)


class Trials:
    """The finished trials of an output folder, of which each file is read once.

    Thus a table and the page beside it show the same trials, although others end meanwhile.

    Attributes:
        out (pathlib.Path): The folder.
        results (list of dict): The usable results; see :func:`read_all`.
        unusable (list of dict): The problems of the others.
    """

    def __init__(self, out):
        self.out = Path(out)
        self.results, self.unusable = read_all(out)

    @property
    def logs(self):
        """The logs that are not damaged; see :func:`read_logs`."""
        return self._logs[0]

    @property
    def damaged_logs(self):
        """The problems of the others."""
        return self._logs[1]

    # Most tables that are only printed need no logs.
    @functools.cached_property
    def _logs(self):
        return read_logs(self.results, self.out)


def read_all(out):
    """Returns the usable results in ``<out>/runs/*/result.json``, and the problems of the others.

    A file is left out if it is truncated or altered, if it has another schema, if a value is
    missing, out of range or not printable, or if it is in the folder of another trial. No other
    files are read.

    Args:
        out (path): Output folder of a preset, such as ``results/quick``.

    Returns:
        tuple: A list of ``result.json`` contents (dict), sorted by trial id, with accuracies and
        rates as fractions. A list of dicts with ``path`` and ``problem`` of each file left out, in
        printable characters.
    """
    results, unusable = [], []
    for folder in sorted(Path(out).glob('runs/*')):
        path = folder / 'result.json'
        if _is_missing(path):
            continue
        result, problem = _read(path)
        if problem is None:
            results.append(result)
        else:
            unusable.append({'path': plain(path, 1000), 'problem': plain(problem)})
    return results, unusable


def _is_missing(path):
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        # It may be there, in a folder that may not be entered.
        return False
    return False


def read_result(path):
    """Returns the content of one ``result.json``.

    Raises:
        DataError: A report could not use the file.
    """
    result, problem = _read(Path(path))
    if problem is not None:
        fix = 'delete the file and run the command of its trial again'
        raise DataError(f'cannot read {plain(path, 1000)}', seen=plain(problem), fix=fix)
    return result


def read_log(folder, result=None):
    """Returns the rows of a trial's ``log.jsonl`` in the order of their epochs.

    An unfinished last line, left by a killed process, is dropped. If an epoch was trained again
    after a resume, its later row is returned.

    Args:
        folder (path): The trial's folder.
        result (dict): The trial's result, if it is finished. Then the log must be complete and have
            the SHA-256 that the result contains.

    Raises:
        DataError: The file is missing or far too large, a line before the last is damaged, or the
            log does not belong to the result.
        WriteError: There is no permission to read the file.
    """
    path = Path(folder) / 'log.jsonl'
    fix = 'delete the folder of the trial and run its command again'
    content = store.read_regular(path, fix, store.MOST_LOG)
    lines = content.split(b'\n')
    rows = {}
    # The part after the last line break is empty in a complete file, and an unfinished row
    # otherwise.
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
            problem = _row_problem(row)
        except (ValueError, RecursionError) as error:
            problem = str(error)
        if problem:
            raise DataError(f'line {number} of {path} is damaged', seen=plain(problem), fix=fix)
        # The later row of an epoch counts: the trial continued from it.
        rows[row['epoch']] = row
    rows = [rows[epoch] for epoch in sorted(rows)]
    problem = result and (log_problem(rows, result) or _other_bytes(content, result))
    if problem:
        raise DataError(f'{path} does not belong to its result', seen=problem, fix=fix)
    return rows


def _other_bytes(content, result):
    if store.sha256(content) != result['digests']['log']:
        return 'altered: its SHA-256 is not that in result.json'
    return None


def log_problem(rows, result):
    """Returns why the rows of a log cannot be those of a result, or ``None``."""
    if len(rows) != result['epochs']:
        return f'{len(rows)} of {result["epochs"]} epochs'
    seen = [(stage, len(list(group))) for stage, group in groupby(row['stage'] for row in rows)]
    stages = result['config']['stages']
    if seen != [(stage, settings['epochs']) for stage, settings in stages.items()]:
        return 'its stages differ from those of the result'
    return None


def read_logs(results, out):
    """Returns ``{trial: rows of its log}``, and ``path`` and ``problem`` of each damaged log."""
    logs, damaged = {}, []
    for result in results:
        folder = Path(out) / 'runs' / result['trial']
        try:
            rows, problem = read_log(folder, result), None
        except (DataError, WriteError) as error:
            problem = error.seen
        if problem is None:
            logs[result['trial']] = rows
        else:
            path = plain(folder / 'log.jsonl', 1000)
            damaged.append({'path': path, 'problem': plain(problem)})
    return logs, damaged


def _row_problem(row):
    for key, (holds, wanted) in _LOG.items():
        if not isinstance(row, dict) or key not in row:
            return f'{key} is missing'
        if not holds(row[key]):
            return f'{key} is {_seen(row[key])}, not {wanted}'
    for key in MEASURES:
        if not _MEASURE[0](row.get(key)):
            return f'{key} is {_seen(row[key])}, not {_MEASURE[1]}'
    return None


def _read(path):
    """Returns ``(result, None)``, or ``(None, problem)``."""
    result, problem = read_doubtful(path)
    return (result, None) if problem is None else (None, problem)


def read_doubtful(path):
    """Returns the content of a ``result.json`` or ``None``, and why not to use it or ``None``."""
    try:
        # The size is limited, since the file may come from anywhere.
        result, altered = store.read_unsealed(path, MOST_BYTES)
    except (DataError, WriteError) as error:
        return None, error.seen
    problem = _hidden_problem(result) or _problem(result, path.parent.name)
    # An invalid value is more informative than the fact that something was altered.
    return (None, problem) if problem else (result, altered or _first_problem(result, _SEALED))


def _hidden_problem(result):
    """Returns a problem that a reader would not see: unprintable text, or too deep nesting."""
    # Level by level instead of by recursion, which would fail on deep nesting.
    level = [result]
    for _ in range(DEEPEST):
        texts = [value for value in level if isinstance(value, str)]
        texts += [key for value in level if isinstance(value, dict) for key in value]
        for text in texts:
            if not text.isprintable():
                return f'it contains text that is not printable: {plain(text, 40)}'
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return None
    return f'it is nested more than {DEEPEST} levels deep'


def config_problem(config):
    """Returns why a JSON value is not a valid configuration of a trial, or ``None``."""
    problem = _hidden_problem(config) or _first_problem({'config': config}, _CONFIG)
    return problem or _optional_problem(config)


def _optional_problem(config):
    for key, values in (('precision', config), ('validation_labels', config['common'])):
        if key in values and not _NAME[0](values[key]):
            return f'{key} is {_seen(values[key])}, not {_NAME[1]}'
    return None


def _problem(result, folder):
    problem = _first_problem(result, _REQUIRED) or _first_problem(result, _OPTIONAL, optional=True)
    problem = problem or _optional_problem(result['config'])
    if problem:
        return problem
    if not _are_environments(result.get('environments', [])):
        return 'environments is not a list of environments'
    # A copied folder must not count its trial twice.
    if result['trial'] != folder:
        return f'it is the result of {result["trial"]}'
    if result['epochs'] != sum(s['epochs'] for s in result['config']['stages'].values()):
        return 'its number of epochs is not the sum over its stages'
    return None


def _first_problem(values, required, optional=False):
    for key, (holds, wanted) in required.items():
        try:
            value = _value(values, key)
        except (KeyError, TypeError):
            if optional:
                continue
            return f'{key} is missing'
        if not holds(value):
            return f'{key} is {_seen(value)}, not {wanted}'
    return None


def _seen(value):
    return plain(repr(value), 60)


def _value(result, key):
    for name in key.split('.'):
        result = result[name]
    return result


def _number(low, high=float('inf'), optional=False):
    def holds(value):
        if value is None:
            return optional
        # Rejects true, which is an int in Python, and NaN, which is in no range.
        return type(value) in (int, float) and low <= value <= high

    limits = f'a number from {low} to {high}' if high < float('inf') else f'a number from {low}'
    return holds, limits + (' or null' if optional else '')


def _whole(low, high, optional=False):
    def holds(value):
        return optional if value is None else type(value) is int and low <= value <= high

    return holds, f'an integer from {low} to {high}' + (' or null' if optional else '')


def _matching(pattern, wanted):
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)), wanted


def _kind(kind):
    return lambda value: isinstance(value, kind), f'of type {kind.__name__}'


def _is_overrides(value):
    return isinstance(value, list) and all(
        isinstance(item, str) and 0 < len(item) <= LONGEST_OVERRIDE for item in value
    )


def _are_environments(value):
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _are_stages(value):
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(re.fullmatch(_WORD, name) for name in value)
        and all(
            isinstance(stage, dict) and _EPOCHS[0](stage.get('epochs')) for stage in value.values()
        )
    )


_WORD = r'[A-Za-z_]\w{0,99}'
_NAME = _matching(_WORD, 'a name')
_TRIAL = _matching(r'[\w.+=-]{1,200}', 'a trial id')
_DIGEST = _matching(r'[0-9a-f]{16,64}', 'a digest')
_TEXT = _matching(r'.{1,200}', 'a text of 1 to 200 characters')
_COUNT = _whole(0, 10**12)
_EPOCHS = _whole(1, 10**6)
_FRACTION = _number(0, 1)
_SECONDS = _number(0, 1e15)
_KNOWN_FRACTION = _number(0, 1, optional=True)
# A loss may be negative, since the weight of the entropy is arbitrary.
_MEASURE = _number(-1e30, 1e30, optional=True)

# Everything that a report reads, so that no file that passes can make it fail half-way. Numbers
# that need true labels or a test set may be null.
_CONFIG = {
    'config.preset': _NAME,
    'config.dataset': _NAME,
    'config.method': _NAME,
    'config.noise.kind': _NAME,
    'config.noise.rate': _KNOWN_FRACTION,
    'config.seed': _whole(0, MOST_SEED),
    'config.common': _kind(dict),
    'config.net': _kind(dict),
    'config.stages': (_are_stages, 'stages with their numbers of epochs'),
    'config.modified': (_is_overrides, 'a list of overrides'),
}
_REQUIRED = {
    'schema': (lambda value: type(value) is int and value == 1, '1'),
    'trial': _TRIAL,
    **_CONFIG,
    'data.name': _NAME,
    'data.variant': _TEXT,
    'data.digest': _DIGEST,
    'data.train': _COUNT,
    'data.validation': _COUNT,
    'data.test': _whole(0, 10**12, optional=True),
    'noise.digest': _DIGEST,
    'noise.wrong': _KNOWN_FRACTION,
    'best.epoch': _EPOCHS,
    'best.validation_accuracy': _FRACTION,
    'best.test_accuracy': _KNOWN_FRACTION,
    'last.epoch': _EPOCHS,
    'last.validation_accuracy': _FRACTION,
    'last.test_accuracy': _KNOWN_FRACTION,
    'label_accuracy': _KNOWN_FRACTION,
    'epochs': _EPOCHS,
    'environment': _kind(dict),
    'times.seconds': _SECONDS,
}
_OPTIONAL = {'times.training_seconds': _SECONDS, 'weights': _DIGEST}
_SEALED = dict.fromkeys(('digests.model', 'digests.labels', 'digests.log'), _DIGEST)
_LOG = {'epoch': _EPOCHS, 'stage': _NAME, 'stage_epoch': _EPOCHS}
