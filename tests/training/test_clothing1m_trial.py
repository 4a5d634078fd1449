"""A trial on Clothing1M's stand-in, read from its files while it trains."""

from pathlib import Path

import clothing_files
import numpy as np
import pytest
import tiny
from test_resume import run_until_done

from chainer_jo import config as configuration
from chainer_jo.datasets import clothing1m
from chainer_jo.training import processes

CONFIG = configuration.trial(
    'ours', 'clothing1m', 'none', None, 0, 'quick', tiny.overrides('ours', 'clothing1m')
)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clothing')
    clothing_files.make(folder / 'data', (300, 32, 32))
    facts = clothing_files.verify(folder / 'data', folder / 'index', limit=0.02)
    return clothing1m.load(facts['index'])


@pytest.fixture
def threads(monkeypatch):
    def choose(count):
        monkeypatch.setattr(processes, 'cores', lambda: count)

    return choose


@pytest.fixture(scope='module')
def expected(tmp_path_factory, dataset):
    out = tmp_path_factory.mktemp('whole')
    result = tiny.run(CONFIG, out, dataset=dataset)
    assert result['data']['variant'] == dataset.variant
    assert result['noise']['wrong'] is None
    assert result['data']['validation'] == 32
    return tiny.outcome(CONFIG, out)


@pytest.mark.parametrize('count', [1, 8])
def test_the_number_of_threads_changes_nothing(count, threads, dataset, expected, tmp_path):
    threads(count)
    tiny.run(CONFIG, tmp_path, dataset=dataset)
    assert tiny.outcome(CONFIG, tmp_path) == expected


def test_a_trial_stopped_at_every_step_ends_like_one_that_was_not(
    dataset, expected, sigterm_at, tmp_path
):
    sigterm_at(range(1, tiny.STEPS + 1))
    assert run_until_done(CONFIG, tmp_path, dataset=dataset) == 2 * tiny.STEPS
    assert tiny.outcome(CONFIG, tmp_path) == expected


BALANCED = configuration.trial(
    *('ours', 'clothing1m', 'none', None, 0, 'quick'),
    (*tiny.overrides('ours', 'clothing1m'), 'common.balanced_batches=2', 'common.batch_size=14'),
)


def test_a_stage_of_balanced_batches_takes_as_many_images_of_every_given_class(dataset):
    made, labels = tiny.updater(BALANCED, dataset), tiny.prepare(BALANCED, dataset).train.labels
    shares = np.bincount(labels)
    assert shares.max() > shares.min() + 1
    taken = []
    for _ in range(2):
        next(made.iterator)
        taken.append(labels[made.iterator.row.index])
    assert made.iterator.is_new_epoch
    made.iterator.finalize()
    assert np.bincount(np.concatenate(taken)).tolist() == [2] * 14


def test_a_trial_of_balanced_batches_has_as_many_steps_as_it_says(dataset, sigterm_at, tmp_path):
    tiny.run(BALANCED, tmp_path / 'whole', dataset=dataset)
    sigterm_at(range(1, tiny.STEPS + 1))
    # Two stages of three epochs of two steps each.
    assert run_until_done(BALANCED, tmp_path / 'stopped', dataset=dataset) == 12
    outcomes = [tiny.outcome(BALANCED, tmp_path / name) for name in ('whole', 'stopped')]
    assert outcomes[0] == outcomes[1]


def test_a_trial_that_lost_an_image_says_so_in_its_log(dataset, expected, tmp_path):
    path = Path(dataset.train.paths[3])
    content = path.read_bytes()
    path.unlink()
    try:
        tiny.run(CONFIG, tmp_path, dataset=dataset)
    finally:
        path.write_bytes(content)
        dataset.train.stand_in._lost.clear()
    rows = tiny.outcome(CONFIG, tmp_path)['log.jsonl']
    assert [row['unreadable'] for row in rows] == [1] * len(rows)
    assert not any('unreadable' in row for row in expected['log.jsonl'])
