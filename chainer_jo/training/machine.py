"""Where a trial runs. Only ``ranks`` (D-54) and ``weights`` change more than its last digits."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainer_jo.cores import allowed

#: Instruction sets that decide the speed of matrix products, the widest last.
INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16')
#: Subfolder of an output folder for files that trials share.
SHARED = 'shared'
#: Environment variables that set the number of threads of numerical libraries.
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')


@dataclass(frozen=True)
class Machine:
    """The options of a command that concern the machine; a process passes them to its children.

    Attributes:
        out (pathlib.Path): Output folder; a trial's folder is ``out/runs/<trial id>``.
        data (str): Path of the data set; see :func:`chainer_jo.datasets.load`.
        weights (str): File of initial weights, for a net that starts from any.
        device (str): ``auto``, ``cpu`` or ``cuda:N``.
        backend (str): As for :func:`chainer_jo.backends.use`.
        graph (bool): Whether to capture training steps as CUDA graphs if cuDNN is used.
        snapshot_seconds (float): Least time between two snapshots of a trial.
        share (bool): Whether trials in ``out`` with the same first stage train it once; see
            :mod:`chainer_jo.training.shared_stage`.
        threads (int): Threads of a new trial; ``None``: see :func:`threads`. A trial keeps its
            number, because another one sums in another order and changes the last digits.
        tensorboard (bool): Whether to write TensorBoard event files.
        ranks (Ranks): The processes that train a trial together; ``None`` for one process. See
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

    def folder(self, trial):
        """Returns the folder of a trial, by its id."""
        return self.out / 'runs' / trial

    def as_words(self):
        """Returns the same options as command-line words for a child process."""
        # With '=', because a folder's name may begin with a hyphen.
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
    """Returns the processor's model and those of :data:`INSTRUCTIONS` that it has: a dict."""
    fields = name_value_lines('/proc/cpuinfo')
    flags = fields.get('flags', '').split()
    model = fields.get('model name') or platform.processor() or platform.machine()
    # A virtual machine may print 'AMD EPYC' on two generations, one twice as fast as the other.
    if 'cpu family' in fields and not any(map(str.isdigit, model)):
        model += f' (family {fields["cpu family"]}, model {fields.get("model", "?")})'
    return {
        'processor': model,
        'instructions': [name for name in INSTRUCTIONS if name in flags],
    }


def threads():
    """Returns the number of threads to compute with: ``OMP_NUM_THREADS``, or one per core."""
    return asked_threads() or cores()


def asked_threads():
    """Returns the number in ``OMP_NUM_THREADS``, or ``None`` if it is not set."""
    # OpenMP allows a list with a number for each level of nesting.
    asked = os.environ.get('OMP_NUM_THREADS', '').partition(',')[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else None


def name_value_lines(path):
    """Returns the first value of each name in a file of ``name: value`` lines; ``{}`` if absent."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split(':', 1) for line in lines if ':' in line]
    # Reversed, so that the first value of a name wins: /proc/cpuinfo repeats names for each core.
    return {name.strip(): value.strip() for name, value in reversed(pairs)}
