"""A trial keeps the threads that it began with: without them it ends with other bits."""

import os
import subprocess
import sys
import time

import children
import pytest
import tiny

from chainer_jo import store

VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
# Wide enough that two threads share a product out, and that its last digits show it.
WIDE = ('net.filters=[16, 16, 32, 64]', 'net.stem_stride=2')


def command(words, **variables):
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return subprocess.Popen(
        [sys.executable, '-m', 'chainer_jo', *words],
        env=kept | {'OMP_WAIT_POLICY': 'PASSIVE'} | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    said = process.communicate(timeout=children.PATIENCE * 4)[1]
    return process.returncode, said


def weights(config, out):
    return store.read_sealed(tiny.folder(config, out) / 'result.json')['digests']['model']


@pytest.mark.parametrize('threads', [pytest.param(1, marks=pytest.mark.long), 2])
def test_threads_set_by_option_give_the_bits_of_threads_set_by_the_environment(threads, tmp_path):
    config = tiny.config('ours', *WIDE)
    said = {}
    for name, words, variables in (
        ('environment', (), {'OMP_NUM_THREADS': f'{threads}'}),
        ('option', ('--threads', f'{threads}'), {'OMP_NUM_THREADS': f'{3 - threads}'}),
    ):
        process = command(tiny.words(config, tmp_path / name, *words), **variables)
        assert ended(process)[0] == 0
        said[name] = weights(config, tmp_path / name)
    assert said['environment'] == said['option']


@pytest.mark.parametrize('threads', [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_trial_goes_on_with_its_threads_whatever_the_environment_says(threads, tmp_path, figure):
    config = tiny.config('ours', *WIDE)
    whole, pieces = tmp_path / 'whole', tmp_path / 'pieces'
    own, other = f'{threads}', f'{3 - threads}'
    assert ended(command(tiny.words(config, whole), OMP_NUM_THREADS=own))[0] == 0
    process = command(tiny.words(config, pieces, '--snapshot-seconds', '0'), OMP_NUM_THREADS=own)
    wait_for_snapshots(tiny.folder(config, pieces), process)
    process.kill()
    process.communicate()
    code, said = ended(command(tiny.words(config, pieces, '--threads', other)))
    assert code == 0
    assert f'continues with {threads} threads, as it began, not {other}' in said
    result = store.read_sealed(tiny.folder(config, pieces) / 'result.json')
    assert [place['threads'] for place in result['environments']] == [threads]
    assert weights(config, pieces) == weights(config, whole)
    figure('threads', f'begun with {threads}, gone on under {other}: identical')


def wait_for_snapshots(folder, process):
    end = time.monotonic() + children.PATIENCE
    while not list(folder.glob('snapshot-*.arrays')):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize('kills', [1, pytest.param(10, marks=pytest.mark.long)])
def test_a_run_that_is_killed_and_repeated_ends_identical_whatever_is_left(kills, tmp_path, figure):
    def words(out, trials):
        overrides = (*tiny.overrides('cross_entropy'), *WIDE)
        return [
            *('run', 'table2', '--preset', 'quick', '--only', 'cross_entropy', '--rates', '0.5'),
            *('--trials', f'{trials}', '--device', 'cpu', '--out', str(out)),
            *('--snapshot-seconds', '0'),
            *(word for override in overrides for word in ('--set', override)),
        ]

    configs = [tiny.config('cross_entropy', *WIDE, seed=seed) for seed in range(2)]
    whole, pieces = tmp_path / 'whole', tmp_path / 'pieces'
    assert ended(command(words(whole, 2)))[0] == 0
    # The second is done: one is left, and there are cores for two.
    assert ended(command(words(pieces, 1)))[0] == 0
    for _ in range(kills):
        process = command(words(pieces, 2))
        folder = tiny.folder(configs[1], pieces)
        while process.poll() is None and not list(folder.glob('snapshot-*.arrays')):
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert ended(command(words(pieces, 2)))[0] == 0
    for config in configs:
        assert weights(config, pieces) == weights(config, whole)
    figure('run', f'{kills} kills of a run with one trial left, 2 trials, 2 identical')


@pytest.mark.parametrize(
    'variable', [{'OMP_THREAD_LIMIT': '1'}, {'OMP_DYNAMIC': 'TRUE'}], ids=lambda v: next(iter(v))
)
def test_threads_that_cannot_be_had_are_refused_before_the_first_step(
    variable, tmp_path, figure, onednn_loaded
):
    config = tiny.config('cross_entropy')
    process = command(tiny.words(config, tmp_path), OMP_NUM_THREADS='2', **variable)
    code, said = ended(process)
    assert code == 2
    assert len(said.splitlines()) == 3
    assert next(iter(variable)) in said
    assert '--threads 1' in said
    assert not (tmp_path / 'runs').exists()
    assert ended(command(tiny.words(config, tmp_path, '--threads', '1'), **variable))[0] == 0
    figure('threads', f'{next(iter(variable))}: exit code 2, nothing written')
