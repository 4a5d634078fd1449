"""``plan`` and ``run``: shows or runs the trials of a table."""

import json

from chainer_jo.commands import options
from chainer_jo.console import TrialProgress, forward, say, show, show_json
from chainer_jo.errors import ChainerJoError, ConfigError, DataError
from chainer_jo.training import mpiexec, processes

RUN = """.

The same command resumes stopped trials, and several such commands share the work. A trial whose
process is killed is retried twice, and one that runs out of memory once, after the others. Other
failures would occur again and are not retried. The run continues after a failure, and ends with a
list of failures and their reasons. On a cluster, a failed trial is retried on other workers."""
PLAN = (
    'the trials of a table: done, running, failed (with the reason) and to do; time and disk space'
)


def add(command):
    """Adds the commands; ``command(name, function, text)`` returns a new parser."""
    plan = command('plan', _plan, PLAN)
    _add_sweep(plan)
    options.add_data(plan)
    plan.add_argument(
        '--device',
        type=options.device,
        default='auto',
        help='device whose measured times are used: cpu | cuda:N | auto, a GPU if one was measured '
        '(default: auto)',
    )
    plan.add_argument(
        '--threads',
        type=options.positive,
        metavar='N',
        help='use times measured with this number of threads on a CPU (default: that of run)',
    )
    options.add_json(plan)
    run = command('run', _run, 'trains the remaining trials of a table and reports')
    run.description += RUN
    _add_sweep(run)
    options.add_machine(run)
    options.add_training(run, share=True)
    run.add_argument(
        '--jobs',
        type=options.positive,
        help='trials side by side (default: as many as the cores allow; one on a GPU)',
    )
    run.add_argument(
        '--processes',
        type=options.processes,
        default=1,
        metavar='N',
        help='processes of each trial, started by mpiexec; auto: one per GPU of this machine '
        '(default: 1)',
    )
    run.add_argument(
        '--scheduler',
        metavar='ADDRESS',
        help='train on the Dask cluster of this scheduler, such as tcp://node1:8786; data and '
        'results must have the same paths on all its machines',
    )


def _add_sweep(parser):
    options.add_table(parser)
    options.add_out(parser)
    listed = options.listed
    parser.add_argument('--only', type=listed(str), metavar='METHOD,…', help='methods to run')
    parser.add_argument('--rates', type=listed(options.rate), metavar='0.5,…', help='noise rates')
    parser.add_argument('--trials', type=options.positive, metavar='N', help='trials per cell')
    parser.add_argument(
        '--labels',
        type=options.path_as_text,
        metavar='FILE[:SET]',
        help='for table human: the file with its label sets; SET selects one (default: '
        'CIFAR-10_human.pt in the folder of the data)',
    )
    options.add_settings(parser)


def _overview(given, configs, **how):
    from chainer_jo.sweep import local, overview

    # The number of a run on a CPU: looking for a GPU that works would take seconds.
    threads = given.threads or local.default_threads('@numpy')
    return overview.Overview(configs, options.out_folder(given), given.device, threads, **how)


def _configs(given):
    from chainer_jo.sweep import label_sets, plan

    return plan.trials(
        given.table,
        given.preset,
        given.only,
        given.rates,
        given.trials,
        given.overrides,
        given.precision,
        label_sets.read(given.table, given.preset, given.labels, given.data),
    )


def _plan(given):
    seen = _overview(given, _configs(given))
    if given.json:
        show_json([trial.as_dict() for trial in seen.trials])
    else:
        show(seen.as_text())
    return _complain_of(seen.trials)


def _complain_of(trials):
    """Lists finished trials that have been altered; returns 3 if there are any, else 0."""
    damaged = [trial for trial in trials if trial.state == 'damaged']
    for trial in damaged:
        say(f'unreadable: {trial.config.trial}: {trial.detail}')
    return DataError.exit_code if damaged else 0


def _run(given):
    # Imported here, as in all commands: importing Chainer takes a second, and --help should not
    # wait.
    from chainer_jo import datasets
    from chainer_jo.commands import report
    from chainer_jo.training import nets, shared_stage

    machine = options.machine(given)
    # Before looking for the device, which takes seconds: a typing mistake is reported at once.
    configs = _configs(given)
    options.warn_of_settings(given.overrides, configs)
    size = _processes(given, configs)
    how = {'backend': given.backend, 'processes': size, 'share': given.share}
    seen = _overview(given, configs, **how)
    trials = seen.trials
    todo = [trial.config for trial in trials if trial.state != 'done']
    # On a cluster the workers choose their device; this machine may have none.
    device = None if given.scheduler else options.choose_device(given)
    progress = TrialProgress(len(trials), len(trials) - len(todo), seen.work_left())
    # Loaded only to check: a fault in the data is reported once here, and not by every trial. What
    # finished trials were made from is checked too, unless the data would have to be looked for.
    named = {c.dataset for c in configs if machine.data or datasets.is_embedded(c.dataset)}
    data = {
        name: datasets.load(name, machine.data, progress.download).digest
        for name in named | {config.dataset for config in todo}
    }
    # As JSON, because a dict cannot be a key: weights are checked once per kind of net.
    for net in {json.dumps(config.net): config.net for config in todo}.values():
        nets.weights(net, machine.weights)
    _check_done(trials, data, machine)
    if given.scheduler:
        sweep = _on_cluster(given, machine, data, progress)
    else:
        sweep = _here(given, machine, device, todo, progress, size)
    # After all checks, and before the bars.
    say(seen.summary())
    with progress.shown():
        failures = sweep.run(todo)
    # Until then they stay, for the rest of the table, and for trials that failed.
    if not failures and _is_whole(given):
        shared_stage.remove_all(machine.out)
    code = report.show_table(given.table, given.preset, machine.out)
    if failures:
        # After the report, so that finished trials are shown in any case.
        say(str(_in_sum(failures, len(todo))))
    return failures[0].exit_code if failures else code


def _is_whole(given):
    """Returns whether a table was run without a choice among its trials, and nothing else runs."""
    if given.only or given.rates or given.trials or given.labels:
        return False
    trials = (options.out_folder(given) / 'runs').glob('*')
    return all((trial / 'result.json').exists() for trial in trials)


def _check_done(trials, data, machine):
    """Raises ConfigError if a finished trial is from other data or weights, as ``train`` does."""
    from chainer_jo.links import pretrained
    from chainer_jo.training import finished

    weights = pretrained.read(machine.weights).digest if machine.weights else None
    for trial in (trial for trial in trials if trial.state == 'done'):
        present = {'data': data.get(trial.config.dataset), 'weights': weights}
        finished.check_origin(machine.folder(trial.config.trial), trial.made_from, present)


def _in_sum(failures, count):
    """Returns one error for all failed trials; the full error of each was shown when it failed."""
    return ChainerJoError(
        f'{len(failures)} of {count} trials failed',
        seen='\n        '.join(failure.in_a_line for failure in failures),
        fix='fix the cause and run the same command again; finished trials are kept',
    )


def _here(given, machine, device, todo, progress, size):
    from chainer_jo import backends
    from chainer_jo.sweep import local

    threads = given.threads or local.default_threads(device, (given.jobs or 1) * size)
    # At least 1: with nothing to do the report is still written.
    jobs = given.jobs or min(local.default_jobs(device, threads * size), max(1, len(todo)))
    if todo and device == '@numpy':
        options.warn_of_threads(jobs * size, threads, local.cores())
        backends.check_threads(threads)
    launcher = mpiexec.launcher(size)
    if todo and size > 1:
        parts = sorted({config.common['batch_size'] // size for config in todo})
        say(
            f'note     {size} processes train each trial: batch normalisation sees '
            f'{" or ".join(map(str, parts))} images at a time, so results differ from those of one '
            'process (D-54)'
        )
    return local.LocalSweep(
        machine, jobs, threads, forward(progress), progress.pass_on, progress.say, launcher
    )


def _processes(given, configs):
    """Returns the number of processes of each trial; on a cluster ``auto`` is one."""
    from chainer_jo.sweep import local
    from chainer_jo.training import device

    if given.scheduler:
        return 1
    if given.processes != 'auto':
        # A fault is reported once here, and not by every trial.
        device.check_shared(given.device, given.processes)
        if given.device == 'auto' and (gpus := device.count_gpus()):
            device.check_count(gpus, given.processes, f'--processes {gpus}')
        for config in configs:
            processes.check_batch(config.common['batch_size'], given.processes)
        return given.processes
    # With a named device, auto means this one device.
    gpus = device.count_gpus() if given.device == 'auto' else 0
    return min(
        (local.processes_for_gpus(gpus, config.common['batch_size']) for config in configs),
        default=1,
    )


def _on_cluster(given, machine, data, progress):
    # 'auto' is allowed: on a cluster it means one.
    if given.processes not in (1, 'auto'):
        raise ConfigError(
            'on a cluster each trial has one process',
            seen=f'--processes {given.processes} with --scheduler',
            fix='leave out one of them',
        )
    try:
        from chainer_jo.sweep import cluster
    except ImportError as error:
        raise ConfigError(
            'Dask is not installed',
            seen=str(error),
            fix='pip install ".[dask]" here and on every machine of the cluster',
        ) from error
    return cluster.ClusterSweep(
        given.scheduler,
        machine,
        data,
        forward(progress),
        progress.pass_on,
        progress.say,
        given.jobs,
    )
