"""The part of a run that executes on a Dask worker: its examination, and one trial per task.

Orders are plain values, which a worker with another version of the package can also read.
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
# With this variable every step allocates from the system again, 3 % of a small net's time.
NANNY_VARIABLES = ('MALLOC_TRIM_THRESHOLD_',)
INSTALL = 'install the same version there and start the worker again'


def examine(order):
    """Checks that this worker trains exactly as the machine that starts the run.

    Args:
        order (dict): From the starting machine: ``package``, as :func:`package` returns it;
            ``mark``, a folder next to the results whose lock it holds; ``where``, its ``--data`` or
            ``None``; and ``data``, the digest of each data set by name.

    Returns:
        dict: The values of a ChainerJoError and its exit code; ``None`` if the worker may train.
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
    """Returns the version of the package and the beginning of its source digest: text."""
    return f'{version.__version__} ({version.source_digest()[:12]})'


def _check_package(expected):
    if package() != expected:
        raise ConfigError(
            'it has another version of chainer_jo',
            seen=f'{package()}, the run has {expected}',
            fix=INSTALL,
        )


def _check_folder(mark):
    # The mark is a folder of this run, so a local folder of the same path does not pass.
    if not os.path.isdir(mark):
        there = os.path.isdir(mark.parent)
        raise WriteError(
            f'the results folder {mark.parent} is missing',
            seen=f'another folder, without {mark.name}' if there else 'no such folder',
            fix='mount the folder to which the run writes there, at the same path',
        )
    # The process that starts the run holds this lock. If this worker can take it, locks do not work
    # between the two hosts.
    with contextlib.suppress(InUseError), store.lock(mark):
        raise WriteError(
            f'locks of other hosts have no effect in {mark.parent}',
            seen=f'{mark / ".lock"} could be locked twice',
            fix='use a file system that supports flock; see README, "Several machines"',
        )


def _check_data(name, where, expected):
    seen = datasets.load(name, where).digest
    if seen != expected:
        raise DataError(
            f'it has different data for {name}',
            seen=f'digest {seen}, the run has {expected}',
            fix='put the same data there, at the same path',
        )


def train(order):
    """Trains one trial in a child process, until it ends or its task is cancelled.

    Args:
        order (dict): ``words``, the trial's command; ``threads`` of a new trial, or ``None`` for
            one thread, or with ``gpu`` true for the cores divided by ``share``, the number of
            trials on a host; and ``run``, the Dask topic to which its output lines are sent.

    Returns:
        dict: ``address`` of the worker; ``code``, the exit code of the process; ``said``, the last
        lines of its stderr.
    """
    worker = distributed.get_worker()
    key = worker.get_current_task()

    def tell(**what):
        worker.log_event(order['run'], {'key': key, 'address': worker.address, **what})

    attempt = Attempt(
        order['words'],
        _threads(order),
        # Runs the code that was examined, whatever the working folder of the worker.
        folder=Path(version.__file__).parents[1],
        without=NANNY_VARIABLES,
    )
    tell(begins=True)
    with _stopping_when(lambda: _is_unwanted(worker, key), attempt):
        code, said = attempt.run(lambda line: tell(line=line), lambda text: tell(text=text))
    tell(ends=code, said=said)
    return {'address': worker.address, 'code': code, 'said': said}


def _threads(order):
    # OMP_NUM_THREADS is ignored: Dask's nanny sets it to 1 for every worker.
    return order['threads'] or (max(1, cores() // order['share']) if order['gpu'] else 1)


@contextlib.contextmanager
def _stopping_when(condition, attempt):
    """Signals an attempt to take a snapshot and end once a condition holds within the block."""
    over = threading.Event()

    def watch():
        while not over.wait(WATCH_SECONDS):
            if condition():
                attempt.stop(signal.SIGTERM)
                return

    # Dask has no callback for a cancelled task that runs, so it is polled.
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _is_unwanted(worker, key):
    """Returns whether the task was cancelled, the run is gone, or the worker is stopping.

    Dask itself never stops a running task.
    """
    task = worker.state.tasks.get(key)
    return (
        task is None
        or task.state == 'cancelled'
        or worker.status not in (distributed.Status.running, distributed.Status.paused)
    )
