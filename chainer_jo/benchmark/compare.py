"""Systems side by side on one machine: they take turns, so that all see the same machine."""

import contextlib
import datetime
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import chainer_jo
from chainer_jo import store
from chainer_jo.benchmark import machine, page, workload
from chainer_jo.benchmark.process import WorkerError, WorkerProcess
from chainer_jo.errors import ChainerJoError, ConfigError

SCHEMA = 1
EPOCH_IMAGES = 45_000
EVALUATIONS, AUGMENTATIONS = 3, 20
# Long enough for the idle threads of the system before to fall asleep.
PAUSE_SECONDS = 0.1
TOLERANCE = {'float32': 1e-4, 'bfloat16': 2e-2}
REPOSITORY = Path(chainer_jo.__file__).parents[1]
PEER = REPOSITORY / '.venv-peer' / 'bin' / 'python'
PEER_SCRIPT = REPOSITORY / 'reproduce' / 'benchmark_pytorch.py'


@dataclass
class System:
    """One system, and what was measured of it.

    Attributes:
        name (str): For people.
        words (list of str): Command line of its worker, but for the task.
        task (dict): What its worker is told besides the workload; has ``precision``.
        process (WorkerProcess): Its worker.
        losses (list of float): Before each step of the warm-up.
        seconds (dict): Command to the times that its runs took.
        peak_memory_bytes (int): Of the process, after all steps of training.
    """

    name: str
    words: list
    task: dict
    process: WorkerProcess = None
    losses: list = field(default_factory=list)
    seconds: dict = field(default_factory=dict)
    peak_memory_bytes: int = 0

    @property
    def precision(self):
        return self.task['precision']

    @property
    def title(self):
        return f'{self.name} {self.precision}'

    def run(self, command):
        """Runs a command once and keeps its time."""
        time.sleep(PAUSE_SECONDS)
        answer = self.process.ask(command)
        self.seconds.setdefault(command, []).append(answer['seconds'])
        return answer


def systems(peer):
    """Returns the systems to compare, the reference first.

    Args:
        peer (str): Interpreter of an environment with PyTorch.
    """
    own = [sys.executable, '-m', 'chainer_jo', 'benchmark', '--worker']
    other = [str(peer), str(PEER_SCRIPT)]

    def ours(backend, precision):
        return {'backend': backend, 'precision': precision}

    def pytorchs(layout, precision='float32'):
        return {'layout': layout, 'precision': precision}

    return [
        System('chainer', own, ours('chainer', 'float32')),
        System('chainer_jo', own, ours('onednn', 'float32')),
        System('pytorch', other, pytorchs('nchw')),
        System('pytorch channels_last', other, pytorchs('channels_last')),
        System('chainer_jo', own, ours('onednn', 'bfloat16')),
        System('pytorch channels_last', other, pytorchs('channels_last', 'bfloat16')),
    ]


def run(device, steps, peer, out, say, create=workload.papers):
    """Measures all systems that run here and writes ``<out>/cpu.json`` and ``cpu.md``.

    Args:
        device (str): ``auto`` or ``cpu``.
        steps (int): Rounds in which every system takes one step.
        peer (str): Interpreter of an environment with PyTorch; ``None`` for ``.venv-peer``, which
            ``reproduce/benchmark.sh`` makes.
        out (pathlib.Path): Folder of the results.
        say (callable): Called with lines of progress.
        create (callable): Makes the :class:`~chainer_jo.benchmark.workload.Workload` in a folder.

    Returns:
        dict: The content of ``cpu.json``; ``rows`` has one entry a system.

    Raises:
        ConfigError: The device is a GPU.
        ChainerJoError: Systems compute different things, or one ended before its time.
    """
    if device not in ('auto', 'cpu'):
        raise ConfigError(
            'the benchmark is one of the CPU', seen=f'--device {device}', fix='--device cpu'
        )
    started = datetime.datetime.now(datetime.UTC)
    described = machine.describe()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        work = create(folder)
        running, notes = _start(systems(peer or PEER), work, processes, say)
        check_same(running)
        _measure(running, steps, say)
    report = {
        'schema': SCHEMA,
        'date': started.isoformat(timespec='seconds'),
        'machine': described,
        'workload': {'net': work.net, 'batch': work.batch, 'epoch_images': EPOCH_IMAGES},
        'notes': notes,
        'rows': [_row(system, work) for system in running],
    }
    store.make_folder(out)
    store.write_json(Path(out) / 'cpu.json', report)
    store.write_text(Path(out) / 'cpu.md', page.to_markdown(report))
    return report


def _start(wanted, work, processes, say):
    """Starts and warms up the systems one after the other; returns those that run, and notes."""
    running, notes = [], []
    for system in wanted:
        say(f'{system.title}: starts')
        task = json.dumps(system.task | {'workload': work.as_dict()})
        try:
            system.process = processes.enter_context(WorkerProcess([*system.words, task]))
        except WorkerError as error:
            if not running:
                raise
            notes.append(f'{system.title} is not measured: {_last_lines(error.seen)}')
            say(notes[-1])
            continue
        system.losses = [system.process.ask('step')['loss'] for _ in range(2)]
        running.append(system)
    return running, notes


def _last_lines(text, count=3):
    return '; '.join(line.strip() for line in text.splitlines()[-count:])


def check_same(running):
    """Checks that all have the first one's number of parameters and losses.

    The first loss checks the net; the second, after one step, the gradients and the optimizer.

    Raises:
        ChainerJoError: They do not: their times could not be compared.
    """
    reference = running[0]
    parameters = reference.process.greeting['parameters']
    for system in running[1:]:
        tolerance = TOLERANCE[system.precision]
        pairs = zip(system.losses, reference.losses, strict=True)
        same = all(abs(loss - other) <= tolerance * abs(other) for loss, other in pairs)
        if system.process.greeting['parameters'] != parameters or not same:
            raise ChainerJoError(
                f'{system.title} computes something else than {reference.title}',
                seen=f'{system.process.greeting["parameters"]} parameters, losses {system.losses}; '
                f'{parameters} and {reference.losses}',
                fix='mend the net of one of them',
            )


def _measure(running, steps, say):
    for i in range(steps):
        say(f'round {i + 1} of {steps}')
        for system in running:
            system.run('step')
    for system in running:
        system.peak_memory_bytes = system.process.ask('memory')['bytes']
    for i in range(EVALUATIONS):
        say(f'evaluation {i + 1} of {EVALUATIONS}')
        for system in running:
            system.run('evaluate')
    for system in running:
        if system.name == 'chainer_jo':
            for _ in range(AUGMENTATIONS):
                system.run('augment')


def _row(system, work):
    middle = {command: median(seconds) for command, seconds in system.seconds.items()}
    step = middle['step']
    row = {
        'system': system.name,
        'device': 'cpu',
        'precision': system.precision,
        'seconds_per_step': step,
        'seconds_per_epoch': step * EPOCH_IMAGES / work.batch,
        'images_per_second': work.batch / step,
        'peak_memory_bytes': system.peak_memory_bytes,
        'evaluation_images_per_second': work.evaluation_images / middle['evaluate'],
        'steps': len(system.seconds['step']),
        'fastest_step': min(system.seconds['step']),
        'slowest_step': max(system.seconds['step']),
        'losses': system.losses,
        **system.process.greeting,
    }
    if 'augment' in middle:
        row['augmentation_share'] = middle['augment'] / step
    return row
