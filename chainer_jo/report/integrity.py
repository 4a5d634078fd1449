"""Checks that the files of finished and unfinished trials are as they were written."""

import fnmatch
import os
from pathlib import Path

from chainer_jo import config, store
from chainer_jo.errors import DataError, WriteError
from chainer_jo.report.collect import config_problem, read_doubtful, read_log
from chainer_jo.report.escape import plain

FILES = (
    *('config.json', 'log.jsonl', 'model.arrays', 'method.arrays', 'labels.arrays'),
    *('noisy_labels.arrays', 'failure.json'),
)


def verify(folder):
    """Checks a trial's folder, or all trials below a folder; writes nothing.

    A finished trial needs only ``result.json`` and ``log.jsonl``; other files may be missing.

    Returns:
        tuple: The number of trials, the number of files that were read, and for each problem a dict
        with ``path`` and ``problem``, in printable characters.
    """
    folder = Path(folder)
    is_trial = folder.parent.name == 'runs' and folder.is_dir()
    trials = [folder] if is_trial else sorted(_trials(folder))
    checks = [_Check(trial) for trial in trials]
    problems = [problem for check in checks for problem in check.problems]
    return len(checks), sum(check.files for check in checks), problems


def _trials(folder):
    """Returns the folders of all trials below a folder; links are followed, once each."""
    found, seen = set(), set()
    if not os.path.isdir(folder):
        return found
    for here, inner, _ in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(here)
        is_new = (status.st_dev, status.st_ino) not in seen
        seen.add((status.st_dev, status.st_ino))
        if is_new and os.path.basename(here) == 'runs':
            found.update(Path(here) / name for name in inner)
        # A link to a parent would never end.
        if not is_new or os.path.basename(here) == 'runs':
            inner.clear()
    return found


def _raise(error):
    # Trials in a folder that may not be entered must not count as checked.
    if not isinstance(error, FileNotFoundError):
        raise error


class _Check:
    """The files of one trial."""

    def __init__(self, folder):
        self.folder, self.files, self.problems = folder, 0, []
        try:
            self._names = sorted(os.listdir(folder))
        except OSError as error:
            # Other trials are still checked.
            self._names = []
            self._complain('', error.strerror)
        self.result = self._checked_result() if self._has('result.json') else None
        for name in FILES:
            needed = name == 'log.jsonl' and self.result is not None
            if needed or self._has(name):
                self._try(name, getattr(self, f'_check_{name.partition(".")[0]}'))
        for name in fnmatch.filter(self._names, 'snapshot-*.arrays'):
            self._try(name, _check_snapshot)

    def _has(self, name):
        return name in self._names

    def _complain(self, name, problem):
        path = plain(self.folder / name, 1000)
        self.problems.append({'path': path, 'problem': plain(problem, 300)})

    def _try(self, name, check):
        """Calls ``check`` with the path of a file; it returns or raises a problem."""
        self.files += 1
        try:
            problem = check(self.folder / name)
        except (DataError, WriteError) as error:
            problem = error.seen
        if isinstance(problem, str):
            self._complain(name, problem)

    def _checked_result(self):
        self.files += 1
        result, problem = read_doubtful(self.folder / 'result.json')
        if problem is not None:
            self._complain('result.json', problem)
        for misfit in misfits(result, self.folder) if result else ():
            self._complain('result.json', misfit)
        # A damaged result is not compared with other files, since it may lack any key.
        return result if problem is None else None

    def _check_log(self, path):
        read_log(path.parent, self.result)

    def _check_config(self, path):
        found, problem = store.read_unsealed(path)
        if problem or (problem := config_problem(found)):
            return problem
        trial = config.from_dict(found).trial
        if trial != self.folder.name:
            return f'it is the configuration of {trial}'
        if self.result and found.get('data') != self.result['data']['digest']:
            return 'it names data different from those in result.json'
        return None

    def _check_failure(self, path):
        store.read_sealed(path)

    def _check_model(self, path):
        arrays = store.read_arrays(path)
        return self._other(path.stem, *(arrays[name] for name in sorted(arrays)))

    _check_method = _check_model

    def _check_labels(self, path):
        return self._other('labels', store.read_arrays(path).get('y'))

    def _check_noisy_labels(self, path):
        noisy = store.read_arrays(path).get('noisy')
        if self.result and store.digest(noisy) != self.result['noise']['digest']:
            return 'their digest differs from noise.digest in result.json'
        return None

    def _other(self, name, *arrays):
        if self.result and store.digest(*arrays) != self.result['digests'].get(name):
            return f'its digest differs from digests.{name} in result.json'
        return None


def _check_snapshot(path):
    try:
        store.read_arrays(path)
    except DataError:
        # A trial that runs removes its older snapshots, perhaps since the folder was listed.
        if os.path.lexists(path):
            raise


def misfits(result, folder):
    """Returns contradictions within a result, or between it and its log, as a list of str.

    Args:
        result (dict): Content of a ``result.json``, with all fields.
        folder (pathlib.Path): The trial's folder.
    """
    found = []
    trial = config.from_dict(result['config']).trial
    if trial != result['trial']:
        found.append(f'its settings are those of {trial}')
    try:
        rows = {row['epoch']: row for row in read_log(folder)}
    except (DataError, WriteError):
        return found
    for which in ('best', 'last'):
        epoch = result[which]['epoch']
        for part in ('validation', 'test'):
            seen = result[which][f'{part}_accuracy']
            logged = rows.get(epoch, {}).get(f'{part}/main/accuracy')
            if seen != logged:
                found.append(
                    f'{which}.{part}_accuracy is {seen}, but epoch {epoch} in log.jsonl '
                    f'has {logged}'
                )
    last = rows[max(rows)].get('label_accuracy') if rows else None
    if result['label_accuracy'] != last:
        found.append(
            f'label_accuracy is {result["label_accuracy"]}, but log.jsonl ends with {last}'
        )
    return found
