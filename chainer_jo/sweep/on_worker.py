"""What a Dask worker does for a run on its cluster: it is examined, and trains a trial a task.

It is told what to do in plain values, which a worker with another version of the package can read
as well.
"""

import contextlib
import os
import signal
import threading
from pathlib import Path

import distributed

from chainer_jo import datasets, store, version
from chainer_jo.errors import ChainerJoError, ConfigError, DataError, InUseError, WriteError
from chainer_jo.sweep.attempt import Attempt
from chainer_jo.training.machine import cores

WATCH_SECONDS = 0.2
# With it every step gets its memory from the system again, which takes 3 % of a small net's time.
NANNY_VARIABLES = ('MALLOC_TRIM_THRESHOLD_',)
INSTALL = 'install there what is installed here, and start the worker again'


def examine(order):
    """Looks for what keeps this worker from training as the machine does that starts the run.

    Args:
        order (dict): ``package``, what :func:`package` returns there; ``mark``, a folder beside the
            results whose lock is held there; ``where``, the data (``--data`` or ``None``); and
            ``data``, the digest of each data set by its name.

    Returns:
        dict: The values of a ChainerJoError and its exit code, or ``None``: nothing does.
    """
    try:
        _check_package(order['package'])
        _check_folder(Path(order['mark']))
        for name, digest in order['data'].items():
            _check_data(name, order['where'], digest)
    except ChainerJoError as error:
        return {name: getattr(error, name) for name in ('problem', 'seen', 'fix', 'exit_code')}
    return None


def package():
    """Returns the version of the package with the beginning of its digest: text."""
    return f'{version.__version__} ({version.source_digest()[:12]})'


def _check_package(expected):
    if package() != expected:
        raise ConfigError(
            'it has another version of chainer_jo',
            seen=f'{package()}, the run has {expected}',
            fix=INSTALL,
        )


def _check_folder(mark):
    if not os.path.isdir(mark):
        there = os.path.isdir(mark.parent)
        raise WriteError(
            f'the folder of results {mark.parent} is not there',
            seen=f'a folder without {mark.name}, hence another one' if there else 'no such folder',
            fix='mount the folder that the run writes to there, under the same name',
        )
    # The process that starts the run holds this lock. If it cannot be seen here, locks do not work
    # between hosts.
    with contextlib.suppress(InUseError), store.lock(mark):
        raise WriteError(
            f'locks of other hosts do not hold in {mark.parent}',
            seen=f'{mark / ".lock"} could be locked twice',
            fix='choose or mount a file system that carries flock; see README, "Several machines"',
        )


def _check_data(name, where, expected):
    seen = datasets.load(name, where).digest
    if seen != expected:
        raise DataError(
            f'it has other data of {name}',
            seen=f'digest {seen}, the run has {expected}',
            fix='put the same data there, under the same name',
        )


def train(order):
    """Trains one trial in a process of its own, until it ends or is no longer wanted.

    Args:
        order (dict): ``words`` of the trial; ``threads`` that it begins with, or ``None``: one, or
            on a ``gpu`` its ``share`` of the cores, which so many workers of a host divide; and
            ``run``, the topic under which every line that it prints is sent on.

    Returns:
        dict: ``address`` of the worker; ``code``, with which the process ended; ``said``, the
        last lines of its stderr.
    """
    worker = distributed.get_worker()
    key = worker.get_current_task()

    def tell(**what):
        worker.log_event(order['run'], {'key': key, 'address': worker.address, **what})

    attempt = Attempt(
        order['words'],
        _threads(order),
        # The code that was checked, wherever the worker was started.
        folder=Path(version.__file__).parents[1],
        without=NANNY_VARIABLES,
    )
    tell(begins=True)
    with _stopping_when(lambda: _is_unwanted(worker, key), attempt):
        code, said = attempt.run(lambda line: tell(line=line), lambda text: tell(text=text))
    tell(ends=code)
    return {'address': worker.address, 'code': code, 'said': said}


def _threads(order):
    # OMP_NUM_THREADS is ignored: Dask's nanny sets it to 1 for every worker.
    return order['threads'] or (max(1, cores() // order['share']) if order['gpu'] else 1)


@contextlib.contextmanager
def _stopping_when(condition, attempt):
    """Asks an attempt for a snapshot and its end as soon as a condition holds in the block."""
    over = threading.Event()

    def watch():
        while not over.wait(WATCH_SECONDS):
            if condition():
                attempt.stop(signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _is_unwanted(worker, key):
    """Whether the task was cancelled, the run is gone, or the worker is stopping.

    Dask itself ends no task that runs.
    """
    task = worker.state.tasks.get(key)
    return (
        task is None
        or task.state == 'cancelled'
        or worker.status not in (distributed.Status.running, distributed.Status.paused)
    )
