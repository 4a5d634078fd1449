"""The commands: with ``console`` all that prints for people, and all that exits."""

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from chainer_jo import config, datasets, paper
from chainer_jo.errors import ChainerJoError, ConfigError, DataError, StoppedError

EXIT_CODES = """\
exit codes:
  0  done                          5  diverged
  1  outside tolerance             6  cannot write
  2  usage or configuration        7  out of memory
  3  data missing or damaged       130, 143  stopped after a snapshot
  4  in use by another process
"""
EXAMPLES = """\
examples:
  python -m chainer_jo run table2 --preset quick
  python -m chainer_jo run table2 --data ~/cifar10 --only ours,tanaka --rates 0.7
  python -m chainer_jo train --dataset cifar10 --noise symmetric --rate 0.5 --method ours
"""


def main(arguments=None):
    """Runs one command and exits with its code."""
    options = parser().parse_args(arguments)
    try:
        code = options.command(options)
        sys.stdout.flush()
    except ChainerJoError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        # Training itself notices signals; here nothing was under way that could be saved.
        error = StoppedError(
            signal.SIGINT, seen='nothing was training', fix='run the same command again'
        )
        print(error, file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ConfigError(message, seen=self.prog, fix=f'see {self.prog} --help')

    def parse_args(self, arguments=None, namespace=None):
        try:
            return super().parse_args(arguments, namespace)
        except ConfigError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)


def parser():
    """Returns the parser of every command line; an unusable one exits with code 2."""
    parser = _Parser(
        prog='python -m chainer_jo',
        description='Reproduces "Improved Mix-up with KL-Entropy for Learning From Noisy Labels".',
        epilog=f'{EXAMPLES}\n{EXIT_CODES}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar='COMMAND', required=True)

    def command(name, function, text):
        sub = commands.add_parser(
            name, help=text, description=text, epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(command=function)
        return sub

    doctor = command('doctor', _doctor, 'versions, backend, device and data; what to fix')
    _add_machine(doctor)
    doctor.add_argument('--json', action='store_true', help='print JSON')
    plan = command('plan', _plan, 'the trials of a table, done and to do, and their time')
    _add_table(plan)
    _add_sweep(plan)
    plan.add_argument('--json', action='store_true', help='print JSON')
    run = command('run', _run, "runs a table's trials, or the rest of them, and reports")
    _add_table(run)
    _add_sweep(run)
    _add_machine(run)
    _add_snapshots(run)
    _add_graph(run)
    run.add_argument(
        '--jobs', type=_positive,
        help='trials side by side (default: one a core; on a GPU one)',
    )  # fmt: skip
    train = command('train', _train, 'runs one trial, or the rest of it')
    _add_trial(train)
    _add_machine(train)
    _add_snapshots(train)
    _add_graph(train)
    _add_output(train)
    train.add_argument('--json', action='store_true', help='print a JSON row an epoch')
    report = command('report', _report, 'writes tables, figures and results/README.md')
    _add_table(report, everything=True)
    _add_output(report)
    report.add_argument('--json', action='store_true', help="print the table's rows as JSON")
    diff = command('diff', _diff, 'the difference to the paper; exit 1 outside tolerance')
    _add_table(diff)
    _add_output(diff)
    diff.add_argument('--json', action='store_true', help='print JSON')
    show = command('show', _show, 'one trial: command, settings, result, last epochs')
    show.add_argument('trial', metavar='TRIAL', help='trial id or folder')
    show.add_argument('--json', action='store_true', help='print JSON')
    benchmark = command('benchmark', _benchmark, 'the time of a step, beside other systems')
    _add_benchmark(benchmark)
    methods = command('methods', _methods, 'the methods, or the card of one')
    methods.add_argument('name', nargs='?', metavar='NAME', help='print its card')
    methods.add_argument('--json', action='store_true', help='print JSON')
    return parser


def _positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is not a whole number above 0')
    return int(text)


def _precision(text):
    return {'bf16': 'bfloat16', 'fp16': 'float16', 'fp32': 'float32'}.get(text, text)


def _seconds(text):
    if not 0 <= float(text) < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a time in seconds')
    return float(text)


def _listed(kind):
    def parse(text):
        try:
            return [kind(word) for word in text.split(',')]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _add_table(parser, everything=False):
    names = paper.tables() + (('all',) if everything else ())
    parser.add_argument('table', metavar='TABLE', help=' | '.join(names))


def _add_output(parser):
    parser.add_argument(
        '--preset', default='paper', help=f'{" | ".join(paper.PRESETS)} (default: paper)'
    )
    parser.add_argument(
        '--out', type=Path,
        help='folder of results (default: results/<preset>, or <preset>_ablations)',
    )  # fmt: skip


def _add_sweep(parser):
    _add_output(parser)
    parser.add_argument('--only', type=_listed(str), metavar='METHOD,…', help='methods to run')
    parser.add_argument('--rates', type=_listed(float), metavar='0.5,…', help='noise rates')
    parser.add_argument('--trials', type=_positive, metavar='N', help='trials a cell')
    _add_settings(parser)


def _add_settings(parser):
    parser.add_argument(
        '--set', action='append', default=[], metavar='KEY=VALUE', dest='overrides',
        help='override a setting, such as ours.fine_tune.a=1.0; marks the result as modified',
    )  # fmt: skip
    parser.add_argument(
        '--precision', type=_precision, default='float32', choices=config.PRECISIONS,
        help='of the activations; float32 may use TF32 on a GPU, strict_float32 may not; '
        'bfloat16 (or bf16) is for processors that have it, float16 (or fp16) for GPUs',
    )  # fmt: skip


def _add_machine(parser):
    parser.add_argument('--data', help='the data set: its archive, or a folder with it')
    parser.add_argument('--device', default='auto', help='auto | cpu | cuda:N (default: auto)')
    parser.add_argument(
        '--backend', default='auto', choices=('auto', 'chainer'),
        help="auto: the fastest there is; chainer: Chainer's own functions, the reference",
    )  # fmt: skip


def _add_snapshots(parser):
    parser.add_argument(
        '--snapshot-seconds', type=_seconds, default=60.0, metavar='S',
        help='least time between two snapshots of a trial (default: 60)',
    )  # fmt: skip


def _add_graph(parser):
    parser.add_argument(
        '--no-graph', action='store_true',
        help='launch every kernel of a step by itself; on a GPU steps are captured as CUDA graphs',
    )  # fmt: skip


def _add_trial(parser):
    parser.add_argument('--dataset', required=True, help=' | '.join(datasets.NAMES))
    parser.add_argument('--noise', required=True, help=' | '.join(config.NOISE_KINDS))
    parser.add_argument('--rate', type=float, help='noise rate, a fraction from 0 to 1')
    parser.add_argument('--labels', metavar='FILE[:KEY]', help='noisy labels for --noise file')
    parser.add_argument('--method', required=True, help=' | '.join(paper.methods()))
    parser.add_argument(
        '--seed', type=int, default=0, help='drives every random choice (default: 0)'
    )
    _add_settings(parser)


def _add_benchmark(parser):
    parser.add_argument('--device', default='auto', help='auto | cpu | cuda:N (default: auto)')
    parser.add_argument(
        '--steps', type=_positive, default=12, metavar='N',
        help='steps a system; on a GPU, turns of 50 steps (default: 12)',
    )  # fmt: skip
    parser.add_argument(
        '--jobs', type=_listed(_positive), metavar='1,2,…',
        help='instead: images a second in sum of so many trials side by side on the device',
    )  # fmt: skip
    parser.add_argument(
        '--peer', metavar='PYTHON', help='interpreter that has PyTorch (default: .venv-peer)'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('results/benchmarks'),
        help='folder of the results (default: results/benchmarks)',
    )  # fmt: skip
    parser.add_argument('--json', action='store_true', help='print the rows as JSON')
    parser.add_argument('--worker', metavar='TASK', help=argparse.SUPPRESS)


def _out(options):
    if options.preset not in paper.PRESETS:
        raise paper.unknown('preset', options.preset, paper.PRESETS)
    # In a table's folder the ablations would stand among its rows.
    kind = '_ablations' if getattr(options, 'table', None) == 'ablations' else ''
    return options.out or Path('results') / f'{options.preset}{kind}'


def _dump(value):
    print(json.dumps(value, indent=1, allow_nan=False))


# Chainer takes a second to import, so each command imports what it needs.


def _doctor(options):
    from chainer_jo import doctor
    from chainer_jo.training import device

    findings = doctor.examine(options.device, options.backend, options.data)
    _dump(findings) if options.json else print(doctor.as_text(findings))
    # Refuses what cannot be had, once all that explains it is on the screen.
    device.choose(options.device, options.backend)
    return 0


def _plan(options):
    from chainer_jo.sweep import plan

    cells = plan.cells(_trials(options), _out(options))
    if options.json:
        _dump([cell.as_dict() for cell in cells])
    else:
        print(plan.as_text(cells))
    return 0


def _trials(options):
    from chainer_jo.sweep import plan

    return plan.trials(
        options.table, options.preset, options.only, options.rates, options.trials,
        options.overrides, options.precision,
    )  # fmt: skip


def _run(options):
    from chainer_jo import backends
    from chainer_jo.console import TrialProgress, say
    from chainer_jo.sweep import local, plan
    from chainer_jo.training import device

    chosen = device.choose(options.device, options.backend)
    backends.check_precision(options.precision, backends.name_on(chosen))
    out = _out(options)
    cells = plan.cells(_trials(options), out)
    todo = [cell.config for cell in cells if cell.state != 'done']
    _say_if_slow(options, chosen)
    say(plan.summary(cells))
    progress = TrialProgress(len(cells), len(cells) - len(todo))
    jobs = options.jobs or min(local.default_jobs(chosen), max(1, len(todo)))
    with progress.shown():
        failures = local.LocalSweep(_machine(options), jobs, _forward_to(progress)).run(todo)
    print(_write_report(options.table, options.preset, out).markdown)
    for failure in failures:
        print(failure, file=sys.stderr)
    return failures[0].exit_code if failures else 0


def _machine(options):
    from chainer_jo.training.machine import Machine

    return Machine(
        _out(options), options.data, options.device, options.backend, not options.no_graph,
        options.snapshot_seconds,
    )  # fmt: skip


def _forward_to(progress):
    def on_line(trial, line):
        if 'start' in line:
            progress.start(trial.trial, trial.epochs, line['start'])
        elif 'result' in line:
            progress.finish(trial.trial, line['result'])
        else:
            progress.epoch(trial.trial, line)

    return on_line


def _train(options):
    from chainer_jo import backends
    from chainer_jo.console import figures
    from chainer_jo.training import device, trial

    dataset, labels_digest, labels = _read_labels(options)
    described = config.trial(
        options.method, options.dataset, options.noise, options.rate, options.seed,
        options.preset, options.overrides, options.precision, labels_digest,
    )  # fmt: skip
    chosen = device.choose(options.device, options.backend)
    backends.check_precision(options.precision, backends.name_on(chosen))
    _say_if_slow(options, chosen)
    out = _out(options)
    with _watching(described, options.json) as observer:
        result = trial.run(described, _machine(options), observer, labels, dataset)
    if options.json:
        print(json.dumps({'result': result}))
    else:
        print(f'{described.trial}  {figures(result)}  in {out / "runs" / described.trial}')
    return 0


def _say_if_slow(options, device):
    from chainer_jo import backends
    from chainer_jo.console import say

    if options.backend == 'auto' and backends.name_on(device) == 'chainer':
        place = 'CPU' if device == '@numpy' else 'GPU'
        say(f'on the {place}: {backends.describe(device)}')


def _read_labels(options):
    if (options.noise == 'file') != bool(options.labels):
        raise ConfigError(
            '--noise file and --labels FILE belong together',
            seen=f'--noise {options.noise}, --labels {options.labels}',
            fix='give both, or neither',
        )
    if not options.labels:
        return None, None, None
    from chainer_jo import store
    from chainer_jo.datasets.label_files import read_labels

    path, _, key = options.labels.partition(':')
    dataset = datasets.load(options.dataset, options.data)
    labels = read_labels(path, len(dataset.train), len(dataset.classes), key or None)
    return dataset, store.digest(labels), labels


@contextlib.contextmanager
def _watching(described, as_json):
    from chainer_jo.console import TrialProgress, say
    from chainer_jo.training.trial import Observer

    def printed(line):
        print(json.dumps(line), flush=True)

    if as_json:
        yield Observer(lambda epochs, rows: printed({'start': rows}), printed, say)
        return
    progress, name = TrialProgress(), described.trial
    with progress.shown():
        yield Observer(
            lambda epochs, rows: progress.start(name, epochs, rows),
            lambda row: progress.epoch(name, row),
            say,
            download=progress.download,
        )


def _write_report(table, preset, out):
    from chainer_jo.report import publish

    report = publish.write(table, preset, out)
    if out.parent.name == 'results':
        publish.write_readme(out.parent)
    _complain_of(report.unreadable)
    return report


def _complain_of(unreadable):
    for file in unreadable:
        print(f'unreadable: {file["path"]}: {file["problem"]}', file=sys.stderr)


def _report(options):
    tables = paper.tables() if options.table == 'all' else [options.table]
    out = _out(options)
    reports = [_write_report(table, options.preset, out) for table in tables]
    if options.json:
        _dump([row for report in reports for row in report.rows])
    else:
        print('\n'.join(report.markdown for report in reports))
    return DataError.exit_code if any(report.unreadable for report in reports) else 0


def _diff(options):
    from chainer_jo.report import difference, publish

    report = publish.read(options.table, options.preset, _out(options))
    _complain_of(report.unreadable)
    differences = difference.differences(report.grid, report.rows)
    if options.json:
        _dump(differences)
    else:
        print(difference.to_markdown(report.grid, differences))
    if report.unreadable:
        return DataError.exit_code
    return int(difference.outside(differences))


def _show(options):
    from chainer_jo.report import publish, show

    folder = Path(options.trial)
    if len(folder.parts) == 1:
        found = sorted(Path('results').glob(f'*/runs/{options.trial}'))
        folder = found[0] if found else Path('results/paper/runs') / options.trial
    shown = show.show(folder.parent.parent, folder.name, publish.command)
    _dump(shown) if options.json else print(show.to_text(shown))
    return 0


def _benchmark(options):
    if options.worker:
        from chainer_jo.benchmark import worker

        for answer in worker.serve(json.loads(options.worker), sys.stdin):
            print(json.dumps(answer), flush=True)
        return 0
    from chainer_jo.benchmark import compare, page, side_by_side
    from chainer_jo.console import say

    if options.jobs:
        report = side_by_side.run(options.device, options.jobs, options.steps, options.out, say)
        text = side_by_side.to_markdown(report)
    else:
        report = compare.run(options.device, options.steps, options.peer, options.out, say)
        text = page.to_markdown(report)
    _dump(report['rows']) if options.json else print(text)
    return 0


def _methods(options):
    from chainer_jo import methods

    titles = paper.methods()
    if options.name:
        print(methods.card(options.name))
    elif options.json:
        _dump([{'name': name, 'title': title} for name, title in titles.items()])
    else:
        print('\n'.join(f'{name:20} {title}' for name, title in titles.items()))
    return 0
