"""``benchmark``: the time of a training step, compared with other systems."""

import argparse
import json
import sys
from pathlib import Path

from chainer_jo import store
from chainer_jo.commands import options
from chainer_jo.console import say, show, show_json


def add(command):
    """Adds the command; ``command(name, function, text)`` returns a new parser."""
    parser = command(
        'benchmark', _benchmark, 'the time of a training step, compared with other systems'
    )
    options.add_device(parser)
    parser.add_argument(
        '--steps',
        type=options.positive,
        default=12,
        metavar='N',
        help='steps per system; on a GPU, rounds of 50 steps (default: 12)',
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        '--net',
        choices=('preact_resnet', 'resnet50'),
        default='preact_resnet',
        metavar='NET',
        help='preact_resnet: CIFAR-10 in mini-batches of 128; resnet50: Clothing1M in mini-batches '
        'of 32 at 224 x 224 (default: preact_resnet)',
    )
    kind.add_argument(
        '--jobs',
        type=options.listed(options.positive),
        metavar='1,2,…',
        help='instead: total images per second of that many trials side by side on the device',
    )
    kind.add_argument(
        '--decoding',
        type=options.path,
        metavar='DIR',
        help='instead: how fast its JPEG files are read, compared with plain decoding by Pillow, '
        'and whether reading keeps up with training',
    )
    kind.add_argument(
        '--neighbour',
        action='store_true',
        help='instead: a step on the CPU alone and next to a busy process, with one thread and '
        'with one per core',
    )
    parser.add_argument(
        '--peer', metavar='PYTHON', help='Python interpreter with PyTorch (default: .venv-peer)'
    )
    parser.add_argument(
        '--out',
        type=options.path,
        default=Path('results/benchmarks'),
        help='folder of the results (default: results/benchmarks)',
    )
    options.add_json(parser, 'print the rows as JSON')
    # Hidden: the benchmark starts a process with it for each system.
    parser.add_argument('--worker', metavar='TASK', help=argparse.SUPPRESS)


def _benchmark(given):
    if given.worker:
        return _serve(json.loads(given.worker))
    from chainer_jo.benchmark import compare, decoding, neighbour, page, side_by_side, workload

    # Made first: otherwise minutes of measuring could end in a result that cannot be saved.
    store.make_folder(given.out)
    if given.decoding:
        report = decoding.run(given.decoding, given.device, given.steps, given.out, say)
        text = decoding.to_markdown(report)
    elif given.neighbour:
        report = neighbour.run(given.steps, given.peer, given.out, say)
        text = neighbour.to_markdown(report)
    elif given.jobs:
        report = side_by_side.run(given.device, given.jobs, given.steps, given.out, say)
        text = side_by_side.to_markdown(report)
    else:
        create = {'preact_resnet': workload.papers, 'resnet50': workload.resnet50}[given.net]
        report = compare.run(given.device, given.steps, given.peer, given.out, say, create)
        text = page.to_markdown(report)
    show_json(report['rows']) if given.json else show(text)
    return 0


def _serve(task):
    from chainer_jo.benchmark import worker

    # Commands come one by one on stdin, so that the compared systems can take turns.
    for answer in worker.serve(task, sys.stdin):
        show(json.dumps(answer))
    return 0
