"""How many processes an ``mpiexec`` has started, and what one does that is alone."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from chainer_jo.errors import ConfigError, excerpt

# What doctor runs twice.
_COUNT = """
from mpi4py import MPI
count = MPI.COMM_WORLD.allreduce(1)
if MPI.COMM_WORLD.rank == 0:
    print(count, ' '.join(MPI.Get_library_version().splitlines()[0].split()))
"""

#: Where an ``mpiexec`` says how many processes it has started, and which one this is.
VARIABLES = {'PMI_SIZE': 'PMI_RANK', 'OMPI_COMM_WORLD_SIZE': 'OMPI_COMM_WORLD_RANK'}


class Alone:
    """A single process, with the methods of ``parallel.Ranks``."""

    size, local_rank = 1, 0

    def __init__(self, rank=0):
        self.rank = rank

    def lead(self, function):
        """Calls ``function`` on rank 0 alone; returns its value, or raises its error, on all."""
        return function()

    @contextlib.contextmanager
    def led(self, manager):
        """A context that only rank 0 enters; if it fails there, no rank goes on."""
        with contextlib.ExitStack() as stack:

            def enter():
                stack.enter_context(manager)

            self.lead(enter)
            yield

    def connect(self, device):
        """Makes what gradients travel by on a ``chainer.Device``; called before the first step."""

    def share_labels(self, make):
        """Returns the method that ``make`` makes; its labels are one for all ranks of a machine."""
        return make()

    def total(self, *numbers):
        """Returns the sum of each whole number over the ranks."""
        return numbers

    def begin(self, updater):
        """Gives all ranks the parameters of rank 0; called before the first step of a stage."""

    def mean_gradients(self, method):
        """Replaces each gradient by its mean over the ranks."""

    def gather(self, array):
        """Returns an array ``(B / K, ...)`` of all ranks as one ``(B, ...)``, in column order."""
        return array

    def end_epoch(self, updater):
        """Makes equal what each rank has of its own: sums are added up, statistics averaged."""

    def agree(self, *numbers):
        """Returns the largest of each whole number over the ranks."""
        return numbers

    def pack(self, arrays):
        """Adds to rank 0's saved arrays what the other ranks have of their own."""
        return arrays

    def hand_out(self, arrays, updater):
        """Returns the saved arrays from which this rank is to restore ``updater``.

        Args:
            arrays (dict): What :meth:`pack` returned; only rank 0 has it.
            updater (StageUpdater): New, of the stage in which they were saved.
        """
        return arrays

    def all_fail(self, text):
        """Returns what the ranks say, if all of them fail; ``None`` if this one fails alone."""
        return [text]

    def abort(self, exit_code):
        """Ends all ranks with an exit code."""


ALONE = Alone()
_present = ALONE


def launched():
    """Returns how many processes an ``mpiexec`` has started, and which one this is: ``(1, 0)``."""
    for size, rank in VARIABLES.items():
        if os.environ.get(size, '').isdecimal():
            return int(os.environ[size]), int(os.environ.get(rank, 0))
    return 1, 0


def become(ranks):
    """Says what this process is from now on: an :class:`Alone` or a ``Ranks``; returns it."""
    global _present
    _present = ranks
    return ranks


def present():
    """Returns what this process is: :data:`ALONE`, unless it became another."""
    return _present


def describe():
    """Returns one line about MPI: its version, if two processes find each other, or why not.

    ``None`` without mpi4py.
    """
    if importlib.util.find_spec('mpi4py') is None:
        return None
    mpiexec = find_mpiexec()
    if mpiexec is None:
        return 'none: there is no mpiexec: pip install ".[mpi]"'
    words = [mpiexec, '-n', '2', sys.executable, '-c', _COUNT]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f'none: {excerpt(error)}'
    count, _, version = done.stdout.partition(' ')
    if done.returncode or count != '2':
        seen = excerpt(done.stderr or done.stdout, 120)
        return f'none: of two processes that {mpiexec} starts, none finds the other: {seen}'
    return f'{version.strip()}, by {mpiexec}'


def find_mpiexec():
    """Returns the path of the ``mpiexec`` that fits this Python, or ``None``."""
    # Beside this Python first: the MPI of a wheel works with its own mpiexec only.
    beside = str(Path(sys.executable).parent)
    return shutil.which('mpiexec', path=beside) or shutil.which('mpiexec')


def launcher(size):
    """Returns the words before ``python`` that start a command as ``size`` processes.

    Raises:
        ConfigError: There is no MPI for more than one.
    """
    if size == 1:
        return []
    mpiexec = find_mpiexec()
    if mpiexec is None or importlib.util.find_spec('mpi4py') is None:
        raise ConfigError(
            f'there is no MPI to train with {size} processes',
            seen='no mpiexec' if mpiexec is None else 'no mpi4py',
            fix='pip install ".[mpi]", or --processes 1',
        )
    return [mpiexec, '-n', str(size)]


def check_batch(batch_size, ranks):
    """Raises ConfigError unless the ranks get equal parts of a batch."""
    if batch_size % ranks.size:
        raise ConfigError(
            f'a batch of {batch_size} cannot be divided among {ranks.size} processes',
            seen=f'common.batch_size={batch_size}, mpiexec -n {ranks.size}',
            fix=f'choose a number of processes that divides {batch_size}, or another batch size',
        )


def check_size(folder, begun, ranks):
    """Raises ConfigError unless a trial was begun by as many processes as there are."""
    if begun != ranks.size:
        raise ConfigError(
            f'{folder} was begun by {begun} process{"es" if begun > 1 else ""}',
            seen=f'{ranks.size} now; another number gives other batch statistics',
            fix=f'go on with mpiexec -n {begun}, or choose another folder with --out',
        )
