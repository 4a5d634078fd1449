"""The options that several commands share, and what becomes of their words."""

import argparse
import re
from pathlib import Path

from chainer_jo import paper
from chainer_jo.console import say
from chainer_jo.errors import WriteError, excerpt
from chainer_jo.precision import PRECISIONS
from chainer_jo.training.machine import Machine


def machine(options):
    """Returns the :class:`~chainer_jo.training.machine.Machine` of parsed options."""
    return Machine(
        out=out_folder(options),
        data=options.data,
        device=options.device,
        backend=options.backend,
        graph=not options.no_graph,
        snapshot_seconds=options.snapshot_seconds,
        share=options.share,
        threads=options.threads,
        weights=options.weights,
        tensorboard=options.tensorboard,
    )


def add_data(parser):
    """Adds ``--data``."""
    parser.add_argument(
        '--data', type=path_as_text, help='the data set: its archive, or a folder with it'
    )


def add_machine(parser):
    """Adds the options that ``doctor``, ``run`` and ``train`` share."""
    add_data(parser)
    parser.add_argument(
        '--weights',
        type=path_as_text,
        metavar='FILE',
        help='ImageNet weights of ResNet-50 for clothing1m: .pth or .safetensors of torchvision or '
        'timm, or the npz of chainer.links.ResNet50Layers',
    )
    add_device(parser)
    parser.add_argument(
        '--backend',
        default='auto',
        choices=('auto', 'chainer'),
        help="auto: the fastest there is; chainer: Chainer's own functions, the reference",
    )


def add_device(parser):
    """Adds ``--device``."""
    parser.add_argument(
        '--device', type=device, default='auto', help='auto | cpu | cuda:N (default: auto)'
    )


def add_training(parser, share):
    """Adds what else belongs to the machine of ``run`` and ``train``.

    Args:
        share (bool): Whether trials share a first stage unless one says; ``None`` where there is
            one trial.
    """
    if share is not None:
        parser.add_argument(
            '--share',
            action=argparse.BooleanOptionalAction,
            default=share,
            help='whether a first stage that is the same for several trials is trained once, with '
            f'the same result (default: {"yes" if share else "no"})',
        )
    parser.add_argument(
        '--threads',
        type=positive,
        metavar='N',
        help='threads of a trial that begins; it keeps them to its end (default: OMP_NUM_THREADS, '
        'or else run: one on a CPU, train: one a core)',
    )
    parser.add_argument(
        '--snapshot-seconds',
        type=seconds,
        default=60.0,
        metavar='S',
        help='least time between two snapshots of a trial (default: 60)',
    )
    parser.add_argument(
        '--tensorboard',
        action='store_true',
        help='write the columns of log.jsonl for TensorBoard, too, into tensorboard/ of each trial',
    )
    parser.add_argument(
        '--no-graph',
        action='store_true',
        help='launch every kernel of a step by itself; on a GPU steps are captured as CUDA graphs',
    )


def add_table(parser, everything=False):
    """Adds ``TABLE``; with ``everything`` it may be ``all``."""
    names = paper.tables() + (('all',) if everything else ())
    parser.add_argument('table', metavar='TABLE', help=' | '.join(names))


def add_out(parser):
    """Adds ``--preset`` and ``--out``; see :func:`out_folder`."""
    parser.add_argument(
        '--preset', default='paper', help=f'{" | ".join(paper.PRESETS)} (default: paper)'
    )
    parser.add_argument(
        '--out',
        type=path,
        help='folder of results (default: results/<preset>, or <preset>_<table> of variants)',
    )


def add_settings(parser):
    """Adds the options that change what a trial computes."""
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        dest='overrides',
        help='override a setting, such as ours.fine_tune.a=1.0; marks the result as modified',
    )
    parser.add_argument(
        '--precision',
        type=precision,
        default='float32',
        choices=PRECISIONS,
        help='of the activations; float32 may use TF32 on a GPU, strict_float32 may not; '
        'bfloat16 (or bf16) is for processors that have it, float16 (or fp16) for GPUs',
    )


def processes(text):
    """Type of ``--processes``: ``'auto'`` or a number from 1."""
    return text if text == 'auto' else positive(text)


def add_json(parser, text='print JSON'):
    """Adds ``--json``."""
    parser.add_argument('--json', action='store_true', help=text)


def positive(text):
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{excerpt(text)} is not a whole number above 0')
    return int(text)


def precision(text):
    """A precision by its own name or a short one."""
    return {'bf16': 'bfloat16', 'fp16': 'float16', 'fp32': 'float32'}.get(text, text)


def device(text):
    """A device by its name; whether it is there is another question."""
    if not re.fullmatch(r'auto|cpu|cuda:[0-9]+', text):
        raise argparse.ArgumentTypeError(f'{excerpt(text)} is not auto, cpu or cuda:N')
    return text


def seconds(text):
    """A time in seconds, from 0."""
    if not 0 <= float(text) < float('inf'):
        raise argparse.ArgumentTypeError(f'{excerpt(text)} is not a time in seconds')
    return float(text)


def listed(kind):
    """Returns the type of ``kind``s with commas between them."""

    def parse(text):
        try:
            return [kind(word) for word in text.split(',')]
        except ValueError as error:
            raise argparse.ArgumentTypeError(excerpt(error)) from None

    return parse


def path(text):
    """A path; a ``~`` is a home folder, which a shell does not see in ``--out=~/x``."""
    if not text:
        # An empty word, as from --out "$FOLDER" with FOLDER unset, does not mean the current
        # folder.
        raise argparse.ArgumentTypeError('the name is empty')
    try:
        # Not resolved, so that messages show the path as it was typed.
        return Path(text).expanduser()
    except RuntimeError:
        user = excerpt(text.partition('/')[0])
        raise argparse.ArgumentTypeError(f'there is no home folder for {user}') from None


def path_as_text(text):
    """A path as text, perhaps with a ``:KEY`` behind it."""
    return str(path(text))


def out_folder(options):
    """Returns ``--out``, or the folder of the preset, which need not be there yet.

    Raises:
        ConfigError: There is no such preset.
        WriteError: No folder can be there: a name too long, a place that one may not enter.
    """
    if options.preset not in paper.PRESETS:
        raise paper.unknown('preset', options.preset, paper.PRESETS)
    named = paper.folder(getattr(options, 'table', None), options.preset)
    out = options.out or Path('results') / named
    try:
        out.exists()
    except OSError as error:
        raise WriteError(
            f'cannot work in {excerpt(out)}',
            seen=error.strerror,
            fix='choose another folder with --out',
        ) from None
    return out


def choose_device(options):
    """Returns Chainer's name of the device after checking that it can do what is asked for.

    Says so where the fast backend cannot be had.
    """
    from chainer_jo import backends
    from chainer_jo.training import device

    chosen = device.choose(options.device, options.backend)
    backends.check_precision(options.precision, backends.name_on(chosen))
    if options.backend == 'auto' and not backends.is_fast(chosen):
        say(f'on the {"CPU" if chosen == "@numpy" else "GPU"}: {backends.describe(chosen)}')
    return chosen


def warn_of_threads(jobs, threads, cores):
    """Warns where more threads are asked for than there are cores to run them.

    Args:
        jobs (int): Trials side by side.
        threads (int): Threads of each.
        cores (int): Processor cores that this process may use.
    """
    if threads * jobs > cores:
        # OpenMP threads busy-wait: one too many may cost a factor of thirty.
        count = f'{jobs} trials of {threads} threads' if jobs > 1 else f'{threads} threads'
        say(
            f'warning: {count} on {cores} cores wait for each other, which is slow; '
            f'choose --threads {max(1, cores // jobs)}' + (' or fewer --jobs' if jobs > 1 else '')
        )
