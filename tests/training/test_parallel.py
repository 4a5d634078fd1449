"""Several processes of a real MPI train one trial."""

import contextlib
import json
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import clothing_files
import mpi
import numpy as np
import pytest
import tiny

from chainer_jo import config as configuration
from chainer_jo import store
from chainer_jo.datasets import clothing1m
from chainer_jo.errors import ConfigError, OutOfMemoryError, StoppedError
from chainer_jo.training import (
    data,
    epoch_tables,
    evaluation,
    mpiexec,
    parallel,
    processes,
)
from chainer_jo.training.assembly import assemble

BATCH = 'common.batch_size=48'  # For two ranks and for three; reaches over the ends of epochs.
PENCIL = {'warm_up': 1, 'correct': 2, 'fine_tune': 1}
CLI = ('-m', 'chainer_jo')
# Chainer itself could not be the first import.
SHARED = ['-c', 'import chainer_jo, shared_labels; shared_labels.main()']
RESUME = ['-c', 'import chainer_jo, shared_resume; shared_resume.main()']
INDEX = ['-c', 'import chainer_jo, shared_index; shared_index.main()']


@pytest.fixture(scope='module')
def ours(tmp_path_factory):
    """The paper's method as two processes, not interrupted: its configuration and folder."""
    config, out = tiny.config('ours', BATCH), tmp_path_factory.mktemp('whole') / 'two'
    mpi.train(config, out, 2, '--snapshot-seconds', '0')
    return config, out


def assert_is_the_emulated(config, out, size):
    expected = mpi.emulate(config, size)
    folder = tiny.folder(config, out)
    saved = store.read_arrays(folder / 'model.arrays')
    for name, array in saved.items():
        np.testing.assert_allclose(
            array, expected[f'net/{name}'], rtol=2e-3, atol=2e-5, err_msg=name
        )
    labels = store.read_arrays(folder / 'labels.arrays')['y']
    np.testing.assert_allclose(labels, expected['labels/y'], atol=1e-5)


@mpi.NEEDED
def test_two_processes_end_where_a_slow_emulation_of_them_does(ours):
    config, out = ours
    assert_is_the_emulated(config, out, 2)


@mpi.NEEDED
def test_three_processes_that_learn_labels_end_where_a_slow_emulation_of_them_does(tmp_path):
    epochs = (f'pencil.{stage}.epochs={n}' for stage, n in PENCIL.items())
    config = tiny.config('pencil', BATCH, *epochs)
    mpi.train(config, tmp_path / 'three', 3)
    assert_is_the_emulated(config, tmp_path / 'three', 3)


# Without mix-up and batch statistics everything is a mean over images, or of such means.
@mpi.NEEDED
@pytest.mark.parametrize(
    ('method', 'size', 'settings'),
    [('tanaka', 3, []), ('pencil', 3, [])],
)
def test_what_is_a_mean_over_images_is_that_of_one_process(method, size, settings, tmp_path):
    settings = [BATCH, *settings]
    words = [*mpi.STEPS, method, 'correct', 7, tmp_path / 'rank', *settings]
    assert mpi.run(size, words, tmp_path / 'log') == 0, (tmp_path / 'log').read_text()
    expected = mpi.steps(tiny.config(method, *settings), 'correct', 7, processes.ALONE)
    ranks = [np.load(tmp_path / f'rank{rank}.npz') for rank in range(size)]
    for name, array in expected.items():
        # Sums are each rank's own until the epoch ends.
        seen = sum(rank[name] for rank in ranks) if name == 'sums' else ranks[0][name]
        np.testing.assert_allclose(seen, array, rtol=1e-4, atol=1e-5, err_msg=name)
        if name != 'sums':
            assert all(np.array_equal(seen, other[name]) for other in ranks), name


@mpi.NEEDED
def test_a_killed_process_ends_the_others_and_the_trial_resumes_bit_identical(ours, tmp_path):
    config, whole = ours
    words = [*CLI, *tiny.words(config, tmp_path, '--snapshot-seconds', '0')]
    started, log = mpi.start(2, words, tmp_path / 'log'), tmp_path / 'log'
    end = time.monotonic() + mpi.PATIENCE
    while 'epoch 2' not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(one_of(words), signal.SIGKILL)
    assert started.wait(mpi.PATIENCE) != 0
    assert time.monotonic() - began < 30
    assert list(tiny.folder(config, tmp_path).glob('snapshot-*'))
    with pytest.raises(ConfigError, match='was begun by 2 processes') as refused:
        tiny.run(config, tmp_path)
    assert 'mpiexec -n 2' in refused.value.fix
    assert mpi.run(2, words, log) == 0, log.read_text()
    assert tiny.outcome(config, tmp_path) == tiny.outcome(config, whole)


def one_of(words):
    """The pid of the last rank that runs ``words``."""
    line = '\0'.join(map(str, words)) + '\0'
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            command = path.read_text()
        except OSError:
            continue
        if command.endswith(line) and 'mpiexec' not in command:
            found.append(int(path.parent.name))
    return max(found)


FAULTY = """
import sys
from chainer_jo import cli
from chainer_jo.training import processes
from chainer_jo.training.updaters import StageUpdater
step = StageUpdater.step
def fail(updater):
    if updater.iteration == 3 and processes.present().rank == 1:
        raise MemoryError('no more was given')
    step(updater)
StageUpdater.step = fail
cli.main(sys.argv[1:])
"""


@mpi.NEEDED
def test_a_process_that_fails_alone_says_why_and_ends_the_others(tmp_path):
    config, log = tiny.config('cross_entropy', BATCH), tmp_path / 'log'
    words = ['-c', FAULTY, *tiny.words(config, tmp_path, '--snapshot-seconds', '0')]
    began = time.monotonic()
    assert mpi.run(2, words, log) == 7
    assert time.monotonic() - began < 30
    said = log.read_text()
    assert said.count('error: the memory of this machine is full\n  seen: no more was given') == 1
    assert 'process 1 of 2 has failed; all processes are stopped' in said
    assert list(tiny.folder(config, tmp_path).glob('snapshot-*'))


@mpi.NEEDED
@pytest.mark.parametrize(
    ('words', 'problem'),
    [
        (['cross_entropy', BATCH], 'a batch of 48 cannot be divided among 5 processes'),
        pytest.param(
            None, 'only the command train can run as several processes', marks=pytest.mark.long
        ),
    ],
)
def test_what_is_wrong_for_all_is_said_once(words, problem, tmp_path):
    arguments = tiny.words(tiny.config(*words), tmp_path / 'out') if words else ['methods']
    assert mpi.run(5, [*CLI, *arguments], tmp_path / 'log') == 2
    lines = (tmp_path / 'log').read_text().splitlines()
    assert [line.split(':')[0].strip() for line in lines[-3:]] == ['error', 'seen', 'fix']
    assert lines[-3] == f'error: {problem}'
    assert '\n'.join(lines).count('error:') == 1
    assert not (tmp_path / 'out').exists()


@mpi.NEEDED
@pytest.mark.long
def test_a_signal_to_mpiexec_leaves_a_snapshot_and_its_exit_code(tmp_path):
    config, log = tiny.config('ours', BATCH, 'ours.correct.epochs=300'), tmp_path / 'log'
    started = mpi.start(3, [*CLI, *tiny.words(config, tmp_path)], log)
    end = time.monotonic() + mpi.PATIENCE
    while 'epoch 2' not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)
    started.send_signal(signal.SIGTERM)
    assert started.wait(mpi.PATIENCE) == 128 + signal.SIGTERM
    assert log.read_text().count('error: stopped by SIGTERM') == 1
    assert len(list(tiny.folder(config, tmp_path).glob('snapshot-*'))) == 1


@mpi.NEEDED
def test_two_processes_train_on_files_and_tell_of_an_image_that_either_has_lost(tmp_path):
    clothing_files.make(tmp_path / 'data', (300, 32, 32))
    facts = clothing_files.verify(tmp_path / 'data', tmp_path / 'index', limit=0.02)
    small = tiny.overrides('cross_entropy', 'clothing1m')
    config = configuration.trial('cross_entropy', 'clothing1m', 'none', None, 0, 'quick', small)
    train = data.prepare(clothing1m.load(facts['index']), config).train
    # In the second half of the first batch, which the second process reads.
    lost = epoch_tables.draw(0, 'train', 0, len(train), config.common).index[0, -1]
    os.remove(train.source.paths[train.places()[lost]])

    mpi.train(config, tmp_path / 'out', 2, '--data', facts['index'])

    rows = tiny.outcome(config, tmp_path / 'out')['log.jsonl']
    assert [row['unreadable'] for row in rows] == [1] * 3
    said = (tmp_path / 'out.log').read_text()
    assert said.count('a blank image replaces it') == 1
    assert said.count('clothing1m: ') == len(list(clothing1m.notes(facts))) > 0


@mpi.NEEDED
@pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='only Linux says')
def test_a_million_labels_of_14_classes_take_200_mb_in_three_processes_together(tmp_path):
    found = mpi.answer(3, SHARED, tmp_path / 'log')
    assert found['right'] == 3
    # Labels, sums and counts once: 116 MB.
    assert 100e6 < found['bytes'] < 200e6


@mpi.NEEDED
@pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='only Linux says')
def test_the_index_of_clothing1m_is_held_once_by_three_processes_together(tmp_path, monkeypatch):
    n = 60_000
    index = clothing_files.large_index(tmp_path / 'data', n, monkeypatch)
    found = mpi.answer(3, [*INDEX, index], tmp_path / 'log')
    assert (found['right'], found['images']) == (3, n - 200)
    # Path, its end, place and label are 42; each process its own would be 126 and more.
    assert 40 * n < found['bytes'] < 100 * n


@mpi.NEEDED
@pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='only Linux says')
def test_a_rank_that_goes_on_gets_its_own_part_of_a_snapshot_and_no_copy_of_the_labels(tmp_path):
    found = mpi.answer(3, RESUME, tmp_path / 'log')
    assert found['right'] == 3
    assert found['bytes'] < found['labels'] / 4


def test_labels_that_do_not_fit_in_shared_memory_are_an_error_and_no_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, 'SHARED_MEMORY', str(tmp_path))
    parallel._check_shared_memory(1)
    with pytest.raises(OutOfMemoryError, match='do not fit in the shared memory') as refused:
        parallel._check_shared_memory(1 << 60)
    assert '--shm-size' in refused.value.fix


@pytest.mark.parametrize('size', [2, 3, 40])
def test_the_accuracy_of_parts_added_up_is_that_of_the_whole(size):
    config = tiny.config('cross_entropy', 'common.batch_size=120')
    data, hits = tiny.prepare(config), []

    def total(*numbers):
        hits.append(numbers)
        return numbers

    for rank in range(size):
        part = mpi.Part(rank, size)
        part.total = total
        validation = assemble(config, data, tiny.machine(ranks=part)).evaluators[0]
        # One of 40 may have none of 32 images, and no accuracy of its own.
        with contextlib.suppress(ZeroDivisionError):
            validation()
    right, images = np.sum(hits, axis=0)
    whole = assemble(config, data, tiny.machine()).evaluators[0]()
    assert images == len(data.validation)
    assert whole == {'validation/main/accuracy': right / images}


@mpi.NEEDED
@pytest.mark.parametrize('size', [2, 3])
def test_a_pass_over_all_images_is_divided_and_all_processes_have_its_outputs(size, tmp_path):
    words = [*mpi.OUTPUTS, tmp_path / 'rank']
    assert mpi.run(size, words, tmp_path / 'log') == 0, (tmp_path / 'log').read_text()
    ranks = [np.load(tmp_path / f'rank{rank}.npz') for rank in range(size)]
    made = tiny.assembly(tiny.config('ours', BATCH))
    expected = evaluation.outputs(made.method, made.train)
    for rank in ranks:
        np.testing.assert_allclose(rank['f'], expected, atol=1e-6)
    # 128 images: each of them was read by one process.
    read = [int(rank['read']) for rank in ranks]
    assert sum(read) == 128
    assert max(read) <= 128 // size + 1


@mpi.NEEDED
def test_the_number_of_processes_is_in_the_result_and_not_in_the_id(ours):
    config, out = ours
    folder = tiny.folder(config, out)
    result = json.loads((folder / 'result.json').read_text())
    assert result['environment']['processes'] == 2
    assert json.loads((folder / 'config.json').read_text())['processes'] == 2
    assert configuration.from_dict(result['config']).trial == folder.name == config.trial


def test_one_process_is_not_mentioned(tmp_path):
    config = tiny.config('cross_entropy')
    assert 'processes' not in tiny.run(config, tmp_path)['environment']
    assert 'processes' not in json.loads(
        (tiny.folder(config, tmp_path) / 'config.json').read_text()
    )


@pytest.mark.parametrize('size', [2, 3])
def test_the_parts_of_a_table_are_its_columns_and_partners_lie_within_a_part(size):
    common = {'batch_size': 12, 'pad': 4, 'flip': True}
    whole = epoch_tables.draw(0, 'x', 0, 50, common, mixing={'a': 4.0, 'per': 'batch'})
    parts = [whole.part(rank, size) for rank in range(size)]
    for name in ('index', 'turn', 'offset', 'flip'):
        joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
        np.testing.assert_array_equal(joined, getattr(whole, name))
    for part in parts:
        assert part.partner.dtype == whole.partner.dtype
        np.testing.assert_array_equal(part.lam, whole.lam)
        for row in part.partner:
            assert sorted(row) == list(range(12 // size))


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [
        ({}, (1, 0)),
        ({'PMI_SIZE': '3', 'PMI_RANK': '2'}, (3, 2)),
        ({'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '1'}, (2, 1)),
        ({'PMI_SIZE': '1', 'PMI_RANK': '0'}, (1, 0)),
    ],
)
def test_an_mpiexec_is_known_by_what_it_says(variables, expected, monkeypatch):
    for name in (*mpiexec.VARIABLES, *mpiexec.VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert mpiexec.launched() == expected


def test_an_mpiexec_without_mpi4py_is_an_error_with_its_fix(monkeypatch):
    monkeypatch.setenv('PMI_SIZE', '2')
    monkeypatch.setenv('PMI_RANK', '1')
    monkeypatch.setitem(sys.modules, 'mpi4py', None)
    monkeypatch.setattr(processes, '_present', processes.ALONE)
    with pytest.raises(ConfigError, match='mpi4py cannot be used') as refused:
        parallel.join()
    assert 'pip install ".[mpi]"' in refused.value.fix
    # It says so for all.
    assert processes.present().rank == 1


def test_no_kernel_of_chainermn_is_asked_to_pack(tmp_path):
    """They do not compile with CuPy 14, and on GPUs it packs with them unless it is told not to."""
    script = """
import chainer_jo, chainer, chainermn
from chainer_jo.training import parallel
from mpi4py import MPI
assert chainermn.create_communicator('naive').batched_copy
ranks = parallel.Ranks(MPI)
ranks.connect(chainer.get_device('@numpy'))
assert not ranks._communicator.batched_copy
"""
    assert mpi.run(2, ['-c', script], tmp_path / 'log') == 0, (tmp_path / 'log').read_text()


@pytest.mark.parametrize(
    ('found', 'problem'),
    [
        ([('a', None), ('a', None), ('b', None)], None),
        ([('a', '0000:1'), ('a', '0000:2'), ('b', '0000:1')], None),
        ([('a', '0000:1'), ('a', '0000:1')], '2 processes found 1 GPU'),
        ([('a', '0000:1'), ('b', None)], '1 of 2 processes found a GPU'),
    ],
)
def test_processes_that_would_share_a_gpu_or_mix_it_with_a_cpu_are_refused(found, problem):
    refused = pytest.raises(ConfigError, match=problem) if problem else contextlib.nullcontext()
    with refused:
        parallel._check_gpus(found)


@mpi.NEEDED
def test_gpus_that_nccl_does_not_reach_are_an_error_with_its_fix(tmp_path):
    script = """
import chainer_jo
from chainer_jo.errors import ConfigError
from chainer_jo.training import parallel
from mpi4py import MPI
class Broken:
    def bcast_data(self, method):
        raise RuntimeError('NCCL_ERROR_SYSTEM_ERROR')
class Updater:
    class method:
        xp = None
ranks = parallel.Ranks(MPI)
ranks._communicator = Broken()
try:
    ranks.begin(Updater)
except ConfigError as error:
    assert 'NCCL_ERROR_SYSTEM_ERROR' in error.seen and '--shm-size' in error.fix
else:
    raise AssertionError
"""
    assert mpi.run(2, ['-c', script], tmp_path / 'log') == 0, (tmp_path / 'log').read_text()


def test_an_error_is_the_same_in_another_process():
    for error in (
        ConfigError('wrong', seen='a', fix='b'),
        StoppedError(signal.SIGTERM, seen='a', fix='b'),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), copy.exit_code) == (str(error), error.exit_code)
