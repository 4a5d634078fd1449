"""Commands where something about them is wrong: streams, folders, users, the program itself."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from narrow import OVERRIDES, ROOT, THREE_LINES, TINY, TRAIN, command

import chainer_jo
from chainer_jo import cli, config, paper
from chainer_jo.commands import about
from chainer_jo.datasets import fashion_mnist
from chainer_jo.sweep import local

CIFAR10 = 'train --dataset cifar10 --noise symmetric --rate 0.5 --method ours'
LONG = 'x' * 300
SHOWING = ['--help', 'doctor', 'plan table2 --preset quick', 'methods ours', 'diff table2']


def shell(script, folder, **environment):
    """Runs a line of a shell in which ``$RUN`` is the command."""
    return subprocess.run(
        ['bash', '-c', script],
        cwd=folder,
        env=os.environ
        | {'RUN': f'{sys.executable} -m chainer_jo', 'PYTHONPATH': str(ROOT)}
        | environment,
        capture_output=True,
        text=True,
        errors='replace',
        check=False,
    )


@pytest.mark.parametrize('encoding', ['latin-1', 'ascii'])
@pytest.mark.parametrize('words', SHOWING)
def test_a_terminal_that_is_not_utf_8_gets_replacements(words, encoding, tmp_path):
    done = command(words, tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8='0')
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_locale_without_letters_changes_nothing_that_is_read(tmp_path):
    ascii_only = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    done = command('report table2 --preset quick', tmp_path, **ascii_only)
    assert done.returncode == 0, done.stderr
    assert 'Table' in done.stdout or 'table2' in done.stdout


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full here')
@pytest.mark.parametrize('words', [*SHOWING, '--version', 'plan table2 --json'])
def test_a_full_stdout_ends_with_6_and_three_lines(words, tmp_path):
    done = shell(f'$RUN {words} > /dev/full', tmp_path)
    assert done.returncode == 6, done.stderr
    assert re.fullmatch(THREE_LINES, done.stderr), done.stderr


@pytest.mark.parametrize('words', ['--help', 'plan table2 --preset quick'])
def test_a_closed_stdout_ends_with_6_and_three_lines(words, tmp_path):
    done = shell(f'$RUN {words} >&-', tmp_path)
    assert done.returncode == 6
    assert re.fullmatch(THREE_LINES, done.stderr), done.stderr


def test_a_closed_stderr_changes_nothing(tmp_path):
    done = shell('$RUN plan table2 --preset quick --json 2>&-', tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)


def test_a_reader_that_has_gone_ends_with_141_and_no_word(tmp_path):
    done = shell('$RUN plan table2 | true; echo ${PIPESTATUS[0]}', tmp_path)
    assert (done.stdout, done.stderr) == ('141\n', '')


@pytest.mark.parametrize('stderr', ['2> /dev/full', '2>&-', '2> >(true)', '2> told'])
def test_training_goes_on_when_nobody_can_be_told(stderr, tmp_path):
    # The name of the folder has letters that the encoding has not, and is told.
    ascii_only = {'PYTHONIOENCODING': 'ascii', 'PYTHONUTF8': '0', 'LC_ALL': 'C'}
    done = shell(f'$RUN {TINY} --out größe {stderr}', tmp_path, OMP_NUM_THREADS='1', **ascii_only)
    assert done.returncode == 0
    assert len(list(tmp_path.glob('*/runs/*/result.json'))) == 1
    if stderr == '2> told':
        assert 'epoch 2/2' in (tmp_path / 'told').read_text()


def test_a_table_is_run_when_nobody_can_be_told(tmp_path):
    table = '--only cross_entropy --rates 0.5 --trials 1 --device cpu --out out'
    done = shell(f'$RUN run table2 --preset quick {table} {OVERRIDES} 2> /dev/full', tmp_path)
    assert done.returncode == 0
    assert len(list(tmp_path.glob('out/runs/*/result.json'))) == 1


@pytest.mark.parametrize(
    ('words', 'code'),
    [
        (f'{CIFAR10} --data {LONG}', 3),
        (f'{CIFAR10} --out {LONG}', 6),
        (f'{TRAIN} --rate 0.5 --out {LONG}', 6),
        (f'run table2 --preset quick --out {LONG}', 6),
        (f'plan table2 --out {LONG}', 6),
        (f'report table2 --out {LONG}', 6),
        (f'diff table2 --out {LONG}', 6),
        (f'benchmark --out {LONG}', 6),
        (f'show {LONG}', 2),
        (f'show runs/{LONG}', 2),
        (f'{CIFAR10} --data ~nosuchuser/x', 2),
        (f'{CIFAR10} --out ~nosuchuser/x', 2),
        (f'{CIFAR10} --data ""', 2),
        ('run table2 --data /nosuch', 3),
        ("report table2 --preset '\n\n'", 2),
        ("train --seed '1\n2' --dataset a", 2),
    ],
    ids=lambda value: str(value).replace(LONG, 'LONG'),
)
def test_a_name_that_cannot_be_ends_with_the_documented_code(refused, words, code):
    assert refused(words)[0] == code


@pytest.mark.parametrize(
    ('words', 'code'),
    [
        (f'{CIFAR10} --data locked/x', 3),
        (f'{TRAIN} --rate 0.5 --out locked/x', 6),
        ('run table2 --preset quick --out locked/x', 6),
        ('diff table2 --out locked/x', 6),
        ('show locked/runs/x', 2),
        (f'{TRAIN} --noise file --labels locked/x.npy', 3),
    ],
)
def test_a_folder_that_one_may_not_enter_ends_with_the_documented_code(
    refused, monkeypatch, words, code
):
    # Root may enter anything, and tests may run as root.
    real = os.stat

    def stat(path, *more, **options):
        if isinstance(path, (str, os.PathLike)) and 'locked' in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path, *more, **options)

    monkeypatch.setattr(os, 'stat', stat)
    assert refused(words)[0] == code


def test_a_variable_with_an_unknown_home_is_data_that_cannot_be_read(refused, monkeypatch):
    monkeypatch.setenv('CHAINER_JO_DATA', '~nosuchuser/x')
    assert refused(CIFAR10)[0] == 3


@pytest.fixture
def nobody(monkeypatch):
    """A user without a home folder or a name, as in some containers."""

    def unknown(*_):
        raise KeyError('no such uid')

    for variable in ('HOME', 'XDG_CACHE_HOME', 'CHAINER_JO_DATA'):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr('pwd.getpwuid', unknown)


@pytest.mark.usefixtures('nobody')
def test_doctor_says_what_is_wrong_where_there_is_no_home_folder(call, monkeypatch):
    # pooch leaves the folder of the cache to the present one, or raises, by its version.
    def unknown(*_):
        raise RuntimeError('could not determine the home directory')

    monkeypatch.setattr('pooch.os_cache', unknown)
    code, out, said = call('doctor')
    assert (code, said) == (0, '')
    assert re.search(r'cifar10 +cannot read the data set cifar10\n +fix: ', out)
    assert re.search(r'fashion_mnist +embedded subset', out)


@pytest.mark.usefixtures('nobody')
def test_without_home_and_name_a_tilde_is_refused(refused):
    code, said = refused(f'{CIFAR10} --data ~/x')
    assert code == 2
    assert 'no home folder for ~' in said


def test_a_tilde_after_an_equals_sign_is_the_home_folder(call, tmp_path, monkeypatch):
    home = tmp_path / 'home'
    home.mkdir()
    monkeypatch.setenv('HOME', str(home))
    (home / 'out').mkdir()
    assert call('report table2 --preset quick --out=~/out')[0] == 0
    assert (home / 'out' / 'table2.md').exists()
    code, _, said = call(f'{CIFAR10} --data=~/none')
    assert code == 3
    assert str(home / 'none') in said
    words = f'--noise file --labels=~/none.npy --out=~/out {OVERRIDES}'
    code, _, said = call(f'train --dataset fashion_mnist --method ours {words}')
    assert code == 3
    assert str(home / 'none.npy') in said


def test_a_python_without_the_packages_is_told_which_one_has_them(call, monkeypatch):
    # -S leaves out the installed packages, as the Python of the system has none of them.
    words = [sys.executable, '-S', '-m', 'chainer_jo', 'doctor']
    bare = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (bare.returncode, bare.stdout) == (2, '')
    assert re.fullmatch(THREE_LINES, bare.stderr), bare.stderr
    assert 'use .venv/bin/python' in bare.stderr
    # Some are there, and one that is imported later is not.
    monkeypatch.setattr(about, 'show', lambda *_: __import__('no_such_package'))
    code, _, said = call('methods ours')
    assert (code, 'no module no_such_package' in said) == (2, True), said


def test_an_unforeseen_error_ends_with_70_and_keeps_its_traceback(call, monkeypatch, tmp_path):
    def broken(text):
        raise ZeroDivisionError(f'by\n{"naught " * 999}')

    monkeypatch.setattr(about, 'show', broken)
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    code, out, said = call('methods')
    assert (code, out) == (70, '')
    assert re.fullmatch(THREE_LINES, said)
    assert 'ZeroDivisionError: by naught' in said
    assert len(said) < 600
    path = Path(re.search(r'in (\S+traceback\.txt)', said)[1])
    assert 'in broken' in path.read_text()
    assert '70  unexpected error' in cli.EXIT_CODES


def test_where_no_traceback_can_be_kept_the_place_of_the_error_is_said(call, monkeypatch):
    def broken(text):
        raise ZeroDivisionError

    monkeypatch.setattr(about, 'show', broken)
    monkeypatch.setattr('tempfile.tempdir', '/nosuch/folder')
    code, _, said = call('methods')
    assert code == 70
    assert 'in broken' in said
    assert re.fullmatch(THREE_LINES, said)


def test_no_memory_ends_with_7(call, monkeypatch):
    def full(text):
        raise MemoryError

    monkeypatch.setattr(about, 'show', full)
    code, _, said = call('methods')
    assert code == 7
    assert re.fullmatch(THREE_LINES, said)


def test_the_version_is_said(call):
    assert call('--version') == (0, f'chainer_jo {chainer_jo.__version__}\n', '')


@pytest.mark.parametrize(
    ('threads', 'jobs', 'warned'), [(1, 2, False), (2, 1, False), (2, 2, True), (3, 1, True)]
)
def test_more_threads_than_cores_are_warned_of(threads, jobs, warned, capsys):
    from chainer_jo.commands.options import warn_of_threads

    warn_of_threads(jobs, threads, 2)
    said = capsys.readouterr().err
    assert said.startswith('warning: ') == warned
    assert ('choose --threads ' in said) == warned


def test_a_command_warns_of_its_threads_before_it_trains(call, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', str(local.cores() + 1))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('chainer_jo.training.trial.run', stopped)
    assert f'{local.cores() + 1} threads on {local.cores()} cores' in call(TINY)[2]


def test_data_that_are_missing_are_said_once_before_any_trial(call, monkeypatch):
    monkeypatch.setattr(local.LocalSweep, 'run', lambda *_: pytest.fail('a trial was started'))
    code, out, said = call('run table2 --only ours --data /nosuch')
    assert (code, out) == (3, '')
    assert re.fullmatch(THREE_LINES, said)


def test_a_finished_trial_is_shown_from_its_result_alone(trained, call, tmp_path):
    folder, done = trained
    trial = done.stdout.split()[0]
    kept = tmp_path / 'results' / 'reference' / 'quick' / 'runs' / trial
    kept.mkdir(parents=True)
    result = folder / 'results' / 'quick' / 'runs' / trial / 'result.json'
    (kept / 'result.json').write_bytes(result.read_bytes())
    code, out, said = call(f'show {trial} --json')
    assert (code, said) == (0, '')
    shown = json.loads(out)
    assert (shown['trial'], shown['state'], shown['log']) == (trial, 'done', [])
    assert config.from_dict(shown['config']).trial == trial
    assert shown['command'] == config.from_dict(shown['config']).command


def test_labels_from_a_file_are_understood_warned_of_and_named_in_the_command(call, tmp_path):
    dataset = fashion_mnist.load()
    given = (dataset.train.true_labels + 1) % 10
    np.savez(tmp_path / "it's.npz", given=given, other=given)
    place = tmp_path / "it's.npz"
    words = TRAIN.replace('symmetric', 'file') + f' --labels "{place}:given" {OVERRIDES}'
    code, out, said = call(words)
    assert code == 0, said
    first, warning = said.splitlines()[:2]
    assert first == (f'labels: 6,000 class numbers in {place}:given; 100.0 % are wrong')
    assert warning.startswith('warning: the labels agree with the true ones in 0.0 %')
    assert 'classes are in another order' in warning
    shown = json.loads(call(f'show {out.split()[0]} --json')[1])
    # The command of the finished trial finds it done.
    again = shown['command'].removeprefix('python -m chainer_jo ')
    assert call(again)[1] == out


def test_the_tables_of_the_grids_are_what_the_commands_take(call):
    for table in paper.tables():
        # Sets of labels are a file that the user brings.
        missing = bool(paper.label_sets(paper.grid(table, 'quick')))
        assert call(f'plan {table} --preset quick')[0] == (3 if missing else 0)
