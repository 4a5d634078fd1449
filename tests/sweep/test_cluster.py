"""Trials on a real Dask scheduler with real workers, of which some are killed or unfit."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import dask_cluster
import pytest
import tiny
from dask_cluster import Run

from chainer_jo import cli, datasets, store
from chainer_jo.errors import ConfigError, StoppedError

pytestmark = [
    dask_cluster.NEEDED,
    # Dask leaves a socket open that it was connecting to a scheduler when that was killed.
    pytest.mark.filterwarnings('ignore:unclosed <socket:ResourceWarning'),
]
if not dask_cluster.NEEDED.args[0]:
    import distributed

    from chainer_jo.sweep import cluster, cluster_workers, on_worker

ROOT = Path(__file__).parents[2]
OTHERS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    dask_cluster.hurry(monkeypatch)
    monkeypatch.setattr(cluster, 'TRIES', 2)


@pytest.fixture
def dask(tmp_path):
    made = dask_cluster.Cluster(tmp_path / 'cluster')
    yield made
    made.close()


def long(method='cross_entropy', epochs=12, seed=0):
    """A trial that takes some seconds, so that it can be killed."""
    return tiny.config(method, f'{method}.train.epochs={epochs}', seed=seed)


def alone(config, out):
    """What the trial leaves behind when it is trained on this machine."""
    tiny.run(config, out)
    return tiny.outcome(config, out)


def resumes(config, out):
    return store.read_sealed(tiny.folder(config, out) / 'result.json')['times']['resumes']


def once(action):
    """Returns a function that calls ``action`` the first time."""
    calls = iter([action])
    return lambda: next(calls, lambda: None)()


def test_trials_end_as_on_this_machine_and_tell_their_start_epochs_and_result(dask, tmp_path):
    dask.worker('one')
    dask.worker('two')
    configs, out = [tiny.config('cross_entropy'), tiny.config('ours')], tmp_path / 'out'
    run = Run(dask.address, out)
    assert run(configs) == []
    for config in configs:
        assert tiny.outcome(config, out) == alone(config, tmp_path / 'here')
        lines = [line for trial, line in run.lines if trial == config.trial]
        kinds = [next(iter(line)) for line in lines if 'step' not in line]
        assert kinds == ['start', 'begin', *['epoch'] * config.epochs, 'result']
    for name in ('one', 'two'):
        assert [text for text in run.said if f'on worker {name} (tcp://' in text]
    assert run.said[0].startswith(f'cluster  {dask.address}: 2 workers; http://')
    # Neither the mark nor anything else of the run is left.
    assert [path.name for path in out.iterdir()] == ['runs']


def test_a_trial_whose_worker_is_killed_goes_on_elsewhere_and_ends_as_if_nothing_had_been(
    dask, tmp_path
):
    config, out = long(), tmp_path / 'out'
    workers = {name: dask.worker(name) for name in ('one', 'two')}
    killed = []

    def kill_in_the_midst(_, line):
        if line.get('epoch', 0) >= 3 and not killed:
            (text,) = [text for text in run.said if 'on worker' in text]
            killed.append('one' if 'worker one' in text else 'two')
            holder = (tiny.folder(config, out) / '.holder').read_text()
            # The whole host goes: the worker, and the trial's own process.
            workers[killed[0]].end(signal.SIGKILL)
            os.kill(int(holder.split()[1]), signal.SIGKILL)

    run = Run(dask.address, out, kill_in_the_midst)
    assert run([config]) == []
    assert resumes(config, out) >= 1
    assert tiny.outcome(config, out) == alone(config, tmp_path / 'here')


def test_a_run_outlives_its_scheduler(dask, tmp_path):
    config, out = long(), tmp_path / 'out'
    dask.worker('one')
    ended = once(lambda: dask.scheduler.end(signal.SIGKILL))

    def begin_anew(text):
        if 'does not answer' in text:
            dask.start_scheduler()
            dask.worker('two')

    run = Run(
        dask.address,
        out,
        lambda _, line: ended() if line.get('epoch', 0) >= 3 else None,
        begin_anew,
    )
    assert run([config]) == []
    assert resumes(config, out) >= 1
    assert tiny.outcome(config, out) == alone(config, tmp_path / 'here')


def test_a_run_outlives_its_connection_whatever_the_client_raises(dask, tmp_path, monkeypatch):
    config, out = long(), tmp_path / 'out'
    dask.worker('one')
    close = distributed.Client.close

    def close_badly(client, *args, **options):
        status = client.status
        close(client, *args, **options)
        # Its __del__ closes it once more.
        if status != 'closed':
            raise RuntimeError('ConnectionPool is closed')

    monkeypatch.setattr(distributed.Client, 'close', close_badly)
    # Everything that the run does with this client from here on fails.
    ended = once(lambda: close(run.sweep._client))
    run = Run(dask.address, out, lambda _, line: ended() if line.get('epoch', 0) >= 3 else None)
    assert run([config]) == []
    assert [text for text in run.said if 'does not answer' in text]
    assert tiny.outcome(config, out) == alone(config, tmp_path / 'here')


def test_the_folder_of_results_may_be_gone_for_a_while(dask, tmp_path):
    config, out, away = long(), tmp_path / 'out', tmp_path / 'away'
    dask.worker('one')
    gone = once(lambda: out.rename(away))

    def bring_back(text):
        if 'the results folder' in text:
            assert 'worker one' in text
            away.rename(out)

    run = Run(
        dask.address, out, lambda _, line: gone() if line.get('epoch', 0) >= 3 else None, bring_back
    )
    assert run([config]) == []
    assert [text for text in run.said if 'it is tried again' in text and 'cannot write' in text]
    assert tiny.outcome(config, out) == alone(config, tmp_path / 'here')


@pytest.mark.parametrize(
    'signum', [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.long) for n in OTHERS)]
)
def test_a_signal_stops_every_trial_after_a_snapshot(signum, dask, tmp_path):
    configs = [long(epochs=10**6, seed=seed) for seed in range(2)]
    dask.worker('one')
    run = Run(
        dask.address,
        tmp_path,
        lambda _, line: os.kill(os.getpid(), signum) if line.get('epoch', 0) == 3 else None,
    )
    with pytest.raises(StoppedError) as error:
        run(configs)
    assert error.value.exit_code == 128 + signum
    assert error.value.seen == 'every running trial took a snapshot'
    (begun,) = [path for path in tmp_path.glob('runs/*') if list(path.glob('snapshot-*.arrays'))]
    with store.lock(begun):  # Hence its process has ended.
        pass


def test_the_trials_of_a_run_that_was_killed_end_after_a_snapshot(dask, tmp_path):
    dask.worker('one')
    words = ['-m', 'chainer_jo', 'run', 'table2', '--preset', 'quick', '--only', 'cross_entropy']
    words += ['--rates', '0.5', '--trials', '1', '--device', 'cpu', '--out', tmp_path / 'out']
    words += ['--scheduler', dask.address, '--snapshot-seconds', '0']
    config = long(epochs=10**6)
    words += [word for setting in config.modified for word in ('--set', setting)]
    run = dask_cluster.Process(words, tmp_path / 'run.log')
    run.wait_for('epoch 3/')
    run.end(signal.SIGKILL)
    (folder,) = (tmp_path / 'out/runs').iterdir()
    hold_when_free(folder)
    assert list(folder.glob('snapshot-*.arrays'))
    # The mark that it has left is swept away by the next one, once it is old.
    (left,) = (tmp_path / 'out').glob('.cluster-*')
    age(left)
    with cluster._marked(tmp_path / 'out', 'next'):
        assert not left.exists()


def age(folder):
    """Makes the folder look an hour old."""
    os.utime(folder, (time.time() - 3600,) * 2)


def hold_when_free(folder):
    end = time.monotonic() + dask_cluster.PATIENCE
    while True:
        try:
            with store.lock(folder):
                return
        except store.InUseError:
            assert time.monotonic() < end
            time.sleep(0.05)


def another_version(folder):
    """A copy of the package in which a line has changed; its worker finds it first."""
    shutil.copytree(
        ROOT / 'chainer_jo', folder / 'chainer_jo', ignore=shutil.ignore_patterns('*.npz', '*.pyc')
    )
    with (folder / 'chainer_jo/errors.py').open('a') as file:
        file.write('# changed\n')
    return {'PYTHONPATH': str(folder)}


def no_package(folder):
    (folder / 'chainer_jo.py').write_text('raise ModuleNotFoundError("no chainer_jo here")\n')
    return {'PYTHONPATH': str(folder)}


@pytest.mark.parametrize(
    ('unfit', 'problem'),
    [
        (another_version, 'it has another version of chainer_jo'),
        (no_package, 'it could not be examined'),
    ],
)
def test_a_worker_with_another_version_is_refused_and_the_others_train(
    unfit, problem, dask, tmp_path
):
    (tmp_path / 'package').mkdir()
    dask.worker('unfit', **unfit(tmp_path / 'package'))
    with pytest.raises(cluster_workers.RefusedError) as error:
        Run(dask.address, tmp_path / 'out')([tiny.config('cross_entropy')])
    assert error.value.exit_code == 2
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith('error: worker unfit (tcp://127.0.0.1:')
    assert lines[0].endswith(f') is refused: {problem}')
    assert not (tmp_path / 'out/runs').exists()

    dask.worker('fit')
    run = Run(dask.address, tmp_path / 'out')
    assert run([tiny.config('cross_entropy')]) == []
    # Said once, though it is examined again and again.
    assert [text.splitlines()[0] for text in run.said if ' is refused' in text] in ([], [lines[0]])


def test_a_worker_without_the_data_says_so(dask, tmp_path):
    dask.worker('one')
    run = Run(dask.address, tmp_path / 'out', data=str(tmp_path / 'cifar10'))
    run.sweep._data = {'cifar10': 64 * '0'}
    with pytest.raises(cluster_workers.RefusedError) as error:
        run([tiny.config('cross_entropy')])
    assert error.value.exit_code == 3
    assert 'worker one' in error.value.problem
    assert str(tmp_path / 'cifar10') in str(error.value)


def test_a_worker_without_the_shared_folder_says_so(dask, tmp_path):
    if not dask_cluster.can_hide():
        pytest.skip('no process may have mounts of its own here')
    (tmp_path / 'out').mkdir()
    dask.worker('one', hides=tmp_path / 'out')
    with pytest.raises(cluster_workers.RefusedError) as error:
        Run(dask.address, tmp_path / 'out')([tiny.config('cross_entropy')])
    assert error.value.exit_code == 6
    assert 'worker one' in error.value.problem
    assert f'the results folder {tmp_path / "out"} is missing' in error.value.problem
    assert error.value.seen.startswith('another folder, without')


def test_what_nobody_can_take_is_said_and_taken_when_somebody_comes(dask, tmp_path):
    come = once(lambda: dask.worker('one'))
    reason = f'no worker has joined {dask.address}'
    run = Run(dask.address, tmp_path, told=lambda text: come() if reason in text else None)
    assert run([tiny.config('cross_entropy')]) == []
    assert f'no trial has begun for 1 s: {reason}' in run.said


def test_a_trial_for_a_gpu_waits_for_the_resource_and_never_trains_on_cores(dask, tmp_path):
    dask.worker('cores')

    def start_one_with_a_gpu(text):
        if 'none of the 1 workers has the resource GPU' in text:
            dask.worker('gpu', '--resources', 'GPU=1')

    run = Run(dask.address, tmp_path, told=start_one_with_a_gpu, device='cuda:0')
    (failure,) = run([tiny.config('cross_entropy')])
    # There is no GPU here. That it was tried says that the worker was chosen.
    assert failure.exit_code == 2
    assert 'the device cuda:0 cannot be used' in failure.seen
    assert 'on worker gpu' in failure.seen
    assert len([text for text in run.said if ': on worker gpu' in text]) == cluster.TRIES
    assert not [text for text in run.said if ': on worker cores' in text]


@pytest.mark.long
def test_where_workers_have_gpus_auto_means_these(dask, tmp_path):
    dask.worker('gpu', '--resources', 'GPU=1')
    (failure,) = Run(dask.address, tmp_path, device='auto')([tiny.config('cross_entropy')])
    assert 'the device cuda:0 cannot be used' in failure.seen


@pytest.mark.long
def test_a_trial_that_diverges_is_told_once_and_the_others_go_on(dask, tmp_path):
    dask.worker('one')
    good = tiny.config('cross_entropy')
    bad = tiny.config('cross_entropy', 'cross_entropy.train.learning_rate=1e9')
    run = Run(dask.address, tmp_path)
    (failure,) = run([bad, good])
    assert failure.exit_code == 5
    assert failure.problem == f'trial {bad.trial} failed'
    assert len([text for text in run.said if text.startswith(f'{bad.trial}: on')]) == 1
    assert (tiny.folder(good, tmp_path) / 'result.json').exists()


@pytest.mark.long
def test_a_trial_that_another_process_holds_is_left_until_it_is_free(dask, tmp_path):
    dask.worker('one')
    held, free = (tiny.config('cross_entropy', seed=seed) for seed in (0, 1))
    released = threading.Event()

    def hold():
        with store.lock(tiny.folder(held, tmp_path)):
            taken.set()
            released.wait()

    taken = threading.Event()
    other = threading.Thread(target=hold)
    other.start()
    taken.wait()
    run = Run(dask.address, tmp_path, lambda _, line: released.set() if 'result' in line else None)
    assert run([held, free]) == []
    other.join()
    assert [trial for trial, line in run.lines if 'result' in line] == [free.trial, held.trial]


@pytest.mark.long
def test_a_finished_trial_is_found_and_not_trained_again(dask, tmp_path):
    config = tiny.config('cross_entropy')
    alone(config, tmp_path)
    result = tiny.folder(config, tmp_path) / 'result.json'
    before = result.read_bytes()
    dask.worker('one')
    run = Run(dask.address, tmp_path)
    assert run([config]) == []
    assert run.lines == [(config.trial, {'result': store.read_sealed(result)})]
    assert result.read_bytes() == before


def test_a_trial_is_handed_nothing_that_the_nanny_sets(dask, tmp_path):
    dask.worker('one', nanny=True, OMP_WAIT_POLICY='PASSIVE')
    config, environments = long(), []

    def look(_, line):
        if line.get('epoch') == 1:
            pid = (tiny.folder(config, tmp_path) / '.holder').read_text().split()[1]
            environments.append(Path(f'/proc/{pid}/environ').read_bytes())

    assert Run(dask.address, tmp_path, look, threads=2)([config]) == []
    result = store.read_sealed(tiny.folder(config, tmp_path) / 'result.json')
    assert result['environment']['threads'] == 2
    assert b'MALLOC_TRIM_THRESHOLD_' not in environments[0]


COMMAND = ('run', 'table2', '--preset', 'quick', '--rates', '0.5', '--trials', '1', '--scheduler')


@pytest.mark.parametrize('address', ['tcp://127.0.0.1:{port}', 'nonsense', 'x://127.0.0.1:{port}'])
def test_a_scheduler_that_cannot_be_reached_ends_the_run_in_three_lines(
    address, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, 'CONNECT_SECONDS', 0.5)
    address = address.format(port=dask_cluster.free_port())
    with pytest.raises(SystemExit) as exited:
        cli.main([*COMMAND, address, '--out', str(tmp_path / 'out')])
    assert exited.value.code == 2
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert lines[0] == f'error: the scheduler {address} cannot be reached'
    assert [line[:8] for line in lines[1:]] == ['  seen: ', '  fix:  ']


def test_a_scheduler_that_does_not_say_who_its_workers_are_cannot_be_reached(
    dask, tmp_path, monkeypatch
):
    def silent(workers):
        raise TimeoutError('no answer')

    monkeypatch.setattr(cluster_workers.Workers, '_look', silent)
    with pytest.raises(ConfigError) as error:
        Run(dask.address, tmp_path)([tiny.config('cross_entropy')])
    assert error.value.problem == f'the scheduler {dask.address} cannot be reached'
    assert error.value.seen == 'TimeoutError: no answer'


def test_a_client_that_cannot_cancel_does_not_keep_a_signal_from_stopping_the_run(
    dask, tmp_path, monkeypatch
):
    def closed(*_):
        raise distributed.client.ClosedClientError('closed')

    monkeypatch.setattr(distributed.Client, 'cancel', closed)
    dask.worker('one')
    run = Run(
        dask.address,
        tmp_path,
        lambda _, line: os.kill(os.getpid(), signal.SIGTERM) if line.get('epoch') == 3 else None,
    )
    with pytest.raises(StoppedError):
        run([long()])


def test_without_dask_the_run_says_how_to_install_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'chainer_jo.sweep.cluster', None)
    monkeypatch.delattr('chainer_jo.sweep.cluster')
    with pytest.raises(SystemExit) as exited:
        cli.main([*COMMAND, 'tcp://127.0.0.1:1', '--out', str(tmp_path / 'out')])
    assert exited.value.code == 2
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert lines[0] == 'error: Dask is not installed'
    assert '".[dask]"' in lines[2]


def order(mark, **changes):
    made = {'package': on_worker.package(), 'mark': str(mark), 'where': None, 'data': {}}
    return made | changes


def test_examine_accepts_a_worker_that_has_all(tmp_path):
    with cluster._marked(tmp_path, 'x') as mark:
        data = {'fashion_mnist': datasets.load('fashion_mnist').digest}
        assert on_worker.examine(order(mark, data=data)) is None


def test_a_mark_is_left_to_a_run_that_has_just_begun(tmp_path):
    fresh, old = tmp_path / '.cluster-x', tmp_path / '.cluster-z'
    for folder in (fresh, old):
        folder.mkdir()
    age(old)
    with cluster._marked(tmp_path, 'y'):
        assert fresh.exists()
        assert not old.exists()


def test_examine_names_what_is_other_or_missing(tmp_path):
    with cluster._marked(tmp_path, 'x') as mark:
        found = {
            'version': order(mark, package='0.0.1 (0123456789ab)'),
            'other data': order(mark, data={'fashion_mnist': 64 * '0'}),
            'no data': order(mark, data={'cifar10': 64 * '0'}, where=str(tmp_path / 'cifar10')),
            'no folder': order(tmp_path / 'nowhere/.cluster-x'),
            'other folder': order(tmp_path / '.cluster-y'),
        }
        found = {name: on_worker.examine(asked) for name, asked in found.items()}
    assert {name: reason['exit_code'] for name, reason in found.items()} == {
        'version': 2, 'other data': 3, 'no data': 3, 'no folder': 6, 'other folder': 6,
    }  # fmt: skip
    for reason in found.values():
        assert all('\n' not in reason[part] for part in ('problem', 'seen', 'fix'))


def test_a_file_system_that_loses_the_locks_of_other_hosts_is_refused(tmp_path):
    (tmp_path / '.cluster-x').mkdir()  # And nobody holds it, as far as this host sees.
    reason = on_worker.examine(order(tmp_path / '.cluster-x'))
    assert reason['problem'] == f'locks of other hosts have no effect in {tmp_path}'
    assert reason['exit_code'] == 6
