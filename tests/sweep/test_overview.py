"""What a plan says of a table: states, times measured here, first stages that are shared, disk."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import tiny

from chainer_jo import paper, store
from chainer_jo.errors import StoppedError
from chainer_jo.sweep import overview, pace, plan
from chainer_jo.sweep.overview import Overview
from chainer_jo.training import failure, machine, trial
from chainer_jo.training.machine import SHARED

HERE = {
    'device': '@numpy', 'processor': machine.processor()['processor'], 'threads': 1,
    'backend': 'onednn (oneDNN 3.2.0, 1 threads)',
}  # fmt: skip
SLOW = HERE | {'backend': "chainer (Chainer's own functions, as requested)"}


def trials(*methods, rates=(0.5,), count=1, **more):
    return plan.trials('table2', 'quick', only=methods, rates=rates, count=count, **more)


def log_of(config, seconds, epochs):
    stages = [name for name, stage in config.stages.items() for _ in range(stage['epochs'])]
    pairs = zip(stages[:epochs], [seconds] * epochs, strict=True)
    return ''.join(json.dumps({'stage': s, 'seconds': t}) + '\n' for s, t in pairs)


def begin(out, config, epochs=0, seconds=1.0, place=HERE):
    folder = tiny.folder(config, out)
    folder.mkdir(parents=True)
    (folder / 'log.jsonl').write_text(log_of(config, seconds, epochs))
    here = {name: place[name] for name in ('device', 'processor', 'backend')}
    how = {name: place[name] for name in ('threads', 'processes') if name in place}
    store.write_sealed(folder / 'config.json', how | {'place': here})
    return folder


def finish(out, config, seconds=1.0, place=HERE):
    folder = begin(out, config, config.epochs, seconds)
    digest = store.sha256((folder / 'log.jsonl').read_bytes())
    result = {'trial': config.trial, 'digests': {'log': digest}, 'data': {'digest': 'ab' * 32}}
    result['environments'] = [place]
    store.write_sealed(folder / 'result.json', result)
    return folder


def states(seen):
    return [trial.state for trial in seen.trials]


def test_states_come_from_what_lies_in_the_folder(tmp_path):
    configs = trials('cross_entropy', count=5)
    done, running, failed, begun, _ = configs
    assert states(Overview(configs, tmp_path)) == ['to do'] * 5
    finish(tmp_path, done)
    begin(tmp_path, begun, 3)
    failure.keep(begin(tmp_path, failed, 2), 5, 'training diverged: the loss is not finite')
    with store.lock(tiny.folder(running, tmp_path)):
        seen = Overview(configs, tmp_path)
    assert states(seen) == ['done', 'running', 'failed', 'begun', 'to do']
    assert [trial.epochs_done for trial in seen.trials] == [done.epochs, 0, 2, 3, 0]
    holder = f'pid {os.getpid()} on {socket.gethostname()}'
    assert seen.trials[1].detail == holder
    *cells, first, second, count, _, _ = seen.as_text().splitlines()
    assert [line.split() for line in cells] == [
        ['method', 'noise', 'rate', 'done', 'running', 'failed', 'begun', 'to', 'do', 's/epoch'],
        ['cross_entropy', 'symmetric', '0.5', '1', '1', '1', '1', '1', '1.0'],
    ]
    assert first == f'running  {running.trial}: {holder}, 0/{running.epochs} epochs'
    assert second == f'failed   {failed.trial}: training diverged: the loss is not finite'
    assert count == '5 trials: 1 done, 1 begun, 1 to do, 1 running, 1 failed'


def test_the_name_of_a_dead_process_is_no_running_trial(tmp_path):
    (config,) = trials('ours')
    folder = begin(tmp_path, config)
    (folder / '.holder').write_text('pid 1 on elsewhere')
    (folder / '.lock').touch()
    assert states(Overview([config], tmp_path)) == ['begun']


def test_a_file_that_is_renamed_while_one_looks_changes_nothing(tmp_path):
    (config,) = trials('ours')
    folder = begin(tmp_path, config, 3)
    (folder / '.log.jsonl.1.tmp').symlink_to('gone')
    seen = Overview([config], tmp_path)
    assert (states(seen), seen.trials[0].epochs_done) == (['begun'], 3)


@pytest.mark.parametrize('name', ['log.jsonl', 'config.json', '.holder', '.lock', failure.NAME])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(name, tmp_path):
    (config,) = trials('ours')
    folder = begin(tmp_path, config, 3)
    (folder / '.holder').write_text('pid 1 on elsewhere')
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert states(Overview([config], tmp_path)) in (['begun'], ['failed'])


def test_a_trial_that_is_looked_at_can_be_begun_at_the_same_time(tmp_path):
    """Whoever looks holds the lock for a moment, in which nobody may be refused."""
    (config,) = trials('ours')
    folder = begin(tmp_path, config)
    (folder / '.lock').touch()
    (folder / '.holder').write_text('pid 1 on elsewhere')
    looked = f"""
from chainer_jo import store
while True:
    store.holder({str(folder)!r})
"""
    with subprocess.Popen([sys.executable, '-c', looked]) as looks:
        try:
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                with store.lock(folder):
                    pass
                (folder / '.holder').write_text('pid 1 on elsewhere')
        finally:
            looks.kill()


def test_a_row_is_a_cell_of_method_noise_rate_and_settings(tmp_path):
    configs = plan.trials('ablations', 'quick', rates=[0.7], count=2)
    lines = [line.split() for line in Overview(configs, tmp_path).as_text().splitlines()]
    settings = {(t.method, ' '.join(t.modified)) for t in configs}
    rows = [line for line in lines if line[-2:] == ['not', 'measured']]
    assert len(rows) == len(settings) == len(configs) / 2
    assert {line[3] for line in rows} >= {'ours.fine_tune.loss=kl', 'ours.correct.window=1'}
    assert all(line[-3] == '2' for line in rows)


@pytest.mark.parametrize('name', ['result.json', 'log.jsonl'])
def test_a_finished_trial_that_was_altered_is_neither_done_nor_measured(name, tmp_path):
    (config,) = trials('ours')
    path = finish(tmp_path, config) / name
    path.write_text(path.read_text().replace('1', '2').replace('a', 'b'))
    seen = Overview([config], tmp_path)
    (found,) = seen.trials
    assert (found.state, found.epochs_done, found.seconds) == ('damaged', 0, None)
    assert name in found.detail
    assert seen.summary() == '1 trial: 0 done, 0 begun, 0 to do, 1 damaged'


def test_a_trial_is_timed_by_others_of_its_kind_stage_by_stage(tmp_path):
    cross_entropy, *configs = trials('cross_entropy', 'ours', count=3)[2:]
    begun, other, _ = configs
    correct, fine_tune = (stage['epochs'] for stage in begun.stages.values())
    folder = begin(tmp_path, begun)
    rows = log_of(begun, 2.0, correct) + log_of(begun, 5.0, correct + 1).splitlines()[-1] + '\n'
    (folder / 'log.jsonl').write_text(rows)
    found = Overview([cross_entropy, *configs], tmp_path).trials
    whole = 2 * correct + 5 * fine_tune
    assert [trial.seconds for trial in found] == [None, whole, whole, whole]
    assert found[2].as_dict() == {
        'trial': other.trial, 'state': 'to do', 'epochs': other.epochs, 'seconds': whole,
    }  # fmt: skip


@pytest.mark.parametrize(
    'place',
    [HERE | {'threads': 2}, HERE | {'processor': 'another'}, HERE | {'device': '@cupy:0'}, {}],
    ids=['threads', 'processor', 'device', 'unknown'],
)
def test_what_was_measured_elsewhere_is_no_measurement(place, tmp_path):
    configs = trials('cross_entropy', count=2)
    finish(tmp_path, configs[0], place=place)
    seen = Overview(configs, tmp_path, device='cpu')
    assert [trial.seconds for trial in seen.trials] == [None, None]
    here = f'CPU, {HERE["processor"]}, 1 thread'
    assert f'unknown until an epoch of each stage has run on {here}' in seen.as_text()
    assert 'training left' not in seen.summary()
    if place.get('threads') == 2:
        assert Overview(configs, tmp_path, threads=2).trials[1].seconds == configs[0].epochs


def test_a_gpu_that_was_measured_counts_unless_another_device_is_named(tmp_path):
    gpu, cpu, todo = trials('cross_entropy', count=3)
    finish(tmp_path, gpu, 0.5, HERE | {'device': '@cupy:0', 'threads': 8})
    finish(tmp_path, cpu, 7.0)
    measured = {
        device: Overview([gpu, cpu, todo], tmp_path, device).trials[2].seconds / todo.epochs
        for device in ('auto', 'cuda:0', 'cpu')
    }
    assert measured == {'auto': 0.5, 'cuda:0': 0.5, 'cpu': 7.0}


def test_backends_and_numbers_of_processes_are_measured_apart(tmp_path):
    *measured, todo = trials('cross_entropy', count=4)
    begin(tmp_path, measured[0], 3, 7.0, SLOW)
    finish(tmp_path, measured[1], 2.0)
    begin(tmp_path, measured[2], 3, 1.0, HERE | {'processes': 2})

    def seconds(**how):
        return Overview([*measured, todo], tmp_path, **how).trials[-1].seconds / todo.epochs

    assert seconds() == 2.0
    assert seconds(backend='chainer') == 7.0
    assert seconds(processes=2) == 1.0
    assert Overview([*measured, todo], tmp_path, processes=3).trials[-1].seconds is None


def test_a_trial_that_moved_is_no_measurement(tmp_path):
    (config,) = trials('cross_entropy')
    folder = finish(tmp_path, config)
    result = store.read_sealed(folder / 'result.json')
    moved = [HERE, HERE | {'processor': 'another'}]
    store.write_sealed(folder / 'result.json', result | {'environments': moved})
    assert Overview([config], tmp_path).trials[0].seconds is None


def test_a_trial_that_moved_before_its_end_is_no_measurement(tmp_path):
    config = tiny.config('cross_entropy', 'cross_entropy.train.epochs=12')
    path = tiny.folder(config, tmp_path) / 'config.json'
    stops = trial.Observer(epoch=lambda row: os.kill(os.getpid(), signal.SIGTERM))

    def measured():
        with pytest.raises(StoppedError):
            trial.run(config, tiny.machine(tmp_path), stops)
        threads = store.read_sealed(path)['threads']
        return Overview([config], tmp_path, 'cpu', threads).trials[0].seconds

    assert measured() is not None
    assert measured() is not None
    begun = store.read_sealed(path)
    store.write_sealed(path, begun | {'place': begun['place'] | {'processor': 'another'}})
    assert measured() is None
    assert measured() is None


def test_the_summary_counts_states_and_the_time_that_is_left(tmp_path):
    configs = trials('cross_entropy', count=2)
    begin(tmp_path, configs[0], 2, seconds=60.0)
    left = 2 * configs[0].epochs - 2
    seen = Overview(configs, tmp_path)
    time = f'{left // 60}:{left % 60:02}:00'
    assert seen.summary() == (f'2 trials: 0 done, 1 begun, 1 to do, about {time} of training left')


def test_trials_side_by_side_take_as_long_as_the_longest_at_least(tmp_path, monkeypatch):
    monkeypatch.setattr(overview.local, 'cores', lambda: 2)
    configs = trials('cross_entropy', count=3)
    finish(tmp_path, configs[0], seconds=60.0)
    minutes = configs[0].epochs
    text = Overview(configs, tmp_path).as_text()
    assert f'time     0:{2 * minutes}:00 of training left, 0:{minutes}:00 with 2 trials' in text
    begin(tmp_path, configs[1], configs[1].epochs - 1, seconds=60.0)
    assert f'left, 0:{minutes}:00 with 2 trials' in Overview(configs, tmp_path).as_text()


def test_a_first_stage_that_trials_share_counts_once(tmp_path):
    def left(*configs):
        return [
            sum(epochs.values())
            for epochs in pace.epochs_left(Overview(configs, tmp_path).trials, shared).values()
        ]

    (ours,), (tanaka,), shared = trials('ours'), trials('tanaka'), False
    correct, fine_tune = (stage['epochs'] for stage in ours.stages.values())
    assert left(ours, tanaka) == [correct + fine_tune, fine_tune]
    assert left(ours, *trials('tanaka', rates=[0.7])) == [correct + fine_tune] * 2
    # Who has begun it goes on; the other waits for its end.
    begin(tmp_path, tanaka, 2)
    assert left(ours, tanaka) == [fine_tune, correct + fine_tune - 2]
    # Of one that is over, the end may be there or not.
    (tiny.folder(tanaka, tmp_path) / 'log.jsonl').write_text(log_of(tanaka, 1.0, correct + 1))
    assert left(ours, tanaka) == [correct + fine_tune, fine_tune - 1]
    shared = True
    assert left(ours, tanaka) == [fine_tune, fine_tune - 1]


@pytest.mark.parametrize('how', [{'share': False}, {'processes': 2}])
def test_a_first_stage_that_is_not_shared_counts_for_each(how, tmp_path):
    (ours,), (tanaka,) = trials('ours'), trials('tanaka')
    seen = Overview([ours, tanaka], tmp_path, **how)
    assert [sum(left.values()) for left in seen.epochs_left.values()] == [
        ours.epochs,
        tanaka.epochs,
    ]
    begin(tmp_path, tanaka, 2)
    seen = Overview([ours, tanaka], tmp_path, **how)
    assert sum(seen.epochs_left[ours.trial].values()) == ours.epochs


def test_a_plan_knows_that_a_first_stage_lies_in_the_folder(tmp_path):
    configs = ours, measured, tanaka = *trials('ours', count=2), *trials('tanaka')
    finish(tmp_path, tanaka)
    finish(tmp_path, measured)
    assert Overview(configs, tmp_path).seconds_left == {ours.trial: ours.epochs}
    (tmp_path / SHARED).mkdir()
    (tmp_path / SHARED / 'a.arrays').touch()
    fine_tune = ours.stages['fine_tune']['epochs']
    assert Overview(configs, tmp_path).seconds_left == {ours.trial: fine_tune}


def test_a_plan_shares_the_first_stages_that_training_shares():
    """The digest that decides it needs Chainer and the data; a plan has neither."""
    from chainer_jo.training import shared_stage

    changed = 'ours.fine_tune.loss=kl', 'ours.correct.alpha=3.0'
    configs = [tiny.config(name) for name in paper.methods()]
    configs += [tiny.config('ours', override) for override in changed]
    configs = [config for config in configs if len(config.stages) > 1]
    trained, planned = {}, {}
    for config in configs:
        method = tiny.assembly(config).method
        digest = shared_stage._digest(config, method, '', {})
        trained.setdefault(digest, []).append(config.trial)
        planned.setdefault(pace._first_stage(config), []).append(config.trial)
    assert list(planned.values()) == list(trained.values())
    # Tanaka's and the paper's, which then goes on with another loss.
    assert sorted(map(len, planned.values()))[-2:] == [1, 3]


@pytest.mark.parametrize('torn', ['{"seconds": 1', '[]', '{}', '\xff', '{"stage":1,"seconds":"x"}'])
def test_a_torn_log_is_no_measurement(torn, tmp_path):
    (config,) = trials('ours')
    (begin(tmp_path, config) / 'log.jsonl').write_text(torn, encoding='latin-1')
    (found,) = Overview([config], tmp_path).trials
    assert (found.state, found.epochs_done, found.seconds) == ('begun', 0, None)


@pytest.mark.parametrize('absurd', [1e300, float('inf'), float('nan'), -1.0, 1e7])
def test_a_log_with_an_absurd_time_is_no_measurement(absurd, tmp_path):
    configs = trials('cross_entropy', count=2)
    begin(tmp_path, configs[0], 3)
    with (tiny.folder(configs[0], tmp_path) / 'log.jsonl').open('a') as file:
        file.write(log_of(configs[0], absurd, 1))
    seen = Overview(configs, tmp_path)
    assert [found.seconds for found in seen.trials] == [None, None]
    assert 'training left' not in seen.summary()


def test_the_disk_at_the_end_is_that_of_the_trials_that_are_done(tmp_path):
    configs = trials('cross_entropy', count=3)
    assert 'the final size is unknown' in Overview(configs, tmp_path).as_text()
    folder = finish(tmp_path, configs[0])
    (folder / 'model.arrays').write_bytes(bytes(10_000_000))
    text = Overview(configs, tmp_path).as_text()
    assert 'disk     10.0 MB now, about 30.0 MB when all is done; ' in text


def test_a_reason_may_hold_any_text_and_shows_none_of_it_as_more_than_text(tmp_path):
    (config,) = trials('ours')
    folder = begin(tmp_path, config)
    failure.keep(folder, 70, 'ValueError: \x1b[2J\n' + 'x' * 10_000)
    lines = Overview([config], tmp_path).as_text().splitlines()
    (line,) = [line for line in lines if line.startswith('failed ')]
    assert '\x1b' not in line
    assert len(line) < 500
    (folder / failure.NAME).write_text('{}')
    assert 'failure.json cannot be read' in Overview([config], tmp_path).as_text()


def test_a_failure_is_not_kept_where_the_folder_of_results_has_gone(tmp_path):
    failure.keep(tmp_path / 'out' / 'runs' / 'a', 6, 'the share is not mounted')
    assert not (tmp_path / 'out').exists()


def test_a_plan_of_a_thousand_trials_opens_few_files_of_each(tmp_path, monkeypatch):
    configs = plan.trials('table2', 'quick', only=['cross_entropy', 'ours'], count=250)
    assert len(configs) == 1000
    monkeypatch.setattr(store.os, 'fsync', lambda file: None)
    for config in configs[::2]:
        finish(tmp_path, config)
    opened, taken, add, looking = [], [], pace.Paces.add, [True]
    # A hook stays for the rest of the process.
    sys.addaudithook(lambda event, args: looking and event == 'open' and opened.append(args[0]))
    monkeypatch.setattr(pace.Paces, 'add', lambda *a: taken.append(a) or add(*a))
    seen = Overview(configs, tmp_path)
    seen.as_text()
    looking.clear()
    opened = [path for path in opened if str(path).startswith(str(tmp_path))]
    assert states(seen).count('done') == 500
    # A result and a log of each that is done, and nothing of the others.
    assert len(set(opened)) == 2 * 500
    # Python tells of an opener, and of what it opens.
    assert len(opened) <= 2 * len(set(opened))
    assert len(taken) == 2 * pace.LOGS


def test_an_epoch_that_another_program_slowed_does_not_count():
    [config] = trials('cross_entropy')
    paces = pace.Paces('cpu', 1)
    log = log_of(config, 1.0, 2) + log_of(config, 100.0, 1)
    paces.add(config, [HERE], log.encode())
    assert paces.of_stage(config, 'train') == 1.0
