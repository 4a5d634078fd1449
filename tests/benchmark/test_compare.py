import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from chainer_jo import backends, config
from chainer_jo.benchmark import compare, page, process, systems, workload
from chainer_jo.errors import ChainerJoError, ConfigError
from chainer_jo.training import device

CONTRACT = {
    'system': str,
    'device': str,
    'precision': str,
    'seconds_per_step': float,
    'images_per_second': float,
    'peak_memory_bytes': int,
}
NET = {'filters': [8, 8, 16], 'blocks': [2, 1], 'stem_stride': 2}
OPTIMIZER = {'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4}
small = partial(
    workload.create, net=NET, optimizer=OPTIMIZER, batch=16, images=32, evaluation_images=20
)


def has_bfloat16():
    try:
        backends.check_precision('bfloat16')
    except ConfigError:
        return False
    return True


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    """A report without PyTorch, what was said on the way, and its folder."""
    folder, said = tmp_path_factory.mktemp('benchmark'), []
    report = compare.run('cpu', 4, '/no/such/python', folder, said.append, small)
    return report, said, folder


def test_every_row_has_the_keys_that_scripts_rely_on(measured):
    report, _, folder = measured
    assert json.loads((folder / 'cpu.json').read_text()) == report
    for row in report['rows']:
        assert {key: type(row[key]) for key in CONTRACT} == CONTRACT
        assert row['images_per_second'] == pytest.approx(16 / row['seconds_per_step'])
        assert row['seconds_per_epoch'] == pytest.approx(45_000 / row['images_per_second'])
        assert 10 << 20 < row['peak_memory_bytes'] < 10 << 30


@pytest.mark.usefixtures('onednn_loaded')
def test_this_project_is_beside_stock_chainer_in_every_precision_of_the_machine(measured):
    rows = measured[0]['rows']
    expected = [('chainer', 'float32'), ('chainer_jo', 'float32')]
    expected += [('chainer_jo', 'bfloat16')] if has_bfloat16() else []
    assert [(row['system'], row['precision']) for row in rows] == expected
    assert rows[1]['augmentation_share'] > 0


def test_every_system_takes_part_in_every_round(measured):
    assert {row['steps'] for row in measured[0]['rows']} == {4}


def test_without_pytorch_the_others_are_measured_and_the_page_says_so(measured):
    report, said, folder = measured
    (note,) = {note for note in report['notes'] if note.startswith('pytorch float32')}
    assert 'No such file' in note
    assert note in said
    assert f'- {note}\n' in (folder / 'cpu.md').read_text()


def test_the_page_has_a_line_for_every_row(measured):
    report = measured[0]
    text = page.to_markdown(report)
    for row in report['rows']:
        assert f'| {row["system"]} | {row["precision"]} | {row["seconds_per_step"]:.3f} |' in text


def test_the_page_gives_speed_as_the_ratio_of_the_medians():
    row = dict.fromkeys(('seconds_per_epoch', 'images_per_second'), 1.0) | {
        'evaluation_images_per_second': 1.0, 'steps': 1, 'parameters': 1, 'versions': 'V',
        'precision': 'float32',
    }  # fmt: skip
    slow = row | {'system': 'chainer', 'seconds_per_step': 9.0, 'peak_memory_bytes': 4 << 30}
    fast = row | {'system': 'chainer_jo', 'seconds_per_step': 0.5, 'peak_memory_bytes': 1 << 30}
    report = {
        'date': '2000-01-02T03:04:05', 'notes': [], 'rows': [slow, fast],
        'device': 'cpu', 'steps_a_turn': 1,
        'machine': compare.machine.describe(),
        'workload': {'net': NET, 'batch': 16, 'epoch_images': 45_000},
    }  # fmt: skip
    assert (
        'chainer_jo float32 is 18.00 times as fast as chainer float32, with 0.25 times its memory'
    ) in page.to_markdown(report)


@pytest.mark.usefixtures('onednn_loaded')
def test_systems_that_compute_different_things_are_not_compared(tmp_path):
    one = small(tmp_path)
    other = dataclasses.replace(one, optimizer=OPTIMIZER | {'learning_rate': 0.08})
    running = systems.systems('cpu', '/no/such/python', NET)[:2]
    for system, work in zip(running, (one, other), strict=True):
        with process.WorkerProcess(system.command(work)) as system.process:
            system.losses = [system.process.ask('step 1')['loss'] for _ in range(2)]
    assert running[0].losses[0] == pytest.approx(running[1].losses[0], rel=1e-5)
    with pytest.raises(ChainerJoError, match='chainer_jo float32 does not compute the same'):
        compare.check_same(running[1], running[0])


ANSWERS = """
import json
print(json.dumps({'versions': 'V', 'parameters': 6482}), flush=True)
while True:
    input()
    print(json.dumps({'seconds': 1.0, 'loss': 9.0}), flush=True)
"""


def test_such_a_system_is_left_out_and_the_others_are_measured(tmp_path):
    reference = systems.systems('cpu', '/no/such/python', NET)[0]
    odd = systems.System('odd', [sys.executable, '-c', ANSWERS], dict(reference.task))
    with contextlib.ExitStack() as processes:
        work = small(tmp_path)
        running, notes = compare._start([reference, odd], work, processes, lambda _: None)
        assert reference.process.greeting['parameters'] == 6482
    assert running == [reference]
    (note,) = notes
    assert 'odd float32 does not compute the same as chainer float32' in note


def test_a_worker_that_dies_is_an_error_that_says_why(tmp_path):
    words = [sys.executable, '-c', 'raise OSError("no more")']
    with pytest.raises(process.WorkerError) as raised, process.WorkerProcess(words):
        pass
    assert 'OSError: no more' in raised.value.seen
    greets = 'print("{}", flush=True); input(); raise OSError("in the step")'
    words = [sys.executable, '-c', greets]
    with process.WorkerProcess(words) as worker, pytest.raises(process.WorkerError) as raised:
        worker.ask('step 1')
    assert 'OSError: in the step' in raised.value.seen


def test_a_worker_that_the_system_kills_is_said_to_lack_memory():
    words = [sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)']
    with pytest.raises(process.WorkerError) as raised, process.WorkerProcess(words):
        pass
    assert raised.value.seen == 'killed, as the system does if memory runs out'
    assert raised.value.fix == 'close other programs, or free memory in another way'


def test_an_idle_worker_uses_no_processor_time(tmp_path):
    system = systems.systems('cpu', '/no/such/python', NET)[0]
    with process.WorkerProcess(system.command(small(tmp_path))) as worker:
        worker.ask('step 1')
        time.sleep(systems.PAUSE_SECONDS)
        before = processor_seconds(worker._process.pid)
        time.sleep(0.5)
        assert processor_seconds(worker._process.pid) - before <= 0.05


def processor_seconds(pid):
    path = Path(f'/proc/{pid}/stat')
    if not path.exists():
        pytest.skip('no /proc here')
    user, system = path.read_text().rpartition(')')[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def test_all_workers_wait_in_the_same_way(monkeypatch):
    monkeypatch.setenv('OMP_WAIT_POLICY', 'ACTIVE')
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    variables = process.environment()
    assert 'OMP_WAIT_POLICY' not in variables
    assert {variables[name] for name in process.THREAD_VARIABLES} == {'3'}


@pytest.mark.skipif(not device.describe().startswith('none'), reason='here is a GPU')
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='cuda:0 cannot be used'):
        compare.run('cuda:0', 1, None, tmp_path, print, small)
    assert list(tmp_path.iterdir()) == []


def test_the_workload_reads_back_what_was_drawn(tmp_path):
    work = small(tmp_path)
    arrays = work.read()
    net = workload.build(NET, rng=np.random.default_rng(0))
    assert {name.strip('/') for name, _ in net.namedparams()} <= set(arrays)
    assert arrays['x'].shape == (2, 16, 3, 32, 32)
    assert set(arrays['t'].ravel()) <= set(range(10))
    assert arrays['fc/W'].std() > 0


def test_the_papers_net_is_that_of_a_trial(tmp_path):
    work = workload.papers(tmp_path, images=256)
    described = config.trial('ours', 'cifar10', 'symmetric', 0.5, 0)
    assert work.net == described.net
    assert work.batch == described.common['batch_size'] == 128
    assert sum(np.prod(shape) for name, shape in work.shapes.items() if name.endswith('/W')) > 1e6


@pytest.mark.long  # torch.compile takes minutes.
@pytest.mark.skipif(not systems.PEER.exists(), reason='no .venv-peer: bash reproduce/benchmark.sh')
def test_pytorchs_net_is_the_same(tmp_path):
    report = compare.run('cpu', 1, None, tmp_path, lambda _: None, small)
    systems = [(row['system'], row['precision']) for row in report['rows']]
    assert ('pytorch', 'float32') in systems
    assert ('pytorch channels_last', 'bfloat16') in systems
    for row in report['rows']:
        assert row['parameters'] == report['rows'][0]['parameters']


@pytest.fixture
def resnet50():
    """ResNet-50 as in the benchmark, with few and small images."""
    net = workload.RESNET50 | {'size': 64}
    optimizer = {'learning_rate': 1e-3, 'momentum': 0.9, 'weight_decay': 1e-3}
    return partial(
        workload.create, net=net, optimizer=optimizer, batch=8, images=16, evaluation_images=4
    )


@pytest.mark.usefixtures('onednn_loaded')
@pytest.mark.long
def test_resnet_50_is_measured_by_the_epoch_of_clothing1m(resnet50, tmp_path):
    report = compare.run('cpu', 1, '/no/such/python', tmp_path, lambda _: None, resnet50)
    assert {path.name for path in tmp_path.iterdir()} == {'resnet50_cpu.json', 'resnet50_cpu.md'}
    assert 'Net: ResNet-50 for images of 64 x 64' in (tmp_path / 'resnet50_cpu.md').read_text()
    row = report['rows'][0]
    assert (row['system'], row['parameters']) == ('chainer_jo', 23_536_718)
    assert row['seconds_per_epoch'] == pytest.approx(1_000_000 / row['images_per_second'])


@pytest.mark.usefixtures('onednn_loaded')
@pytest.mark.long  # torch.compile takes minutes.
@pytest.mark.skipif(not systems.PEER.exists(), reason='no .venv-peer: bash reproduce/benchmark.sh')
def test_pytorchs_resnet_50_is_the_same(resnet50, tmp_path):
    report = compare.run('cpu', 1, None, tmp_path, lambda _: None, resnet50)
    names = ('chainer_jo', 'pytorch channels_last', 'pytorch channels_last compile')
    precisions = ('float32', 'bfloat16') if has_bfloat16() else ('float32',)
    found = [(row['system'], row['precision']) for row in report['rows']]
    assert found[: len(names) * len(precisions)] == [
        (name, precision) for precision in precisions for name in names
    ], report['notes']


@pytest.mark.long
def test_the_command_prints_the_rows_of_the_papers_net_as_json(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'chainer_jo', 'benchmark', '--steps', '1', '--json'],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert rows == json.loads((tmp_path / 'results/benchmarks/cpu.json').read_text())['rows']
    assert {row['parameters'] for row in rows} == {1_861_162}
