"""The page of ``reproduce/label_audit.py``: what its rows are the mean of."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope='module')
def audit():
    path = Path(__file__).parents[2] / 'reproduce' / 'label_audit.py'
    spec = importlib.util.spec_from_file_location('label_audit', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(seed, **ways):
    """Of each way the processor and the seconds."""
    shares = {'flagged': 0.2, 'before': 0.8, 'after': 0.9, 'f1': 0.5, 'precision': 0.5, 'recall': 1}
    figures = {
        way: shares | {'processor': place, 'seconds': seconds, 'bytes': 2**30}
        for way, (place, seconds) in ways.items()
    }
    return {'data': 'Images', 'noise': 'none', 'seed': seed, 'figures': figures}


def test_seconds_of_two_processors_are_not_averaged_and_both_are_named(audit):
    records = [
        record(0, ours=('new', 10), cleanlab=('old', 100)),
        record(1, ours=('new', 12), cleanlab=('new', 40)),
        record(2, ours=('new', 14)),
    ]
    text = audit.page(records)
    assert 'Seeds 0, 1, 2, on new and old.' in text
    assert "Seconds of seeds 1, on new: `chainer_jo.correct` takes 0.30 of cleanlab's." in text
    ours, cleanlab = (line for line in text.splitlines() if '| 1.00 GiB |' in line)
    assert '| 12 | 1.00 GiB |' in ours
    assert '| 40 | 1.00 GiB |' in cleanlab
    alone = audit.page(records[:1])
    assert 'Seconds of' not in alone
    assert 'GiB' not in alone


def test_the_committed_page_is_that_of_the_committed_figures(audit):
    results = Path(__file__).parents[2] / 'results'
    records = audit.json.loads((results / 'label_audit.json').read_text())
    assert (results / 'label_audit.md').read_text() == audit.page(records)
