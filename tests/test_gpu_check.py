"""``reproduce/gpu_check.sh`` as far as it goes without a GPU: its arguments, and its refusal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chainer_jo.training import device

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / 'reproduce/gpu_check.sh'


def call(*words, cwd):
    return subprocess.run(
        ['bash', SCRIPT, *map(str, words)],
        cwd=cwd,
        env=os.environ | {'PYTHON': sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheels_have_all_that_setup_py_requires():
    wanted = re.search(r'install_requires=\[(.*?)\]', (ROOT / 'setup.py').read_text(), re.DOTALL)[1]
    names = {re.match(r'[\w-]+', name)[0] for name in re.findall("'(.+)'", wanted)}
    assert 'chainer' in names
    fetched = SCRIPT.read_text().partition('\nfill() {')[2].partition('\n}\n')[0]
    # NumPy is there with CuPy, and SciPy only compares results.
    assert names - {'numpy', 'scipy'} <= set(re.findall(r'[\w-]+', fetched))


@pytest.mark.parametrize(
    ('words', 'problem', 'seen'),
    [
        ([], 'one to three arguments are needed', '0 of them'),
        (['.', '60', 'out', 'more'], 'one to three arguments are needed', '4 of them'),
        (['nowhere'], 'there is no such folder of wheels', 'nowhere'),
        (['.', '59'], 'SECONDS is not a whole number from 60', '59'),
        (['.', '1.5h'], 'SECONDS is not a whole number from 60', '1.5h'),
        (['.', '60', 'out', '--', 'nowhere'], 'there is no such file or folder of data', 'nowhere'),
        (['.', '--', 'one', 'two'], 'after -- comes one path', '-- one two'),
        (['--wheels'], 'no folder for the wheels', '--wheels'),
    ],
)
def test_arguments_that_make_no_sense_are_refused(words, problem, seen, tmp_path):
    done = call(*words, cwd=tmp_path)
    first, second, third = done.stderr.splitlines()
    assert done.returncode == 2
    assert first == f'error: {problem}'
    assert second == f'  seen: {seen}'
    assert 'gpu_check.sh' in third
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not device.describe().startswith('none: '), reason='here is a GPU')
def test_without_a_gpu_it_says_so_and_leaves_nothing_behind(tmp_path):
    done = call('.', '60', 'out', '--', '.', cwd=tmp_path)
    first, second, third = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, '')
    assert first == 'error: no GPU that CuPy can use'
    assert 'upy' in second
    assert 'NVIDIA GPU' in third
    assert list(tmp_path.iterdir()) == []
