"""``train``: one trial."""

import argparse
import contextlib
import json
import os
import signal
import threading
from dataclasses import replace

from chainer_jo import config, datasets, paper, store
from chainer_jo.commands import options
from chainer_jo.console import JsonLines, TrialProgress, accuracies, say, show
from chainer_jo.errors import ConfigError
from chainer_jo.training import processes


def add(command):
    """Adds the command; ``command(name, function, text)`` returns a new parser."""
    parser = command('train', run, 'runs one trial, or resumes it')
    parser.add_argument('--dataset', required=True, help=' | '.join(datasets.NAMES))
    parser.add_argument('--noise', required=True, help=' | '.join(config.NOISE_KINDS))
    parser.add_argument('--rate', type=options.rate, help='noise rate, a fraction from 0 to 1')
    parser.add_argument(
        '--labels',
        type=options.path_as_text,
        metavar='FILE[:KEY]',
        help='noisy labels for --noise file: NumPy, CSV, JSON, torch, or text with one per line',
    )
    parser.add_argument('--method', required=True, help=' | '.join(paper.methods()))
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of all random choices (default: 0)'
    )
    options.add_settings(parser)
    options.add_machine(parser)
    options.add_training(parser, share=False)
    options.add_out(parser)
    options.add_json(parser, 'print a JSON row per epoch')
    # Hidden, for the parent of this process: the pipes of a process close however it ends.
    parser.add_argument('--while-stdin-is-open', action='store_true', help=argparse.SUPPRESS)


def run(given):
    """Runs the trial of the options, alone or as one of several processes."""
    from chainer_jo.training import trial
    from chainer_jo.training.machine import cores, threads

    ranks = processes.present()
    # mpiexec gives stdin only to rank 0.
    if given.while_stdin_is_open and ranks.rank == 0:
        # A daemon: a thread that waits for stdin must not keep the process alive.
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    machine = options.machine(given)
    dataset, labels = _read_labels(given)
    described = _described(given, labels)
    # A trial of a sweep has --json, and the sweep has warned.
    if ranks.rank == 0 and not given.json:
        options.warn_of_settings(given.overrides, [described])
    device = options.choose_device(given)
    if ranks.size > 1:
        machine = _shared_out(machine, ranks)
    elif device == '@numpy':
        options.warn_of_threads(1, machine.threads or threads(), cores())
    with _watching(described, given) as observer:
        result = trial.run(described, machine, observer, labels, dataset)
    show(json.dumps({'result': result}) if given.json else _in_a_line(described, machine, result))
    return 0


def _shared_out(machine, ranks):
    """Returns the machine for one of its processes, with its share of the cores as threads."""
    from chainer_jo.training.machine import asked_threads

    # One thread per core in each rank would oversubscribe the machine.
    threads = machine.threads or asked_threads() or ranks.share_of_cores()
    return replace(machine, threads=threads, ranks=ranks)


def _stop_with_stdin():
    """Makes this process take a snapshot and end when its parent is gone."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    # The signal that users send too, so that there is one way to stop.
    os.kill(os.getpid(), signal.SIGTERM)


def _described(given, labels):
    return config.trial(
        given.method,
        given.dataset,
        given.noise,
        given.rate,
        given.seed,
        given.preset,
        given.overrides,
        given.precision,
        None if labels is None else store.digest(labels),
        given.labels,
    )


def _in_a_line(described, machine, result):
    return f'{described.trial}  {accuracies(result)}  in {machine.folder(described.trial)}'


def _read_labels(given):
    """Returns the data set and the labels ``(N,)`` of ``--labels``; ``None`` for both without it.

    Tells the user how the file was interpreted.
    """
    # Both directions: labels with a noise that would ignore them are a mistake too.
    if (given.noise == 'file') != bool(given.labels):
        raise ConfigError(
            '--noise file needs --labels FILE, and --labels needs --noise file',
            seen=f'--noise {given.noise}, --labels {given.labels}',
            fix='give both or neither',
        )
    if not given.labels:
        return None, None
    from chainer_jo.datasets import label_files

    # Loaded for its size and classes, and passed on, so that it is read only once.
    dataset = datasets.load(given.dataset, given.data, warn=say)
    read = label_files.read_labels(given.labels, len(dataset.train), dataset.classes)
    true = dataset.train.true_labels
    share = '' if true is None else f'; {100 * (read.labels != true).mean():.1f} % are wrong'
    say(f'labels: {read.understood}{share}')
    if true is not None and (warning := label_files.doubt(read.labels, true, len(dataset.classes))):
        say(f'warning: {warning}')
    return dataset, read.labels


@contextlib.contextmanager
def _watching(described, given):
    """Yields the Observer that reports progress to the user or to another program."""
    from chainer_jo.training.trial import Observer

    # Only rank 0 reports: all ranks have the same log.
    if processes.present().rank:
        yield Observer()
        return
    if given.json:
        # A sweep reads these lines, so everything else goes to stderr. With --while-stdin-is-open a
        # broken pipe is ignored: the parent is gone, and the trial ends after a snapshot.
        lines = JsonLines(needs_reader=not given.while_stdin_is_open)
        warn = lines.warn if given.while_stdin_is_open else say
        yield Observer(lines.start, lines.epoch, warn, lines.begin, lines.step)
        return
    progress = TrialProgress()
    with progress.shown():
        watched = progress.of(described.trial)
        yield Observer(
            watched.start,
            watched.epoch,
            progress.say,
            watched.begin,
            watched.step,
            progress.download,
        )
