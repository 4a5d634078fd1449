"""``benchmark``: the time of a step, beside other systems."""

import argparse
import json
import sys
from pathlib import Path

from chainer_jo import store
from chainer_jo.commands import options
from chainer_jo.console import say, show, show_json


def add(command):
    """Adds the command; ``command(name, function, text)`` returns a new parser."""
    parser = command('benchmark', _benchmark, 'the time of a step, beside other systems')
    options.add_device(parser)
    parser.add_argument(
        '--steps',
        type=options.positive,
        default=12,
        metavar='N',
        help='steps a system; on a GPU, turns of 50 steps (default: 12)',
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        '--net',
        choices=('preact_resnet', 'resnet50'),
        default='preact_resnet',
        metavar='NET',
        help='preact_resnet, for CIFAR-10 in mini-batches of 128, or resnet50, for Clothing1M in '
        'those of 32 at 224 x 224 (default: preact_resnet)',
    )
    kind.add_argument(
        '--jobs',
        type=options.listed(options.positive),
        metavar='1,2,…',
        help='instead: images a second in sum of so many trials side by side on the device',
    )
    kind.add_argument(
        '--decoding',
        type=options.path,
        metavar='DIR',
        help="instead: how fast its JPEG files are read, beside Pillow's bare decoding, and "
        'whether they are while the net trains',
    )
    kind.add_argument(
        '--neighbour',
        action='store_true',
        help='instead: a step on the CPU alone and beside a busy process, with one thread and with '
        'one a core',
    )
    parser.add_argument(
        '--peer', metavar='PYTHON', help='interpreter that has PyTorch (default: .venv-peer)'
    )
    parser.add_argument(
        '--out',
        type=options.path,
        default=Path('results/benchmarks'),
        help='folder of the results (default: results/benchmarks)',
    )
    options.add_json(parser, 'print the rows as JSON')
    # What the benchmark starts for each system.
    parser.add_argument('--worker', metavar='TASK', help=argparse.SUPPRESS)


def _benchmark(given):
    if given.worker:
        return _serve(json.loads(given.worker))
    from chainer_jo.benchmark import compare, decoding, neighbour, page, side_by_side, workload

    # Checked first: otherwise minutes of measuring could end in a result that cannot be saved.
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

    for answer in worker.serve(task, sys.stdin):
        show(json.dumps(answer))
    return 0
