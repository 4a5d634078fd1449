"""Where a trial runs: said, passed on to child processes, and noted in its result."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny

from chainer_jo import backends, cli, datasets, store, version
from chainer_jo.commands import options
from chainer_jo.errors import ConfigError, DataError, StoppedError
from chainer_jo.sweep.overview import Overview
from chainer_jo.training import machine, result, trial
from chainer_jo.training.machine import Machine

MACHINES = [
    Machine(Path('out')),
    Machine(Path('a b/-out'), '-data', 'cuda:3', 'chainer', False, 7.5, True),
    Machine(Path('out'), tensorboard=True, weights='/w w', threads=2),
    Machine(Path('out'), data='/a b/c', device='cpu', snapshot_seconds=0.0),
]


@pytest.mark.parametrize('wanted', MACHINES)
def test_its_words_tell_a_child_process_the_same(wanted):
    words = ['train', '--dataset', 'cifar10', '--noise', 'none', '--method', 'ours']
    given = cli.parser().parse_args([*words, *wanted.as_words()])
    assert options.machine(given) == wanted


def test_a_trial_loads_its_data_set_once_though_its_labels_come_from_a_file(tmp_path, monkeypatch):
    load, loads = datasets.load, []
    np.save(tmp_path / 'labels.npy', load('fashion_mnist').train.labels)
    monkeypatch.setattr(
        datasets, 'load', lambda *place, **told: loads.append(place) or load(*place, **told)
    )
    settings = (f'--set={override}' for override in tiny.overrides('cross_entropy'))
    words = ['--dataset', 'fashion_mnist', '--preset', 'quick', '--method', 'cross_entropy']
    words += ['--noise', 'file', '--labels', str(tmp_path / 'labels.npy'), *settings]
    with pytest.raises(SystemExit) as ended:
        cli.main(['train', *words, *tiny.machine(tmp_path / 'out').as_words()])
    assert ended.value.code == 0
    assert len(loads) == 1


def stop_after(epoch):
    def stop(row):
        if row['epoch'] == epoch:
            raise StoppedError(signal.SIGTERM, seen='', fix='')

    return trial.Observer(epoch=stop)


def test_a_result_says_where_it_was_made(tmp_path):
    made = tiny.run(tiny.config('cross_entropy'), tmp_path)
    environment = made['environment']
    assert made['environments'] == [environment]
    assert environment['processor'] == machine.processor()['processor']
    assert environment['threads'] == (backends.threads() or machine.threads()) >= 1
    assert environment['instruction_set']
    assert environment['device'] == '@numpy'


CPUINFO = (
    'processor\t: {core}\ncpu family\t: {family}\nmodel\t\t: 17\n'
    'model name\t: {name}\nflags\t\t: fpu avx2 avx512f\n\n'
)


@pytest.mark.parametrize(
    ('name', 'family', 'told'),
    [
        ('AMD EPYC', 25, 'AMD EPYC (family 25, model 17)'),
        ('AMD EPYC', 26, 'AMD EPYC (family 26, model 17)'),
        ('Intel(R) Xeon(R) Processor', 6, 'Intel(R) Xeon(R) Processor (family 6, model 17)'),
        ('AMD EPYC 9654 96-Core Processor', 25, 'AMD EPYC 9654 96-Core Processor'),
    ],
)
def test_processors_that_hide_their_model_are_told_apart(name, family, told, tmp_path, monkeypatch):
    lines, file = machine.name_value_lines, tmp_path / 'cpuinfo'
    file.write_text(''.join(CPUINFO.format(core=n, name=name, family=family) for n in (0, 1)))
    monkeypatch.setattr(machine, 'name_value_lines', lambda path: lines(file))
    assert machine.processor() == {'processor': told, 'instructions': ['avx2', 'avx512f']}


def test_a_trial_that_goes_on_elsewhere_says_so_and_names_all_places(tmp_path, monkeypatch):
    config, said = tiny.config('cross_entropy'), []
    with pytest.raises(StoppedError):
        tiny.run(config, tmp_path, stop_after(2), seconds=0)
    here = result.environment
    monkeypatch.setattr(
        result, 'environment', lambda *place: here(*place) | {'threads': 64, 'backend': 'other'}
    )
    with pytest.raises(StoppedError):
        tiny.run(config, tmp_path, stop_after(3), seconds=0)
    monkeypatch.setattr(result, 'environment', here)
    made = tiny.run(config, tmp_path, trial.Observer(warn=said.append))
    first, second = made['environments']
    assert (first['threads'], first['backend']) == (64, 'other')
    assert second == made['environment']
    (line,) = said
    assert f'continues with backend {second["backend"]}, threads {second["threads"]}' in line
    assert 'began with backend other, threads 64' in line


def test_a_trial_that_goes_on_with_changed_code_says_so(tmp_path, monkeypatch):
    config, said = tiny.config('cross_entropy'), []
    with pytest.raises(StoppedError):
        tiny.run(config, tmp_path, stop_after(2), seconds=0)
    monkeypatch.setattr(result, 'source_digest', lambda: 64 * 'e')
    made = tiny.run(config, tmp_path, trial.Observer(warn=said.append))
    first, second = made['environments']
    assert first['source'] == version.source_digest()[:12]
    assert second['source'] == 12 * 'e'
    (line,) = said
    assert f'began with source {first["source"]}; continues with source {12 * "e"}. ' in line


def test_a_trial_that_goes_on_in_the_same_place_says_nothing(tmp_path):
    config, said = tiny.config('cross_entropy'), []
    with pytest.raises(StoppedError):
        tiny.run(config, tmp_path, stop_after(2), seconds=0)
    made = tiny.run(config, tmp_path, trial.Observer(warn=said.append))
    assert said == []
    assert len(made['environments']) == 1


def test_a_finished_trial_is_that_of_its_data_only(tmp_path, monkeypatch):
    config = tiny.config('cross_entropy')
    first = tiny.run(config, tmp_path)
    changed = tiny.changed_dataset()
    with pytest.raises(ConfigError, match='has a result from other data') as error:
        tiny.run(config, tmp_path, dataset=changed)
    assert first['data']['digest'] in error.value.seen
    assert changed.digest in error.value.seen


def test_the_result_of_another_trial_is_not_taken_for_that_of_this_one(tmp_path):
    first, second = (tiny.config('cross_entropy', seed=seed) for seed in (0, 1))
    tiny.run(first, tmp_path)
    shutil.copytree(tiny.folder(first, tmp_path), tiny.folder(second, tmp_path))
    with pytest.raises(DataError, match='is the result of another trial') as error:
        tiny.run(second, tmp_path)
    assert error.value.seen == first.trial
    seen = Overview([first, second], tmp_path).trials
    assert [(trial.state, trial.detail) for trial in seen] == [
        ('done', None), ('damaged', f'it is the result of {first.trial}'),
    ]  # fmt: skip


def test_where_the_data_cannot_be_read_the_result_says_which_it_was_made_from(
    tmp_path, monkeypatch
):
    config, said = tiny.config('cross_entropy'), []
    first = tiny.run(config, tmp_path)

    def gone(name, data, on_bytes=None):
        raise DataError('no CIFAR-10 in /nosuch', seen='nothing', fix='none')

    monkeypatch.setattr(trial.datasets, 'load', gone)
    assert tiny.run(config, tmp_path, trial.Observer(warn=said.append)) == first
    (line,) = said
    assert line.startswith('no CIFAR-10 in /nosuch: ')
    assert first['data']['digest'] in line


def test_nothing_is_downloaded_for_a_trial_that_is_done(tmp_path, monkeypatch):
    config = tiny.config('cross_entropy')
    first = tiny.run(config, tmp_path)
    monkeypatch.setattr(trial.datasets, 'at_hand', lambda name, data: False)
    monkeypatch.setattr(trial.datasets, 'load', lambda *_: pytest.fail('loaded'))
    assert tiny.run(config, tmp_path) == first


@pytest.mark.parametrize(
    ('path', 'value', 'seen'),
    [
        (('seed',), 7, 'seed 7, now 0'),
        (('common', 'batch_size'), 12, 'common.batch_size 12, now 56'),
        (('stages', 'train', 'learning_rate'), 5, 'stages.train.learning_rate 5, now 0.1'),
        (('stages', 'train', 'new'), 5, 'stages.train.new 5, now None'),
        (('data',), 'abc', 'data abc, now '),
    ],
)
def test_a_configuration_that_somebody_edited_is_refused_with_the_key_that_differs(
    path, value, seen, tmp_path
):
    config = tiny.config('cross_entropy')
    with pytest.raises(StoppedError):
        tiny.run(config, tmp_path, stop_after(1))
    place = tiny.folder(config, tmp_path) / 'config.json'
    content = store.read_sealed(place)
    section = content
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    store.write_sealed(place, content)
    with pytest.raises(ConfigError, match='begun with other data or settings') as error:
        tiny.run(config, tmp_path)
    assert error.value.seen.startswith(seen)
    place.write_text(json.dumps(content, indent=1))
    with pytest.raises(DataError, match='has been altered') as error:
        tiny.run(config, tmp_path)
    assert seen in error.value.seen
