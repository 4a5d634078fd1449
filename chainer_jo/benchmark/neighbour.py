"""Measures a step alone, and next to a process that keeps one core busy all the time."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

from chainer_jo import backends
from chainer_jo.benchmark import compare, machine, page, workload
from chainer_jo.benchmark.process import WorkerError, WorkerProcess
from chainer_jo.benchmark.systems import PAUSE_SECONDS, PEER, plain, pytorch
from chainer_jo.errors import ConfigError
from chainer_jo.training.machine import cores

SCHEMA = 1
STEPS = 2  # Per turn.
COLUMNS = ('system', 'precision', 'threads', 's/step alone', 's/step beside', 'times', 'turns')
# It exits when its parent process is gone, even if that was killed.
BUSY = 'import os\nwhile os.getppid() == {parent}: pass'


def run(rounds, peer, out, say, create=workload.papers):
    """Measures steps on the CPU, with one thread and one per core; writes ``neighbour-cpu.*``.

    Args:
        rounds (int): Number of turns of each system, alone and next to the busy process.
        peer (str): Python interpreter of an environment with PyTorch; see
            :func:`~chainer_jo.benchmark.systems.systems`.
        out (pathlib.Path): Folder of the results.
        say (callable): Called with lines of progress.
        create (callable): Makes the :class:`~chainer_jo.benchmark.workload.Workload` in a folder.

    Returns:
        dict: The content of ``neighbour-cpu.json``; ``rows`` has one entry for each system and
        number of threads.

    Raises:
        WorkerError: A process of this package's own system exited early.
    """
    head, notes = machine.head(SCHEMA), []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        work = create(folder)
        systems = []
        for system in _systems(str(peer or PEER)):
            for threads in sorted({1, cores()}):
                say(f'{system.title}: starts with {threads} thread{"s" if threads > 1 else ""}')
                try:
                    systems.append(_Measured(system, threads, work, processes))
                except WorkerError as error:
                    if system.name == 'chainer_jo':
                        raise
                    notes.append(f'{system.title} is not measured: {error.seen.splitlines()[-1]}')
        for i in range(rounds):
            say(f'round {i + 1} of {rounds}')
            for system in systems:
                system.take_turns()
        report = head | {
            'workload': {'net': work.net, 'batch': work.batch},
            'notes': list(dict.fromkeys(notes)),
            'rows': [system.row() for system in systems],
        }
    compare.write(report, to_markdown(report), out, 'neighbour-cpu')
    return report


def _systems(peer):
    precisions = ['float32']
    with contextlib.suppress(ConfigError):
        backends.check_precision('bfloat16', backends.name_on('@numpy'))
        precisions.append('bfloat16')
    for precision in precisions:
        yield plain('chainer_jo', 'cpu', 'auto', precision)
        yield pytorch(peer, 'cpu', precision)


class _Measured:
    """A system with a given number of threads, and its times."""

    def __init__(self, system, threads, work, processes):
        self.system, self.threads = system, threads
        self._process = WorkerProcess(system.command(work), threads=threads)
        # Before waiting for it, so that a process that fails to start is cleaned up too.
        processes.push(self._process)
        self._process.__enter__()
        self._process.ask('step 2')
        self.alone, self.beside = [], []

    def take_turns(self):
        self.alone.append(self._step())
        with busy_neighbour():
            self.beside.append(self._step())

    def _step(self):
        # Time for the idle threads of the previous system to fall asleep, and for the busy process
        # to start.
        time.sleep(PAUSE_SECONDS)
        return self._process.ask(f'step {STEPS}')['seconds']

    def row(self):
        alone, beside = median(self.alone), median(self.beside)
        return {
            'system': self.system.name,
            'precision': self.system.precision,
            'threads': self.threads,
            'seconds_alone': alone,
            'seconds_beside': beside,
            'times': beside / alone,
            'turns': len(self.alone),
            **self._process.greeting,
        }


@contextlib.contextmanager
def busy_neighbour():
    """Keeps one core busy, in another process, while the block runs."""
    words = [sys.executable, '-c', BUSY.format(parent=os.getpid())]
    with subprocess.Popen(words) as neighbour:
        try:
            yield neighbour
        finally:
            neighbour.kill()


def to_markdown(report):
    """Returns the result of :func:`run` as a Markdown page."""
    rows = report['rows']
    lines = [
        '# A step beside a busy process, on the CPU',
        '',
        *page.heading(report),
        f'The systems took turns of {STEPS} steps, first alone, then next to a process that keeps '
        'one core busy. Medians.',
        '',
        *page.table(COLUMNS, map(_cells, rows)),
        '',
        *(f'- {note}' for note in report['notes']),
        *(f'- {versions}' for versions in dict.fromkeys(row['versions'] for row in rows)),
    ]
    return '\n'.join(lines) + '\n'


def _cells(row):
    return (
        *(row['system'], row['precision'], str(row['threads'])),
        *(f'{row[key]:.3f}' for key in ('seconds_alone', 'seconds_beside')),
        f'{row["times"]:.2f}',
        str(row['turns']),
    )
