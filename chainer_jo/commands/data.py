"""``data verify``: one pass over a data set that is too large to be checked at every load."""

from chainer_jo import datasets
from chainer_jo.commands import options
from chainer_jo.console import counting, say, show, show_json


def add(command):
    """Adds the command; ``command(name, function, text)`` returns a new parser."""
    parser = command(
        'data', _data, 'verifies a large data set once; training starts from its index'
    )
    parser.add_argument('action', choices=['verify'], help='reads every file and writes the index')
    parser.add_argument('name', metavar='NAME', help='clothing1m')
    parser.add_argument(
        '--data', required=True, type=options.path, help='folder of the data, which is only read'
    )
    parser.add_argument(
        '--index',
        type=options.path,
        metavar='FILE',
        help="path of the index, which train takes as --data (default: in the user's cache)",
    )
    parser.add_argument(
        '--resize',
        type=options.positive,
        default=256,
        metavar='PIXELS',
        help='height and width of an image after scaling (default: 256)',
    )
    parser.add_argument(
        '--crop',
        type=options.positive,
        default=224,
        metavar='PIXELS',
        help="height and width of the net's input (default: 224)",
    )
    parser.add_argument(
        '--limit',
        type=options.fraction,
        default=0.01,
        help='largest fraction of unusable images with which training starts (default: 0.01)',
    )
    parser.add_argument(
        '--leave-out-test',
        action='store_true',
        help='do not train on images that are also in the clean test set, by name or by content',
    )
    parser.add_argument(
        '--decoder',
        choices=('pillow', 'turbojpeg'),
        default='pillow',
        metavar='NAME',
        help='decoder for training: pillow, or turbojpeg, which is nearly twice as fast, equal '
        'within two of 255 levels, and needs pip install ".[turbojpeg]" (default: pillow)',
    )
    options.add_json(parser)


def _data(given):
    from chainer_jo.training.read_ahead import read_ahead

    with counting('verified') as count:
        facts = datasets.verify(
            given.name,
            given.data,
            read_ahead,
            index=given.index,
            size=given.resize,
            crop=given.crop,
            limit=given.limit,
            leave_out_test=given.leave_out_test,
            decoder=given.decoder,
            # The facts of each file are summed up in the index; people see only the count.
            on_file=lambda done, total, found: count(done, total),
            say=say,
        )
    show_json(facts) if given.json else show(datasets.summary(given.name, facts))
    # Raises only now, after everything that explains the error has been printed.
    datasets.check(given.name, facts)
    return 0
