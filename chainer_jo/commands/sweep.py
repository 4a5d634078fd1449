"""``plan`` and ``run``: the trials of a table."""

import json

from chainer_jo.commands import options
from chainer_jo.console import TrialProgress, forward, say, show, show_json
from chainer_jo.errors import ChainerJoError, ConfigError, DataError
from chainer_jo.training import processes

RUN = """.

The same command goes on with whatever was stopped, and several of them share the trials out. A
trial whose process is killed is tried again twice, one that runs out of memory once, after the
others; any other failure would come again, and is not tried again. The run goes on past failures
and ends with a list of them and their reasons. On a cluster, a trial is tried on other workers."""
PLAN = 'the trials of a table: done, running, failed and why, and to do; their time and disk'


def add(command):
    """Adds the commands; ``command(name, function, text)`` returns a new parser."""
    plan = command('plan', _plan, PLAN)
    _add_sweep(plan)
    options.add_data(plan)
    plan.add_argument(
        '--device',
        type=options.device,
        default='auto',
        help='whose times in the folder count: cpu | cuda:N | auto, a GPU if there are any of one '
        '(default: auto)',
    )
    plan.add_argument(
        '--threads',
        type=options.positive,
        metavar='N',
        help='on a CPU: times with so many threads count (default: as run begins trials)',
    )
    options.add_json(plan)
    run = command('run', _run, "runs a table's trials, or the rest of them, and reports")
    run.description += RUN
    _add_sweep(run)
    options.add_machine(run)
    options.add_training(run, share=True)
    run.add_argument(
        '--jobs',
        type=options.positive,
        help='trials side by side (default: as many as there are cores for; on a GPU one)',
    )
    run.add_argument(
        '--processes',
        type=options.processes,
        default=1,
        metavar='N',
        help='processes of each trial, by mpiexec; auto: one a GPU of this machine (default: 1)',
    )
    run.add_argument(
        '--scheduler',
        metavar='ADDRESS',
        help='train on the Dask cluster of this scheduler, such as tcp://node1:8786; data and '
        'results have the same names on all its machines',
    )


def _add_sweep(parser):
    options.add_table(parser)
    options.add_out(parser)
    listed = options.listed
    parser.add_argument('--only', type=listed(str), metavar='METHOD,…', help='methods to run')
    parser.add_argument('--rates', type=listed(float), metavar='0.5,…', help='noise rates')
    parser.add_argument('--trials', type=options.positive, metavar='N', help='trials a cell')
    parser.add_argument(
        '--labels',
        type=options.path_as_text,
        metavar='FILE[:SET]',
        help='table human: the file with its sets of labels, of which SET is one (default: '
        'CIFAR-10_human.pt in the folder of the data)',
    )
    options.add_settings(parser)


def _overview(given):
    from chainer_jo.sweep import label_sets, local, overview, plan

    configs = plan.trials(
        given.table,
        given.preset,
        given.only,
        given.rates,
        given.trials,
        given.overrides,
        given.precision,
        label_sets.read(given.table, given.preset, given.labels, given.data),
    )
    # As run would begin them on a CPU; whether there is a GPU that works takes seconds to say.
    threads = given.threads or local.default_threads('@numpy')
    return overview.Overview(configs, options.out_folder(given), given.device, threads)


def _plan(given):
    seen = _overview(given)
    if given.json:
        show_json([trial.as_dict() for trial in seen.trials])
    else:
        show(seen.as_text())
    return _complain_of(seen.trials)


def _complain_of(trials):
    """Says which finished trials are not as they were written; returns the exit code of that."""
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
    # Before looking for the device, so that a typing mistake is reported at once.
    seen = _overview(given)
    trials = seen.trials
    todo = [trial.config for trial in trials if trial.state != 'done']
    device = None if given.scheduler else options.choose_device(given)
    progress = TrialProgress(len(trials), len(trials) - len(todo), seen.work_left())
    # Loaded and dropped: a fault in the data is reported once here, not by every trial.
    data = {
        name: datasets.load(name, machine.data, progress.download).digest
        for name in {config.dataset for config in todo}
    }
    for net in {json.dumps(config.net): config.net for config in todo}.values():
        nets.weights(net, machine.weights)
    if given.scheduler:
        sweep = _on_cluster(given, machine, data, progress)
    else:
        sweep = _here(given, machine, device, todo, progress)
    say(seen.summary())
    with progress.shown():
        failures = sweep.run(todo)
    if not failures:
        shared_stage.remove_all(machine.out)
    code = report.show_table(given.table, given.preset, machine.out)
    if failures:
        # After the report, so that finished trials are shown even then.
        say(str(_in_sum(failures, len(todo))))
    return failures[0].exit_code if failures else code


def _in_sum(failures, count):
    """Returns one error for all trials that failed; what each has said was told at once."""
    return ChainerJoError(
        f'{len(failures)} of {count} trials failed',
        seen='\n        '.join(failure.in_a_line for failure in failures),
        fix='mend the cause and run the same command again; finished trials are kept',
    )


def _here(given, machine, device, todo, progress):
    from chainer_jo import backends
    from chainer_jo.sweep import local

    size = _processes(given, todo)
    threads = given.threads or local.default_threads(device, (given.jobs or 1) * size)
    jobs = given.jobs or min(local.default_jobs(device, threads * size), max(1, len(todo)))
    if todo and device == '@numpy':
        options.warn_of_threads(jobs * size, threads, local.cores())
        backends.check_threads(threads)
    launcher = processes.launcher(size)
    return local.LocalSweep(machine, jobs, threads, forward(progress), progress.pass_on, launcher)


def _processes(given, todo):
    """Returns of how many processes each trial is to be."""
    if given.processes != 'auto':
        return given.processes
    from chainer_jo.sweep import local
    from chainer_jo.training import device

    # Who names a device wants that one.
    gpus = device.count_gpus() if given.device == 'auto' else 0
    return min(
        (local.processes_for_gpus(gpus, config.common['batch_size']) for config in todo), default=1
    )


def _on_cluster(given, machine, data, progress):
    if given.processes not in (1, 'auto'):
        raise ConfigError(
            'a task of a cluster is a trial of one process',
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
