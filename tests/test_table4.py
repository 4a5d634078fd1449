"""``reproduce/table4.sh`` verifies data once, and never with other options than the user's."""

import os
import subprocess
import sys
from pathlib import Path

import clothing_files
import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    Path(sys.prefix) != ROOT / '.venv', reason='the tests run outside .venv'
)


def run(*words, cache):
    """Runs the script up to the training, for which it is given a wrong option."""
    done = subprocess.run(
        ['bash', ROOT / 'reproduce/table4.sh', '--preset', 'quick', '--only', 'nothing', *words],
        env=os.environ | {'XDG_CACHE_HOME': str(cache)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown method of table4 'nothing'" in done.stderr
    return done.stdout + done.stderr


def verify(*words, cache):
    subprocess.run(
        [sys.executable, '-m', 'chainer_jo', 'data', 'verify', 'clothing1m', *words],
        env=os.environ | {'XDG_CACHE_HOME': str(cache)},
        capture_output=True,
        timeout=100,
        check=True,
    )


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / 'set=1' / 'clothing'
    made.parent.mkdir()
    clothing_files.make(made)
    return made


@pytest.mark.parametrize('form', ['two words', 'one word'])
def test_data_are_verified_once_whatever_their_path(form, folder, tmp_path):
    words = [f'--data={folder}'] if form == 'one word' else ['--data', folder]
    assert 'layout   official tree' in run(*words, cache=tmp_path / 'cache')
    assert 'layout' not in run(*words, cache=tmp_path / 'cache')


def test_data_that_cannot_be_loaded_are_not_verified_again_with_other_options(folder, tmp_path):
    cache = tmp_path / 'cache'
    verify('--data', folder, '--leave-out-test', '--resize', '32', '--crop', '32', cache=cache)
    [index] = cache.rglob('*.index')
    before = index.read_bytes()
    lists = folder / 'noisy_train_key_list.txt'
    lists.write_text(lists.read_text() + 'images/new.jpg\n')
    assert 'layout' not in run('--data', folder, cache=cache)
    assert index.read_bytes() == before
