"""F-19 and F-23: a trial keeps to its data, and the same seed gives the same bits."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import tiny

from chainer_jo import datasets
from chainer_jo.errors import ConfigError, StoppedError
from chainer_jo.training import trial


def test_data_that_changed_between_two_runs_are_refused(monkeypatch, tmp_path, figure):
    def stop(row):
        raise StoppedError(signal.SIGTERM, seen='', fix='')

    config, present = tiny.config('cross_entropy'), datasets.load('fashion_mnist')
    with pytest.raises(StoppedError):
        tiny.run(config, tmp_path, trial.Observer(lambda *_: None, stop, lambda *_: None))
    changed = tiny.changed_dataset()
    monkeypatch.setattr(datasets, 'load', lambda *_: changed)
    with pytest.raises(ConfigError) as error:
        tiny.run(config, tmp_path)
    assert present.digest in error.value.seen
    assert changed.digest in error.value.seen
    figure('F-19', 'one pixel changed, refused with both digests')


@pytest.mark.parametrize('threads', [pytest.param('1', marks=pytest.mark.long), '2'])
def test_the_same_seed_gives_the_same_bits_in_another_process(threads, tmp_path, figure):
    config, outcomes = tiny.config('ours'), []
    for out in (tmp_path / 'one', tmp_path / 'two'):
        # A hash seed that differs would reorder everything that hangs on a set.
        environment = os.environ | {'OMP_NUM_THREADS': threads, 'OMP_WAIT_POLICY': 'PASSIVE'}
        subprocess.run(
            [sys.executable, '-m', 'chainer_jo', *tiny.words(config, out)],
            env=environment,
            check=True,
            capture_output=True,
        )
        outcomes.append(tiny.outcome(config, out))
    assert outcomes[0] == outcomes[1]
    figure('F-23', f'{threads} thread(s): two processes, identical')


def test_another_seed_gives_other_noise_and_another_net(tmp_path):
    outcomes = []
    for seed in (0, 1):
        config = tiny.config('cross_entropy', seed=seed)
        tiny.run(config, tmp_path)
        outcomes.append(tiny.outcome(config, tmp_path))
    for name in ('noisy_labels.arrays', 'model.arrays', 'labels.arrays'):
        assert outcomes[0][name] != outcomes[1][name]
    assert dataclasses.replace(config, seed=0) == tiny.config('cross_entropy')
