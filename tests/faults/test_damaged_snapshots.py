"""F-05 to F-08: a damaged or foreign snapshot is noticed, named, set aside, and never used."""

import hashlib
import io
import os
import random
import shutil
import signal

import children
import numpy as np
import pytest
import tiny

from chainer_jo import store
from chainer_jo.errors import ConfigError, DataError, StoppedError
from chainer_jo.training import snapshot, trial


def stop_after_epoch(epoch):
    """An Observer that ends a trial after an epoch, as an error would: without a snapshot."""

    def observe(row):
        if row['epoch'] == epoch:
            raise StoppedError(signal.SIGTERM, seen='', fix='')

    return trial.Observer(lambda *_: None, observe, lambda *_: None)


CONFIG = tiny.config('ours')


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    """The folder of a trial that broke off and left two snapshots."""
    out = tmp_path_factory.mktemp('stopped')
    with pytest.raises(StoppedError):
        tiny.run(CONFIG, out, stop_after_epoch(4), seconds=0)
    return tiny.folder(CONFIG, out)


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
    out = tmp_path_factory.mktemp('whole')
    tiny.run(CONFIG, out)
    return tiny.outcome(CONFIG, out)


@pytest.fixture
def broken(stopped, tmp_path):
    """A copy of that folder, to be damaged."""
    copy = tiny.folder(CONFIG, tmp_path)
    shutil.copytree(stopped, copy)
    return copy


def read(folder):
    """Returns the arrays that a trial would go on from, and the warnings."""
    warnings = []
    (identity,) = {str(store.read_arrays(path)['identity']) for path in snapshots(folder)[1:]}
    return snapshot.read_newest(folder, identity, warnings.append), warnings


def snapshots(folder):
    return snapshot.list_newest_first(folder)


def check_that_the_older_one_is_used(folder):
    newest, older = snapshots(folder)
    wanted, (arrays, (warning,)) = store.read_arrays(older), read(folder)
    assert arrays.keys() == wanted.keys()
    assert all(np.array_equal(arrays[name], wanted[name]) for name in wanted)
    assert f'{newest} is damaged' in warning
    assert snapshots(folder) == [older]
    assert newest.with_suffix('.corrupt').exists()


@pytest.mark.parametrize('count', [50, pytest.param(200, marks=pytest.mark.long)])
def test_a_snapshot_truncated_anywhere_is_noticed(count, broken, figure):
    newest, lengths = snapshots(broken)[0], random.Random(0)
    whole = newest.read_bytes()
    for length in [0, len(whole) - 1, *lengths.sample(range(len(whole)), count - 2)]:
        newest.write_bytes(whole[:length])
        check_that_the_older_one_is_used(broken)
    figure('F-05', f'{count} truncations, {count} noticed')


@pytest.mark.parametrize('count', [100, pytest.param(1000, marks=pytest.mark.long)])
def test_a_snapshot_with_a_flipped_bit_is_noticed(count, broken, figure):
    newest, bits = snapshots(broken)[0], random.Random(0)
    whole = newest.read_bytes()
    for bit in bits.sample(range(8 * len(whole)), count):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        newest.write_bytes(damaged)
        check_that_the_older_one_is_used(broken)
    figure('F-06', f'{count} flipped bits, {count} noticed')


def test_from_the_older_snapshot_a_trial_ends_identical(broken, expected):
    newest = snapshots(broken)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    tiny.run(CONFIG, broken.parents[1])
    (broken / f'{newest.stem}.corrupt').unlink()
    assert tiny.outcome(CONFIG, broken.parents[1]) == expected


def test_with_all_snapshots_damaged_a_trial_starts_anew_and_says_so(broken, expected, figure):
    paths, warnings, starts = snapshots(broken), [], []
    for path in paths:
        path.write_bytes(b'nothing of a snapshot')
    observer = trial.Observer(
        lambda epochs, rows: starts.append(rows), lambda *_: None, warnings.append
    )
    tiny.run(CONFIG, broken.parents[1], observer)
    assert len(starts[0]) == len(expected['log.jsonl'])
    assert [warning.split(', ')[-1] for warning in warnings] == [
        'an older one is used',
        'the trial starts over',
    ]
    for path in paths:
        path.with_suffix('.corrupt').unlink()
    assert tiny.outcome(CONFIG, broken.parents[1]) == expected
    figure('F-07', 'all snapshots damaged, started anew, identical')


def test_a_snapshot_of_another_seed_is_refused_with_both_identities(stopped, tmp_path, figure):
    other = tiny.config('ours', seed=1)
    folder = tiny.folder(other, tmp_path / 'out')
    folder.mkdir(parents=True)
    foreign = shutil.copy(snapshots(stopped)[0], folder)
    child = children.Child(tiny.words(other, tmp_path / 'out'), tmp_path / 'log')
    assert child.wait() == ConfigError.exit_code == 2
    assert f'error: {foreign} belongs to another configuration' in child.said()
    assert str(store.read_arrays(foreign)['identity']) in child.said()
    assert not (folder / 'result.json').exists()
    figure('F-08', 'snapshot of another seed refused with exit code 2')


def test_snapshots_are_taken_by_number_and_not_by_time(broken):
    newest, older = snapshots(broken)
    os.utime(newest, (0, 0))
    assert snapshots(broken) == [newest, older]


def test_a_snapshot_with_a_pickle_is_not_loaded(broken):
    """The digest is right, so only the reader's refusal of objects is left to stop it."""

    class Harm:
        def __reduce__(self):
            return Harm.done.append, (1,)

        done = []

    newest = snapshots(broken)[0]
    buffer = io.BytesIO()
    np.savez(buffer, identity=np.array(Harm(), object))
    content = buffer.getvalue()
    newest.write_bytes(store.MAGIC + hashlib.sha256(content).digest() + content)
    check_that_the_older_one_is_used(broken)
    assert Harm.done == []


@pytest.mark.parametrize('text', [None, '[3]', '{"a": 1}', '[' * 10**5])
@pytest.mark.parametrize('name', ['log', 'environments'])
def test_a_forged_snapshot_whose_texts_are_none_is_noticed(name, text, broken):
    newest = snapshots(broken)[0]
    arrays = store.read_arrays(newest)
    arrays[name] = np.array(text)
    if text is None:
        del arrays[name]
    store.write_arrays(newest, arrays)
    check_that_the_older_one_is_used(broken)


@pytest.mark.parametrize('change', ['missing', 'shape', 'type'])
def test_a_forged_snapshot_of_another_net_is_refused(change, broken, figure):
    for path in snapshots(broken):
        arrays = store.read_arrays(path)
        name = max(arrays, key=lambda name: arrays[name].nbytes)
        changed = {'shape': arrays[name][:1], 'type': arrays[name].astype('f8')}
        arrays |= {name: changed[change]} if change in changed else {}
        if change == 'missing':
            del arrays[name]
        store.write_arrays(path, arrays)
    with pytest.raises(DataError) as caught:
        tiny.run(CONFIG, broken.parents[1])
    assert name in caught.value.seen
    figure('forged', f'a snapshot with its digest right, one array of another {change}: refused')
