"""The options that several commands share, and their types."""

import argparse
import contextlib
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
    """Adds the options of data, weights, device and backend, for ``doctor``, ``run``, ``train``."""
    add_data(parser)
    parser.add_argument(
        '--weights',
        type=path_as_text,
        metavar='FILE',
        help='ImageNet weights of ResNet-50 for clothing1m: .pth or .safetensors from torchvision '
        'or timm, or the npz of chainer.links.ResNet50Layers',
    )
    add_device(parser)
    add_backend(parser)


def add_device(parser):
    """Adds ``--device``."""
    parser.add_argument(
        '--device', type=device, default='auto', help='auto | cpu | cuda:N (default: auto)'
    )


def add_backend(parser):
    """Adds ``--backend``."""
    parser.add_argument(
        '--backend',
        default='auto',
        choices=('auto', 'chainer'),
        help="auto: the fastest available; chainer: Chainer's own functions, the reference",
    )


def add_training(parser, share):
    """Adds the other machine options of commands that train.

    Args:
        parser (argparse.ArgumentParser): The parser of the command.
        share (bool): Default of ``--share``; ``None`` for a command without this option.
    """
    if share is not None:
        parser.add_argument(
            '--share',
            action=argparse.BooleanOptionalAction,
            default=share,
            help='train a first stage that several trials have in common only once; results stay '
            f'the same (default: {"yes" if share else "no"})',
        )
    parser.add_argument(
        '--threads',
        type=positive,
        metavar='N',
        help='threads of a new trial, which keeps this number to its end (default: '
        'OMP_NUM_THREADS; else run: one on a CPU, others: one per core)',
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
        help='also write the columns of log.jsonl for TensorBoard, in tensorboard/ of each trial',
    )
    parser.add_argument(
        '--no-graph',
        action='store_true',
        help='launch every kernel of a step separately; by default steps on a GPU are captured as '
        'CUDA graphs',
    )


def add_table(parser, everything=False):
    """Adds ``TABLE``; with ``everything``, ``all`` is allowed too."""
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
        help='results folder (default: results/<preset>; for variants results/<preset>_<table>)',
    )


def add_settings(parser):
    """Adds the options that change what a trial computes."""
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        dest='overrides',
        help='override a setting, such as ours.fine_tune.a=1.0; the result is marked as modified',
    )
    parser.add_argument(
        '--precision',
        type=precision,
        default='float32',
        choices=PRECISIONS,
        help='precision of the activations; float32 may use TF32 on a GPU, strict_float32 may not; '
        'bfloat16 (or bf16) is for processors that support it, float16 (or fp16) for GPUs',
    )


def processes(text):
    """Argument type of ``--processes``: ``'auto'`` or an integer from 1."""
    return text if text == 'auto' else positive(text)


def add_json(parser, text='print JSON'):
    """Adds ``--json``."""
    parser.add_argument('--json', action='store_true', help=text)


def positive(text):
    """Argument type: an integer above 0."""
    # Not int(text) alone, which also takes '1_000', ' 1' and '+1'.
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{excerpt(text)} is not a whole number above 0')
    return int(text)


def precision(text):
    """Argument type: a precision, by its name or a short one."""
    return {'bf16': 'bfloat16', 'fp16': 'float16', 'fp32': 'float32'}.get(text, text)


def device(text):
    """Argument type: the name of a device. Whether the device exists is checked later."""
    if not re.fullmatch(r'auto|cpu|cuda:[0-9]+', text):
        raise argparse.ArgumentTypeError(f'{excerpt(text)} is not auto, cpu or cuda:N')
    return text


def seconds(text):
    """Argument type: a time in seconds, 0 or more."""
    # NaN fails this comparison too; argparse reports the ValueError of other text.
    if not 0 <= float(text) < float('inf'):
        raise argparse.ArgumentTypeError(f'{excerpt(text)} is not a time in seconds')
    return float(text)


def fraction(text):
    """Argument type: a fraction from 0 to 1."""
    with contextlib.suppress(ValueError):
        # NaN fails this comparison.
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f'{excerpt(text)} is not a fraction from 0 to 1')


def rate(text):
    """Argument type: a noise rate. Whether it is a fraction is checked later."""
    try:
        return float(text)
    except ValueError:
        percent = re.fullmatch(r'([0-9.]+) *%', text)
        hint = f'write {float(percent[1]) / 100:g}' if percent else 'write for example 0.7 for 70 %'
    raise argparse.ArgumentTypeError(f'{excerpt(text)} is not a fraction; {hint}')


def listed(kind):
    """Returns the argument type of a comma-separated list of ``kind``."""

    def parse(text):
        try:
            return [kind(word.strip()) for word in text.split(',')]
        # argparse would show the name of this function, and not what is wrong.
        except ValueError as error:
            raise argparse.ArgumentTypeError(excerpt(error)) from None

    return parse


def path(text):
    """Argument type: a path. Expands ``~``, which a shell leaves alone in ``--out=~/x``."""
    if not text:
        # Path('') is the current folder, which --out "$FOLDER" with FOLDER unset does not mean.
        raise argparse.ArgumentTypeError('the name is empty')
    try:
        # Not resolved, so that messages show the path as it was typed.
        return Path(text).expanduser()
    except RuntimeError:
        user = excerpt(text.partition('/')[0])
        raise argparse.ArgumentTypeError(f'there is no home folder for {user}') from None


def path_as_text(text):
    """Argument type: a path as text, with an optional ``:KEY`` at its end."""
    return str(path(text))


def out_folder(options, table=None):
    """Returns ``--out``, or the folder of the preset and the table. It need not exist.

    Args:
        options (argparse.Namespace): The options of the command.
        table (str): The table, if the command has several; that in the options by default.

    Raises:
        ConfigError: There is no such preset.
        WriteError: The folder is impossible: its name is too long, or access is denied.
    """
    if options.preset not in paper.PRESETS:
        raise paper.unknown('preset', options.preset, paper.PRESETS)
    named = paper.folder(table or getattr(options, 'table', None), options.preset)
    out = options.out or Path('results') / named
    try:
        # A file inside `runs`, because only looking into a folder tells that it may not be entered.
        (out / 'runs' / 'any').exists()
    except OSError as error:
        raise WriteError(
            f'cannot use the folder {excerpt(out)}',
            seen=error.strerror,
            fix='choose another folder with --out',
        ) from None
    return out


def choose_device(options):
    """Returns Chainer's name of the device, after checking that it supports the precision.

    Tells the user if the fast backend is not available.
    """
    # Imported here, so that --help does not wait for Chainer.
    from chainer_jo import backends
    from chainer_jo.training import device

    chosen = device.choose(options.device, options.backend)
    backends.check_precision(options.precision, backends.name_on(chosen))
    # A run without the fast backend works, but may take many times as long.
    if options.backend == 'auto' and not backends.is_fast(chosen):
        say(f'on the {"CPU" if chosen == "@numpy" else "GPU"}: {backends.describe(chosen)}')
    return chosen


def warn_of_settings(overrides, configs):
    """Warns of settings that do nothing.

    Args:
        overrides (list of str): Values of ``--set``.
        configs (list of TrialConfig): The trials of the command.
    """
    trained = {config.method for config in configs}
    for override in overrides:
        method = override.partition('.')[0].strip()
        if method in paper.methods() and method not in trained:
            say(f'warning: --set {excerpt(override)} does nothing, because {method} is not trained')
    for method, stages in {config.method: config.stages for config in configs}.items():
        correct = stages.get('correct', {})
        if correct.get('begin', 0) > correct.get('epochs', 0):
            say(
                f'warning: {method} corrects no labels: it would begin after epoch '
                f'{correct["begin"]} of {correct["epochs"]}'
            )


def warn_of_threads(jobs, threads, cores):
    """Warns if there are more threads than cores.

    Args:
        jobs (int): Trials side by side.
        threads (int): Threads of each.
        cores (int): Processor cores that this process may use.
    """
    if threads * jobs > cores:
        # OpenMP threads busy-wait, so one thread too many may cost a factor of thirty.
        count = f'{jobs} trials of {threads} threads' if jobs > 1 else f'{threads} threads'
        say(
            f'warning: {count} on {cores} cores wait for each other, which is slow; '
            f'choose --threads {max(1, cores // jobs)}' + (' or fewer --jobs' if jobs > 1 else '')
        )
