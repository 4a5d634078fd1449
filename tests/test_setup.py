"""Set-up: the script, and a plain ``pip install`` with the documented constraint."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSTRAINT = 'reproduce/build-constraint.txt'

# A trial of some seconds, long enough to be stopped after its first snapshot.
TRAIN = [
    *('train', '--method', 'cross_entropy', '--preset', 'quick', '--dataset', 'fashion_mnist'),
    *('--noise', 'symmetric', '--rate', '0.5'),
    *('--set', 'common.train_images=256', '--set', 'common.validation_images=64'),
    *('--set', 'cross_entropy.train.epochs=6', '--snapshot-seconds', '1'),
]


@pytest.fixture
def clone(tmp_path):
    """A copy of what a clone has for installing."""
    folder = tmp_path / 'a clone'
    no_caches = shutil.ignore_patterns('__pycache__')
    shutil.copytree(ROOT / 'chainer_jo', folder / 'chainer_jo', ignore=no_caches)
    shutil.copytree(ROOT / 'reproduce', folder / 'reproduce', ignore=no_caches)
    shutil.copy(ROOT / 'setup.py', folder)
    return folder


def set_up(folder, **environment):
    return subprocess.run(
        ['bash', folder / 'reproduce/setup.sh'],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(Path(sys.prefix) != ROOT / '.venv', reason='the tests run outside .venv')
def test_set_up_is_silent_and_instant_when_nothing_changed():
    started = time.monotonic()
    done = set_up(ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert time.monotonic() - started < 1


def test_set_up_without_a_new_python_says_problem_seen_and_fix(clone):
    done = set_up(clone, PYTHON='no-such-python')
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, '', 3)
    assert lines[0] == 'error: no Python 3.11 or newer'
    assert 'no-such-python' in lines[1]
    assert 'PYTHON=' in lines[2]
    assert not (clone / '.venv').exists()


def test_set_up_does_not_take_an_unfinished_environment_for_a_finished_one(clone):
    (clone / '.venv/bin').mkdir(parents=True)
    (clone / '.venv/bin/python').symlink_to(sys.executable)
    assert set_up(clone, PYTHON='no-such-python').returncode == 2


def test_set_up_does_not_empty_an_environment_that_it_sees_through_a_link(clone, tmp_path):
    (tmp_path / 'environment').mkdir()
    (tmp_path / 'environment/file').touch()
    (clone / '.venv').symlink_to(tmp_path / 'environment')
    done = set_up(clone)
    assert done.returncode == 2
    assert done.stderr.endswith(
        f'error: .venv is a link\n  seen: {tmp_path}/environment\n  fix:  delete the link\n'
    )
    assert (tmp_path / 'environment/file').exists()


PYTHON = """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip") echo "$@" >installed ;;
esac
"""
NVIDIA_SMI = """#!/bin/sh
echo '| NVIDIA-SMI 580.1    Driver Version: 580.1    CUDA Version: %s |'
"""


@pytest.mark.parametrize(
    ('version', 'extras'),
    [
        ('13.0', 'cpu,dask,dev,mpi,cuda13'),
        ('12.4', 'cpu,dask,dev,mpi,cuda12'),
        ('11.8', 'cpu,dask,dev,mpi'),
        (None, 'cpu,dask,dev,mpi'),
    ],
)
def test_set_up_installs_what_the_nvidia_driver_can_run(version, extras, clone, tmp_path):
    commands = tmp_path / 'bin'
    commands.mkdir()
    # Neither may be the machine's own.
    programs = {'python-like': PYTHON, 'nvidia-smi': NVIDIA_SMI % version if version else 'exit 1'}
    for name, text in programs.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    path = f'{commands}{os.pathsep}{os.environ["PATH"]}'
    done = set_up(clone, PATH=path, PYTHON=str(commands / 'python-like'))
    assert done.returncode == 0, done.stderr
    assert (clone / 'installed').read_text().endswith(f'--editable .[{extras}]\n')


@pytest.mark.long
@pytest.mark.parametrize('numpy', ['numpy==1.26.*', 'numpy>=2'])
def test_pip_install_with_the_constraint_trains_and_resumes_under(numpy, clone, tmp_path):
    if numpy == 'numpy==1.26.*' and sys.version_info >= (3, 13):
        pytest.skip('NumPy 1.26 was made for Python up to 3.12')
    python = install(clone, tmp_path / 'environment', numpy)
    shutil.rmtree(clone)  # from here on only what was installed counts
    command = [python, '-m', 'chainer_jo', *TRAIN, '--out', tmp_path / 'results']
    stopped = stop_after_a_snapshot(command, tmp_path)
    assert stopped == 143
    subprocess.run(command, cwd=tmp_path, env=clean_environment(), check=True)
    (result,) = tmp_path.glob('results/runs/*/result.json')
    times = json.loads(result.read_text())['times']
    assert times['resumes'] == 1


def clean_environment(**names):
    return {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | names


def install(clone, environment, numpy):
    """Installs the package as the README says and returns the new environment's Python."""
    subprocess.run([sys.executable, '-m', 'venv', environment], check=True)
    python = environment / 'bin/python'
    names = clean_environment(PIP_CONSTRAINT=CONSTRAINT, PIP_BUILD_CONSTRAINT=CONSTRAINT)
    subprocess.run(
        [python, '-m', 'pip', 'install', '--quiet', '.', numpy], cwd=clone, env=names, check=True
    )
    return python


def stop_after_a_snapshot(command, folder):
    """Sends SIGTERM once a snapshot exists and returns the exit code."""
    process = subprocess.Popen(command, cwd=folder, env=clean_environment())
    while process.poll() is None and not list(folder.glob('results/runs/*/snapshot-*')):
        time.sleep(0.01)
    process.terminate()
    return process.wait()
