"""Compares systems on one machine. They take turns, so that the conditions are the same for all."""

import contextlib
import tempfile
from pathlib import Path
from statistics import median

from chainer_jo import store
from chainer_jo.benchmark import machine, page, workload
from chainer_jo.benchmark.process import WorkerError, WorkerProcess
from chainer_jo.benchmark.systems import systems
from chainer_jo.errors import ChainerJoError
from chainer_jo.training import device as devices
from chainer_jo.training import evaluation

SCHEMA = 2
EVALUATIONS, AUGMENTATIONS = 3, 20
# In a turn on a GPU, the first steps fill the queue and raise the clock rate; the others are timed.
GPU_WARM_UP, GPU_STEPS = 5, 50
# TF32, float32 on a GPU, and float16 have ten bits of mantissa.
TOLERANCES = {
    'cpu': {'float32': 1e-4, 'bfloat16': 2e-2},
    'gpu': {'float32': 1e-2, 'float16': 1e-2},
}


def run(device, rounds, peer, out, say, create=workload.papers):
    """Measures all systems that run here and writes ``<out>/cpu.json`` and ``cpu.md``, or ``gpu``.

    For nets other than the paper's net for CIFAR-10, the file names begin with the net's name.

    Args:
        device (str): ``auto``, ``cpu`` or ``cuda:N``.
        rounds (int): Number of rounds; in each, every system takes one step, or 50 on a GPU.
        peer (str): Python interpreter of an environment with PyTorch; ``None`` for ``.venv-peer``,
            which ``reproduce/benchmark.sh`` makes.
        out (pathlib.Path): Folder of the results.
        say (callable): Called with lines of progress.
        create (callable): Makes the :class:`~chainer_jo.benchmark.workload.Workload` in a folder.

    Returns:
        dict: The content of ``cpu.json`` or ``gpu.json``; ``rows`` has one entry per system.

    Raises:
        ConfigError: The device is a GPU that cannot be used.
        ChainerJoError: No system runs, or one exited early.
    """
    device = choose(device)
    head = machine.head(SCHEMA, device)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        work = create(folder, **sizes(device))
        # All are started before any is measured, so that all share memory and caches throughout.
        running, notes = _start(systems(device, peer, work.net), work, processes, say)
        _measure(running, rounds, device, work, say)
        if device != 'cpu':
            # Last, because counting kernels disturbs the timing.
            notes += _count_kernels(running, say)
    report = head | {
        'workload': {'net': work.net, 'batch': work.batch, 'epoch_images': work.epoch_images},
        'steps_a_turn': 1 if device == 'cpu' else GPU_STEPS,
        'notes': notes,
        'rows': [_row(system, work) for system in running],
    }
    write(report, page.to_markdown(report), out, work.title + kind(device))
    return report


def choose(device):
    """Returns the device for ``auto``, ``cpu`` or ``cuda:N``: ``cpu`` or ``cuda:N``."""
    name = devices.choose(device, 'auto')
    return 'cpu' if name == '@numpy' else name.replace('@cupy', 'cuda')


def kind(device):
    """Returns ``cpu`` or ``gpu``."""
    return 'cpu' if device == 'cpu' else 'gpu'


def sizes(device):
    """Returns numbers of images that are larger on a GPU, where a whole epoch fits in memory."""
    if device == 'cpu':
        return {}
    return {'images': workload.EPOCH_IMAGES, 'evaluation_images': evaluation.GPU_BATCH_SIZE}


def write(report, text, out, name):
    """Writes ``<out>/<name>.json`` and ``<name>.md``."""
    store.make_folder(out)
    store.write_json(Path(out) / f'{name}.json', report)
    store.write_text(Path(out) / f'{name}.md', text)


def _start(wanted, work, processes, say):
    """Starts and warms up the systems; returns those that run, and notes on the others.

    On a CPU they start one after the other, on a GPU all at once: compilers take minutes there.

    Raises:
        ChainerJoError: No system runs; the message is that of the last one.
    """
    running, notes, failed = [], [], None
    together = wanted[0].task['device'] != 'cpu'
    for group in [wanted] if together else [[system] for system in wanted]:
        for system in group:
            say(f'{system.title}: starts')
            system.process = WorkerProcess(system.command(work))
            processes.push(system.process)
            # Sent at once, so that all systems of a group compile at the same time.
            for _ in range(workload.BATCHES):
                system.process.send('step 1')
        for system in group:
            try:
                _warm_up(system)
                if running:
                    check_same(system, running[0])
            except ChainerJoError as error:
                failed = error
                notes.append(f'{system.title} is not measured: {_last_lines(error)}')
                say(notes[-1])
            else:
                running.append(system)
    if not running:
        raise failed
    return running, notes


def _warm_up(system):
    """Waits for the first steps of a system, and keeps their losses."""
    system.process.__enter__()
    system.losses = [system.process.read()['loss'] for _ in range(workload.BATCHES)]


def _last_lines(error):
    said = '; '.join(line.strip() for line in error.seen.splitlines()[-3:])
    return said if isinstance(error, WorkerError) else f'{error.problem}: {said}'


def check_same(system, reference):
    """Checks that a system has the number of parameters and the losses of another.

    The first loss checks the net; the second, after one step, the gradients and the optimizer.

    Raises:
        ChainerJoError: They differ, so the times cannot be compared.
    """
    # Relative, since the order of sums differs, and with it the last digits.
    tolerance = TOLERANCES[kind(system.task['device'])][system.precision]
    parameters = [one.process.greeting['parameters'] for one in (system, reference)]
    pairs = zip(system.losses, reference.losses, strict=True)
    same = not system.computes_the_reference or all(
        abs(loss - other) <= tolerance * abs(other) for loss, other in pairs
    )
    if parameters[0] != parameters[1] or not same:
        raise ChainerJoError(
            f'{system.title} does not compute the same as {reference.title}',
            seen=f'{parameters[0]} parameters, losses {system.losses}; '
            f'{parameters[1]} and {reference.losses}',
            fix='correct the net of one of them',
        )


def _measure(running, rounds, device, work, say):
    """Measures the systems in turns: training, then evaluation, then augmentation alone."""
    for i in range(rounds):
        say(f'round {i + 1} of {rounds}')
        for system in running:
            # On a GPU a single step is too short to be timed.
            if device == 'cpu':
                system.run('step 1')
            else:
                system.process.ask(f'step {GPU_WARM_UP}')
                system.run(f'step {GPU_STEPS}')
    for system in running:
        if system.task.get('capture'):
            say(f'{system.title}: an epoch')
            system.run(f'step {-(-work.images // work.batch)}', 'epoch')
        system.peak_memory_bytes = system.process.ask('memory')['bytes']
    for i in range(EVALUATIONS):
        say(f'evaluation {i + 1} of {EVALUATIONS}')
        for system in running:
            system.run('evaluate')
    for system in running:
        # Measured in one system only, since all run the same NumPy code for it.
        if system.title == 'chainer_jo float32' and device == 'cpu' and not work.title:
            for _ in range(AUGMENTATIONS):
                system.run('augment')


def _count_kernels(running, say):
    """Asks each system how many kernels a step launches; returns notes on those that fail."""
    notes = []
    for system in running:
        say(f'{system.title}: kernels')
        try:
            system.kernels = system.process.ask('kernels')['kernels']
        except WorkerError as error:
            notes.append(f'the kernels of {system.title} are not counted: {_last_lines(error)}')
    return notes


def _row(system, work):
    # Medians, because other programs may slow some turns down.
    middle = {command: median(seconds) for command, seconds in system.seconds.items()}
    step = middle['step']
    row = {
        'system': system.name,
        'device': system.task['device'],
        'precision': system.precision,
        'seconds_per_step': step,
        'seconds_per_epoch': step * work.epoch_images / work.batch,
        'images_per_second': work.batch / step,
        'peak_memory_bytes': system.peak_memory_bytes,
        'kernels_per_step': system.kernels,
        'evaluation_images_per_second': work.evaluation_images / middle['evaluate'],
        'steps': len(system.seconds['step']),
        'fastest_step': min(system.seconds['step']),
        'slowest_step': max(system.seconds['step']),
        'losses': system.losses,
        **system.process.greeting,
    }
    if 'augment' in middle:
        row['augmentation_share'] = middle['augment'] / step
    if 'epoch' in middle:
        row['measured_epoch_seconds'] = middle['epoch'] * -(-work.images // work.batch)
    return row
