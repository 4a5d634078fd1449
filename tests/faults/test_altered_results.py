"""A finished trial whose files are not as they were written is noticed, named and never used."""

import json
import random
import shutil
import sys
from pathlib import Path

import children
import pytest
import readers
import seeds
import tiny

from chainer_jo import cli, store
from chainer_jo.datasets import clothing1m
from chainer_jo.errors import DataError
from chainer_jo.report import collect, integrity
from chainer_jo.sweep.overview import Overview
from chainer_jo.training import snapshot

CONFIG = tiny.config('cross_entropy')
NAMES = ('result.json', 'log.jsonl')
OTHERS = ('config.json', 'model.arrays', 'labels.arrays', 'noisy_labels.arrays')


def flipped(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def is_noticed(out):
    """Whether those who read results leave this one out, each of them."""
    folder = tiny.folder(CONFIG, out)
    results, unusable = collect.read_all(out)
    try:
        used = results and collect.read_log(folder, results[0])
    except DataError:
        used = []
    (planned,) = Overview([CONFIG], out).trials
    problems = integrity.verify(out)[2]
    return not used and planned.state == 'damaged' and bool(problems) and len(unusable) <= 1


def test_the_files_of_a_trial_as_they_were_written_are_in_order(out):
    assert integrity.verify(out) == (1, 6, [])
    assert not is_noticed(out)


@pytest.mark.parametrize('count', [200, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize('name', NAMES)
def test_no_flipped_bit_of_a_result_or_its_log_is_accepted(name, count, out, figure):
    path, bits = tiny.folder(CONFIG, out) / name, random.Random(0)
    whole, accepted = path.read_bytes(), []
    for bit in bits.sample(range(8 * len(whole)), count):
        path.write_bytes(whole)
        path.write_bytes(flipped(path, bit))
        if not is_noticed(out):
            accepted.append(bit)
    assert accepted == []
    figure('flips', f'{count} flipped bits of {name}, {count - len(accepted)} noticed')


def key_paths(record, path=()):
    for key, value in record.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from key_paths(value, (*path, key))


def test_no_renamed_key_of_a_result_is_accepted_at_any_depth(out):
    path = tiny.folder(CONFIG, out) / 'result.json'
    whole, accepted = path.read_text(), []
    for *above, key in key_paths(json.loads(whole)):
        altered = inner = json.loads(whole)
        for name in above:
            inner = inner[name]
        inner[f'{key}x'] = inner.pop(key)
        path.write_text(json.dumps(altered))
        if not is_noticed(out):
            accepted.append((*above, key))
    assert accepted == []


@pytest.mark.parametrize('name', NAMES)
def test_no_command_uses_an_altered_result(name, out, tmp_path, capsys, figure):
    path = tiny.folder(CONFIG, out) / name
    text = path.read_text()
    place = text.index('accuracy": 0.') + len('accuracy": 0.')
    path.write_text(f'{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}')
    overrides = [word for item in tiny.overrides('cross_entropy') for word in ('--set', item)]
    table = ['table2', '--preset', 'quick', '--out', str(out)]
    cell = ['--only', 'cross_entropy', '--rates', '0.5', '--trials', '1', *overrides]
    for words in (
        ['verify', str(out)],
        ['report', *table],
        ['plan', *table, *cell],
        ['show', str(path.parent)],
        tiny.words(CONFIG, out),
        ['run', *table, *cell, '--device', 'cpu'],
    ):
        with pytest.raises(SystemExit) as exited:
            cli.main(words)
        captured = capsys.readouterr()
        assert exited.value.code == 3, words
        assert CONFIG.trial in captured.out + captured.err
        assert 'Traceback' not in captured.err
    figure('altered', f'a digit of {name}: six commands, six times exit code 3')


@pytest.mark.parametrize('count', [20, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize('name', OTHERS)
def test_verify_notices_a_flipped_bit_of_every_other_file(name, count, out, figure):
    path, bits = tiny.folder(CONFIG, out) / name, random.Random(0)
    whole = path.read_bytes()
    for bit in bits.sample(range(8 * len(whole)), count):
        path.write_bytes(whole)
        path.write_bytes(flipped(path, bit))
        assert [Path(item['path']).name for item in integrity.verify(out)[2]] == [name], bit
    figure('verify', f'{count} flipped bits of {name}, {count} noticed')


@pytest.mark.parametrize('count', [10, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize('name', [*NAMES, *OTHERS])
def test_verify_notices_every_file_that_is_cut_short(name, count, out, figure):
    path, lengths = tiny.folder(CONFIG, out) / name, random.Random(0)
    whole = path.read_bytes()
    for length in [0, len(whole) - 1, *lengths.sample(range(len(whole)), count - 2)]:
        path.write_bytes(whole[:length])
        assert name in {Path(item['path']).name for item in integrity.verify(out)[2]}, length
        assert name not in NAMES or is_noticed(out), length
    figure('verify', f'{count} truncations of {name}, {count} noticed')


@pytest.mark.parametrize(
    ('flips', 'cuts'), [(50, 10), pytest.param(1000, 200, marks=pytest.mark.long)]
)
def test_an_index_of_clothing1m_that_has_changed_is_refused(flips, cuts, tmp_path, figure):
    whole, draw = readers.sealed_arrays(seeds.of('index of Clothing1M')[0]), random.Random(0)
    bits = draw.sample(range(8 * len(whole)), flips)
    damaged = [whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]
               for bit in bits]  # fmt: skip
    damaged += [whole[:length] for length in draw.sample(range(len(whole)), cuts)]
    path = tmp_path / 'index'
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DataError):
            clothing1m.load(path)
    figure('index', f'{flips} flipped bits and {cuts} truncations of an index, all refused')


def test_a_trial_that_is_not_there_is_not_in_order(out):
    for name in ('no such trial', 'a/runs/b'):
        assert integrity.verify(out / 'runs' / name) == (0, 0, [])


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs capabilities')
def test_a_folder_that_may_not_be_entered_hides_no_damage_of_others(out, tmp_path):
    folder = tiny.folder(CONFIG, out)
    closed = shutil.copytree(folder, folder.with_name('closed'))
    (folder / 'log.jsonl').write_text('damaged')
    closed.chmod(0)
    child = children.Child(['verify', str(out)], tmp_path / 'log', children.without_privileges)
    assert child.wait() == 3
    closed.chmod(0o700)
    assert f'{closed}: Permission denied' in child.said().splitlines()
    assert f'{folder / "log.jsonl"}: ' in child.said()


def test_verify_notices_whole_files_of_another_trial(out, tmp_path):
    other = tiny.config('cross_entropy', seed=1)
    tiny.run(other, tmp_path / 'other')
    for name in (*NAMES, *OTHERS):
        copy = shutil.copytree(out, tmp_path / name)
        shutil.copy(tiny.folder(other, tmp_path / 'other') / name, tiny.folder(CONFIG, copy))
        named = {Path(item['path']).name for item in integrity.verify(copy)[2]}
        assert name in named or name == 'log.jsonl' in named


def test_who_edits_a_result_is_told_what_no_longer_fits(out):
    path = tiny.folder(CONFIG, out) / 'result.json'
    result = store.read_sealed(path)
    result['best']['test_accuracy'] = 0.75
    result['config']['seed'] = 4
    path.write_text(json.dumps(result, indent=1))
    told = [item['problem'] for item in integrity.verify(out)[2]]
    assert any(problem.startswith('it has no digest') for problem in told)
    assert any(problem.startswith('best.test_accuracy is 0.75, but epoch') for problem in told)
    assert any(problem.startswith('its settings are those of ') for problem in told)


@pytest.mark.parametrize('length', [0, 1, 100, -1])
def test_a_torn_result_is_refused_and_its_snapshots_stay(length, out, tmp_path, figure):
    folder = tiny.folder(CONFIG, out)
    for number in (1, 2):
        store.write_text(folder / f'snapshot-{number:06d}.arrays', 'kept')
    path = folder / 'result.json'
    path.write_bytes(path.read_bytes()[:length])
    child = children.Child(tiny.words(CONFIG, out), tmp_path / 'log')
    assert child.wait() == 3
    assert f'error: cannot read {path}' in child.said() or 'has been altered' in child.said()
    assert len(snapshot.list_newest_first(folder)) == 2
    figure('torn', f'result cut at {length}: exit code 3, both snapshots kept')


def test_names_that_only_look_like_snapshots_are_left_alone(out, tmp_path):
    folder = tiny.folder(CONFIG, out)
    (folder / 'result.json').unlink()
    (folder / 'snapshot-abcdef.arrays').write_text('mine')
    child = children.Child(tiny.words(CONFIG, out), tmp_path / 'log')
    assert child.wait() == 0
    assert (folder / 'snapshot-abcdef.arrays').read_text() == 'mine'
