"""The systems that a benchmark compares, with their workers and precisions."""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from chainer_jo.benchmark.process import WorkerProcess

# Pause on a CPU, long enough for the idle threads of the previous system to fall asleep.
PAUSE_SECONDS = 0.1
REPOSITORY = Path(__file__).parents[2]
PEER = REPOSITORY / '.venv-peer' / 'bin' / 'python'
PEER_SCRIPT = REPOSITORY / 'reproduce' / 'benchmark_pytorch.py'


@dataclass
class System:
    """A system and its measurements.

    Attributes:
        name (str): The name that tables show.
        words (list of str): Command line of its worker, without the task.
        task (dict): What the worker is told in addition to the workload; includes ``precision``.
        process (WorkerProcess): Its worker.
        losses (list of float): The loss in each step of the warm-up.
        seconds (dict): Maps a command to the times of its runs.
        peak_memory_bytes (int): Peak memory after all training steps.
        kernels (int): Kernels that a step launches; ``None`` if they were not counted.
    """

    name: str
    words: list
    task: dict
    process: WorkerProcess = None
    losses: list = field(default_factory=list)
    seconds: dict = field(default_factory=dict)
    peak_memory_bytes: int = 0
    kernels: int = None

    @property
    def precision(self):
        return self.task['precision']

    @property
    def title(self):
        return f'{self.name} {self.precision}'

    def command(self, work):
        """Returns the command line of its worker for a Workload."""
        return [*self.words, json.dumps(self.task | {'workload': work.as_dict()})]

    @property
    def computes_the_reference(self):
        """Whether its losses must equal those of the first system."""
        return self.task.get('method', 'cross_entropy') == 'cross_entropy'

    def run(self, command, name=None):
        """Runs a command once and keeps its time, under ``name`` or the command's first word."""
        if self.task['device'] == 'cpu':
            time.sleep(PAUSE_SECONDS)
        answer = self.process.ask(command)
        self.seconds.setdefault(name or command.split()[0], []).append(answer['seconds'])
        return answer


def systems(device, peer, net):
    """Returns the systems to compare, the reference first.

    Args:
        device (str): ``cpu`` or ``cuda:N``.
        peer (str): Python interpreter of an environment with PyTorch; ``None`` for ``.venv-peer``,
            which ``reproduce/benchmark.sh`` makes.
        net (dict): The net of the :class:`~chainer_jo.benchmark.workload.Workload`.
    """
    peer = str(peer or PEER)
    if 'name' in net:
        return of_net(device, peer)
    return on_cpu(peer) if device == 'cpu' else on_gpu(device, peer)


def plain(name, device, backend, precision='float32'):
    """Returns a system with a training step as a user of Chainer would write it."""
    return _own(name, {'device': device, 'backend': backend, 'precision': precision})


def trial(name, device, precision, method='cross_entropy', stage='train', capture=True):
    """Returns a system with the training step of a trial of this package."""
    task = {'device': device, 'backend': 'auto', 'precision': precision}
    return _own(name, task | {'method': method, 'stage': stage, 'capture': capture})


def _own(name, task):
    return System(name, [sys.executable, '-m', 'chainer_jo', 'benchmark', '--worker'], task)


def pytorch(peer, device, precision='float32', layout='channels_last', mode='eager'):
    """Returns a system that trains with PyTorch; ``peer`` is the Python interpreter that has it."""
    words = [
        'pytorch',
        *([layout] if layout != 'nchw' else []),
        *([mode] if mode != 'eager' else []),
    ]
    task = {'device': device, 'precision': precision, 'layout': layout, 'mode': mode}
    return System(' '.join(words), [peer, str(PEER_SCRIPT)], task)


def of_net(device, peer):
    """Returns the systems for a named net: without Chainer, whose step takes a minute on a CPU."""
    return [
        system
        for precision in ('float32', 'bfloat16' if device == 'cpu' else 'float16')
        for system in (
            plain('chainer_jo', device, 'auto', precision),
            pytorch(peer, device, precision),
            pytorch(peer, device, precision, mode='compile'),
        )
    ]


def on_cpu(peer):
    return [
        plain('chainer', 'cpu', 'chainer'),
        plain('chainer_jo', 'cpu', 'auto'),
        pytorch(peer, 'cpu', layout='nchw'),
        pytorch(peer, 'cpu'),
        pytorch(peer, 'cpu', mode='compile'),
        plain('chainer_jo', 'cpu', 'auto', 'bfloat16'),
        pytorch(peer, 'cpu', 'bfloat16'),
        pytorch(peer, 'cpu', 'bfloat16', mode='compile'),
    ]


def on_gpu(device, peer):
    # The first is the reference, whose losses the others must have.
    found = [plain('chainer', device, 'chainer'), pytorch(peer, device, layout='nchw')]
    for precision in ('float32', 'float16'):
        found += [
            trial('chainer_jo', device, precision),
            trial('chainer_jo eager', device, precision, capture=False),
            trial('chainer_jo ours step 1', device, precision, 'ours', 'correct'),
            trial('chainer_jo ours step 2', device, precision, 'ours', 'fine_tune'),
            *(
                pytorch(peer, device, precision, mode=mode)
                for mode in ('eager', 'graph', 'compile', 'compile graph')
            ),
        ]
    return found
