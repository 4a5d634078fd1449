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
    parser = command('train', run, 'runs one trial, or the rest of it')
    parser.add_argument('--dataset', required=True, help=' | '.join(datasets.NAMES))
    parser.add_argument('--noise', required=True, help=' | '.join(config.NOISE_KINDS))
    parser.add_argument('--rate', type=float, help='noise rate, a fraction from 0 to 1')
    parser.add_argument(
        '--labels',
        type=options.path_as_text,
        metavar='FILE[:KEY]',
        help='noisy labels for --noise file: NumPy, CSV, JSON, torch or a label a line',
    )
    parser.add_argument('--method', required=True, help=' | '.join(paper.methods()))
    parser.add_argument(
        '--seed', type=int, default=0, help='drives every random choice (default: 0)'
    )
    options.add_settings(parser)
    options.add_machine(parser)
    options.add_training(parser, share=False)
    options.add_out(parser)
    options.add_json(parser, 'print a JSON row an epoch')
    # For whatever started this trial: when a process ends, however it ends, its pipes close.
    parser.add_argument('--while-stdin-is-open', action='store_true', help=argparse.SUPPRESS)


def run(given):
    """Trains what the options say, alone or as one of several processes."""
    from chainer_jo.sweep import local
    from chainer_jo.training import trial
    from chainer_jo.training.machine import threads

    ranks = processes.present()
    # Only the first rank has a stdin.
    if given.while_stdin_is_open and ranks.rank == 0:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    machine = options.machine(given)
    dataset, labels = _read_labels(given)
    described = _described(given, labels)
    device = options.choose_device(given)
    if ranks.size > 1:
        machine = _shared_out(machine, ranks)
    elif device == '@numpy':
        options.warn_of_threads(1, machine.threads or threads(), local.cores())
    with _watching(described, given) as observer:
        result = trial.run(described, machine, observer, labels, dataset)
    show(json.dumps({'result': result}) if given.json else _in_a_line(described, machine, result))
    return 0


def _shared_out(machine, ranks):
    """Returns the machine as one of its processes has it: the cores are divided."""
    from chainer_jo.training.machine import asked_threads

    threads = machine.threads or asked_threads() or ranks.share_of_cores()
    return replace(machine, threads=threads, ranks=ranks)


def _stop_with_stdin():
    """Takes a snapshot and ends when the process that started this one is gone."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
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
    folder = machine.out / 'runs' / described.trial
    return f'{described.trial}  {accuracies(result)}  in {folder}'


def _read_labels(given):
    """Returns the data set and the labels ``(N,)`` that a file brings, or ``None`` for both.

    Says how the file was understood.
    """
    # Both directions: labels given with a noise that would ignore them are a mistake too.
    if (given.noise == 'file') != bool(given.labels):
        raise ConfigError(
            '--noise file and --labels FILE belong together',
            seen=f'--noise {given.noise}, --labels {given.labels}',
            fix='give both, or neither',
        )
    if not given.labels:
        return None, None
    from chainer_jo.datasets import label_files

    # Loaded here for its size and classes, and passed on, so that a trial reads it only once.
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
    """Yields the Observer that shows people, or another program, how a trial gets on."""
    from chainer_jo.training.trial import Observer

    if processes.present().rank:
        yield Observer()
        return
    if given.json:
        # A sweep reads these lines, so everything else goes to stderr. A broken pipe means that the
        # parent is gone: the trial ends after a snapshot.
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
