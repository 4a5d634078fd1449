"""``data verify``, and training from the index that it writes."""

import json

import clothing_files
import pytest
import tiny

from chainer_jo.datasets.dataset import VARIABLE

SMALL = '--resize 36 --crop 32'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clothing') / 'a copy'
    clothing_files.make(folder, (300, 32, 32))
    return folder


def verify(folder, more=''):
    return f"data verify clothing1m --data '{folder}' {SMALL} {more}"


def test_it_says_what_it_found_and_training_starts_from_the_index(call, folder, tmp_path):
    code, out, said = call(verify(folder, '--index x/y.index --limit 0.02'))
    assert code == 0
    assert f'layout   official tree; images in {folder}/images' in said
    assert 'verified: 364/364, ' in said
    assert 'unusable 1 missing, 1 empty, 1 no image, 1 damaged' in out
    assert 'train            308 listed,       304 used, 4 unusable' in out
    assert 'Underwear' in out
    words = [f"--set '{text}'" for text in tiny.overrides('cross_entropy', 'clothing1m')]
    train = 'train --dataset clothing1m --noise none --method cross_entropy --preset quick'
    code, out, said = call(
        f'{train} --data x/y.index --out o --device cpu --json {" ".join(words)}'
    )
    assert code == 0
    result = json.loads(out.splitlines()[-1])['result']
    assert result['data']['name'] == 'clothing1m'
    assert result['epochs'] == 3
    assert 'clothing1m: 4 of 308 train images are unusable and left out' in said
    assert 'clothing1m: 8 training images are also in the clean test set' in said


def test_too_many_unusable_images_end_it_with_3_after_all_that_was_found(call, folder):
    code, out, said = call(verify(folder, '--index y.index'))
    assert code == 3
    assert '4 unusable' in out
    assert 'error: too many train images' in said
    assert '4 of 308, 1.30 %; the limit is 1 %' in said


def test_json_is_the_facts_of_the_index(call, folder):
    code, out, _ = call(verify(folder, '--index y.index --limit 0.02 --leave-out-test --json'))
    facts = json.loads(out)
    assert (code, facts['in_test'], facts['parts']['train']['used']) == (0, 8, 300 - 4)
    assert facts['leave_out_test'] is True


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ('data verify clothing1m --data absent', 3),
        ('data verify clothing1m --data .', 3),
        ('data verify clothing1m', 2),
        ('data verify cifar10 --data .', 2),
        ('data verify cifar --data .', 2),
        ('data verify clothing1m --data . --limit 2', 2),
        ('data verify clothing1m --data . --limit x', 2),
        ('data verify clothing1m --data . --crop 0', 2),
        ('data verify clothing1m --data . --crop 300', 2),
        ('data', 2),
        ('train --dataset clothing1m --noise none --method ours', 3),
        ('train --dataset clothing1m --noise none --method ours --data .', 3),
    ],
)
def test_a_mistake_ends_in_three_lines(words, expected, call):
    code, out, said = call(words)
    assert (code, out) == (expected, '')
    assert len(said.splitlines()) == 3
    assert said.startswith('error: ')


def test_a_full_disk_or_a_place_without_permission_is_said(call, folder, tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    code, _, said = call(verify(folder, '--index file/y.index'))
    assert code == 6
    assert 'error: cannot make the folder' in said


def test_an_index_that_is_a_folder_is_refused_before_anything_is_read(call, folder, tmp_path):
    (tmp_path / 'kept').mkdir()
    code, _, said = call(verify(folder, '--index kept'))
    assert code == 2
    assert 'error: kept is a folder' in said
    assert 'layout' not in said


def test_doctor_says_how_to_get_clothing1m(call):
    code, out, _ = call('doctor --json --device cpu')
    (found,) = [row for row in json.loads(out)['data'] if row['name'] == 'clothing1m']
    assert code == 0
    assert found['problem'].startswith('Clothing1M is not on this machine; its authors')
    assert VARIABLE in found['seen']
