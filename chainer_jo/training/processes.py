"""The processes that ``mpiexec`` has started, and the interface of a single process."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from chainer_jo.errors import ConfigError, excerpt
from chainer_jo.training.machine import cores

# Run in two processes by doctor.
_COUNT = """
from mpi4py import MPI
count = MPI.COMM_WORLD.allreduce(1)
if MPI.COMM_WORLD.rank == 0:
    print(count, ' '.join(MPI.Get_library_version().splitlines()[0].split()))
"""

#: Environment variables in which ``mpiexec`` gives the number of processes and this one's rank.
VARIABLES = {'PMI_SIZE': 'PMI_RANK', 'OMPI_COMM_WORLD_SIZE': 'OMPI_COMM_WORLD_RANK'}


class Alone:
    """A single process, with the methods of ``parallel.Ranks``."""

    size, local_rank, local_size = 1, 0, 1

    def __init__(self, rank=0):
        self.rank = rank

    def share_of_cores(self):
        """Returns this rank's share of its machine's processor cores, at least 1."""
        return cores()

    def lead(self, function):
        """Calls ``function`` on rank 0 only; all ranks return its value, or raise its error."""
        return function()

    def rank_0_first(self, function):
        """Calls ``function`` on rank 0, then on the others; all raise if it fails on rank 0."""
        return function()

    @contextlib.contextmanager
    def led(self, manager):
        """Returns a context manager that only rank 0 enters; if that fails, all ranks raise."""
        with contextlib.ExitStack() as stack:

            def enter():
                stack.enter_context(manager)

            self.lead(enter)
            yield

    def connect(self, device):
        """Sets up the exchange of gradients on a ``chainer.Device``, before the first step."""

    def share_labels(self, make):
        """Returns the method that ``make`` makes; the ranks of a machine share its labels."""
        return make()

    def total(self, *numbers):
        """Returns the sum of each integer over the ranks."""
        return numbers

    def begin(self, updater):
        """Copies the parameters of rank 0 to all ranks; called before a stage's first step."""

    def mean_gradients(self, method):
        """Replaces each gradient by its mean over the ranks."""

    def gather(self, array):
        """Returns the arrays ``(B / K, ...)`` of all ranks as one ``(B, ...)``, in rank order."""
        return array

    def share(self, n):
        """Returns this rank's share of ``n`` images, a slice."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def join(self, array):
        """Returns the arrays ``(n_k, ...)`` of all ranks, whose lengths may differ, as one."""
        return array

    def mean(self, array):
        """Returns the mean of an array over the ranks."""
        return array

    def end_epoch(self, updater):
        """Adds the sums of the ranks, averages their statistics, and merges their lost images."""

    def agree(self, *numbers):
        """Returns the maximum of each integer over the ranks."""
        return numbers

    def pack(self, arrays):
        """Adds the values of the other ranks to the arrays that rank 0 saves."""
        return arrays

    def hand_out(self, arrays, updater):
        """Returns the saved arrays from which this rank restores ``updater``.

        Args:
            arrays (dict): What :meth:`pack` returned, on rank 0; ``None`` on other ranks.
            updater (StageUpdater): A new updater of the stage in which the arrays were saved.
        """
        return arrays

    def all_fail(self, text):
        """Returns the messages of the ranks if all of them fail; ``None`` if only some do."""
        return [text]

    def abort(self, exit_code):
        """Ends all ranks with an exit code; does nothing in a single process."""


ALONE = Alone()
_present = ALONE


def launched():
    """Returns the number of processes that ``mpiexec`` has started and this rank, or ``(1, 0)``."""
    for size, rank in VARIABLES.items():
        if os.environ.get(size, '').isdecimal():
            return int(os.environ[size]), int(os.environ.get(rank, 0))
    return 1, 0


def become(ranks):
    """Sets the :class:`Alone` or ``Ranks`` of this process, and returns it."""
    global _present
    _present = ranks
    return ranks


def present():
    """Returns the ranks of this process: :data:`ALONE`, unless :func:`become` changed it."""
    return _present


def describe():
    """Returns one line about MPI: its version if two processes find each other, or the problem.

    Returns ``None`` if mpi4py is not installed.
    """
    if importlib.util.find_spec('mpi4py') is None:
        return None
    mpiexec = find_mpiexec()
    if mpiexec is None:
        return 'none: no mpiexec was found: pip install ".[mpi]"'
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
        return f'none: two processes started by {mpiexec} do not find each other: {seen}'
    return f'{version.strip()}, by {mpiexec}'


def find_mpiexec():
    """Returns the path of the ``mpiexec`` that fits this Python, or ``None``."""
    # Next to this Python first: MPI from a wheel works only with its own mpiexec.
    beside = str(Path(sys.executable).parent)
    return shutil.which('mpiexec', path=beside) or shutil.which('mpiexec')


def launcher(size):
    """Returns the words that start a command as ``size`` processes when put before ``python``.

    Raises:
        ConfigError: ``size`` is above 1 and MPI is not installed.
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


def killed_by(said):
    """Returns the signal that killed a rank, by what ``mpiexec`` said of it, or ``None``.

    Its exit code does not tell: MPICH's is the number of the signal, which is also the code of an
    error.

    Args:
        said (str): Its stdout and stderr.
    """
    # MPICH: "Killed (signal 9)". Open MPI: "exited on signal 9 (Killed)", in a broken line.
    found = re.search(r'(?:EXIT STRING: .*\(|exited\s+on\s+)signal\s+(\d+)', said)
    return None if found is None else int(found[1])


def check_batch(batch_size, size):
    """Raises ConfigError unless a batch can be divided equally among ``size`` processes."""
    if batch_size % size:
        raise ConfigError(
            f'a batch of {batch_size} cannot be divided among {size} processes',
            seen=f'common.batch_size={batch_size}',
            fix=f'choose a number of processes that divides {batch_size}, or another batch size',
        )


def check_size(folder, begun, ranks):
    """Raises ConfigError unless a trial was begun by the same number of processes."""
    if begun != ranks.size:
        raise ConfigError(
            f'{folder} was begun by {begun} process{"es" if begun > 1 else ""}',
            seen=f'{ranks.size} now; another number changes the batch statistics',
            fix=f'continue with mpiexec -n {begun}, or choose another folder with --out',
        )
