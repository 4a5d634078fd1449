"""Where a trial runs: device, backend, folders; only ``ranks`` changes what it ends with (D-51)."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainer_jo.cores import allowed

#: Those that decide how fast a matrix is multiplied, the widest last.
INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16')
#: Folder in an output folder that has what trials share.
SHARED = 'shared'
#: How many threads the libraries of a process start, where they are set.
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')


@dataclass(frozen=True)
class Machine:
    """What a command says of the machine, and a process passes on to its children.

    Attributes:
        out (pathlib.Path): A trial's folder is ``out/runs/<trial id>``.
        data (str): Where the data set lies; see :func:`chainer_jo.datasets.load`.
        weights (str): File of the weights that a net begins with, where it begins with any.
        device (str): ``auto``, ``cpu`` or ``cuda:N``.
        backend (str): As for :func:`chainer_jo.backends.use`.
        graph (bool): Whether to capture training steps as CUDA graphs where cuDNN computes.
        snapshot_seconds (float): Least time between two snapshots of a trial.
        share (bool): Whether a first stage is trained once for all trials in ``out`` that have the
            same; see :mod:`chainer_jo.training.shared_stage`.
        threads (int): Threads that a trial begins to compute with; ``None``: see :func:`threads`.
            It keeps them: another number adds in another order, and gives other last digits.
        tensorboard (bool): Whether to write what TensorBoard draws, too.
        ranks (Ranks): The processes that train it together; ``None`` for this one alone. See
            :mod:`chainer_jo.training.parallel`.
    """

    out: Path
    data: str | None = None
    device: str = 'auto'
    backend: str = 'auto'
    graph: bool = True
    snapshot_seconds: float = 60.0
    share: bool = False
    threads: int | None = None
    weights: str | None = None
    tensorboard: bool = False
    ranks: Any = None

    def as_words(self):
        """Returns the options that tell a child process the same: a list of words."""
        # With '=': a folder may be called -x.
        words = [f'--out={self.out}', f'--device={self.device}', f'--backend={self.backend}']
        words += [f'--snapshot-seconds={self.snapshot_seconds:g}']
        words += [] if self.graph else ['--no-graph']
        words += ['--share'] if self.share else []
        words += ['--tensorboard'] if self.tensorboard else []
        words += [f'--threads={self.threads}'] if self.threads else []
        words += [f'--weights={self.weights}'] if self.weights else []
        return words + ([f'--data={self.data}'] if self.data else [])


def cores():
    """Returns the number of processor cores this process may use."""
    return len(allowed())


def processor():
    """Returns the processor's model and the fast instructions that it has; unknown: ``None``."""
    fields = name_value_lines('/proc/cpuinfo')
    flags = fields.get('flags', '').split()
    return {
        'processor': fields.get('model name') or platform.processor() or platform.machine(),
        'instructions': [name for name in INSTRUCTIONS if name in flags],
    }


def widest_instructions():
    """Returns the widest of :data:`INSTRUCTIONS` that the processor has, or ``None``."""
    return (processor()['instructions'] or [None])[-1]


def threads():
    """Returns how many threads this process is meant to compute with."""
    return asked_threads() or cores()


def asked_threads():
    """Returns the number in ``OMP_NUM_THREADS``, or ``None`` where there is none."""
    # May be a list, one number for each level of nesting.
    asked = os.environ.get('OMP_NUM_THREADS', '').partition(',')[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else None


def name_value_lines(path):
    """Returns the first value of each name in a file of ``name: value`` lines, if there is one."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split(':', 1) for line in lines if ':' in line]
    # Reversed, so that of a name that comes once per core the first value stays.
    return {name.strip(): value.strip() for name, value in reversed(pairs)}
