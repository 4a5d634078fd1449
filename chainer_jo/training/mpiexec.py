"""``mpiexec``: what it has started, and how to start several processes with it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from chainer_jo.errors import ConfigError, excerpt

# Run in two processes by doctor.
_COUNT = """
from mpi4py import MPI
count = MPI.COMM_WORLD.allreduce(1)
if MPI.COMM_WORLD.rank == 0:
    print(count, ' '.join(MPI.Get_library_version().splitlines()[0].split()))
"""

#: Environment variables in which ``mpiexec`` gives the number of processes and this one's rank.
VARIABLES = {'PMI_SIZE': 'PMI_RANK', 'OMPI_COMM_WORLD_SIZE': 'OMPI_COMM_WORLD_RANK'}


def launched():
    """Returns the number of processes that ``mpiexec`` has started and this rank, or ``(1, 0)``."""
    for size, rank in VARIABLES.items():
        if os.environ.get(size, '').isdecimal():
            return int(os.environ[size]), int(os.environ.get(rank, 0))
    return 1, 0


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
