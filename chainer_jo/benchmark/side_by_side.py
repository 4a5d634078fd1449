"""Measures how many images per second several simultaneous trials on one device train in total."""

import contextlib
import tempfile
import time
from statistics import median

from chainer_jo.benchmark import compare, machine, page, workload
from chainer_jo.benchmark.process import WorkerProcess
from chainer_jo.benchmark.systems import plain, trial

SCHEMA = 1
# Per process and turn: enough that different start and end times of the processes do not matter.
STEPS = {'cpu': 4, 'gpu': 300}
COLUMNS = ('precision', 'trials', 'images/s in sum', 'peak memory in sum', 'turns')


def run(device, jobs, rounds, out, say, create=workload.papers):
    """Measures groups of trials in turns; writes ``jobs-cpu.json`` and ``.md``, or ``jobs-gpu``.

    Args:
        device (str): ``auto``, ``cpu`` or ``cuda:N``.
        jobs (sequence of int): Sizes of the groups; the trials of a group train at the same time,
            each in its own process with its share of the cores.
        rounds (int): Number of turns of each group.
        out (pathlib.Path): Folder of the results.
        say (callable): Called with lines of progress.
        create (callable): Makes the :class:`~chainer_jo.benchmark.workload.Workload` in a folder.

    Returns:
        dict: The content of the JSON file; ``rows`` has one entry per group.

    Raises:
        ConfigError: The device is a GPU that cannot be used.
        WorkerError: A process exited early.
    """
    device = compare.choose(device)
    head = machine.head(SCHEMA, device)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        work = create(folder, **compare.sizes(device))
        groups = [
            _Group(system, count, work, processes, say)
            for system in _systems(device)
            for count in jobs
        ]
        for i in range(rounds):
            say(f'round {i + 1} of {rounds}')
            for group in groups:
                group.step(STEPS[compare.kind(device)])
        report = head | {
            'workload': {'net': work.net, 'batch': work.batch},
            'rows': [group.row(work) for group in groups],
        }
    compare.write(report, to_markdown(report), out, f'jobs-{compare.kind(device)}')
    return report


def _systems(device):
    if device == 'cpu':
        return [plain('chainer_jo', 'cpu', 'auto')]
    return [trial('chainer_jo', device, precision) for precision in ('float32', 'float16')]


class _Group:
    """Several processes of one system that compute at the same time."""

    def __init__(self, system, count, work, processes, say):
        say(f'{system.title}: {count} side by side')
        self.system, self.seconds = system, []
        # All are started before the first is waited for, so that they load at the same time.
        starting = [WorkerProcess(system.command(work), count) for _ in range(count)]
        self.members = [processes.enter_context(process) for process in starting]
        self._ask('step 2')

    def _ask(self, command):
        for member in self.members:
            member.send(command)
        # All get the command before an answer is read, so that they compute at the same time.
        return [member.read() for member in self.members]

    def step(self, count):
        start = time.perf_counter()
        self._ask(f'step {count}')
        self.seconds.append((time.perf_counter() - start) / count)

    def row(self, work):
        seconds = median(self.seconds)
        return {
            'system': self.system.name,
            'device': self.system.task['device'],
            'precision': self.system.precision,
            'jobs': len(self.members),
            'seconds_per_step': seconds,
            'images_per_second': len(self.members) * work.batch / seconds,
            'peak_memory_bytes': sum(answer['bytes'] for answer in self._ask('memory')),
            'turns': len(self.seconds),
            **self.members[0].greeting,
        }


def to_markdown(report):
    """Returns the result of :func:`run` as a Markdown page."""
    rows = report['rows']
    lines = [
        f'# Trials side by side on one {compare.kind(report["device"]).upper()}',
        '',
        *page.heading(report),
        'Every trial is a process of its own with its share of the cores; the groups took turns. '
        'Medians.',
        '',
        *page.table(COLUMNS, map(_cells, rows), words=1),
        '',
        *(f'- {sentence}.' for sentence in _best(rows)),
        f'- {rows[0]["versions"]}',
    ]
    return '\n'.join(lines) + '\n'


def _cells(row):
    memory, images = page.gib(row['peak_memory_bytes']), f'{row["images_per_second"]:.0f}'
    return row['precision'], str(row['jobs']), images, memory, str(row['turns'])


def _best(rows):
    for precision in dict.fromkeys(row['precision'] for row in rows):
        own = [row for row in rows if row['precision'] == precision]
        best = max(own, key=lambda row: row['images_per_second'])
        ratio = best['images_per_second'] / own[0]['images_per_second']
        yield (
            f'{precision}: {best["jobs"]} side by side are fastest in sum, '
            f'{ratio:.2f} times {own[0]["jobs"]}'
        )
