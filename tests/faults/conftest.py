"""Every fault test states its figure, which the last lines of a test run repeat."""

import os
import shlex
import shutil

import page
import pytest
import tiny


@pytest.fixture
def figure(record_property):
    """Records the figure of a fault, such as ``figure('F-01', '8 runs, 8 identical')``."""
    return record_property


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A folder of results with one trial of cross entropy; not to be changed."""
    out = tmp_path_factory.mktemp('trained')
    tiny.run(tiny.config('cross_entropy'), out)
    return out


@pytest.fixture
def out(trained, tmp_path):
    """A copy of that folder, to be damaged."""
    return shutil.copytree(trained, tmp_path / 'out')


def pytest_terminal_summary(terminalreporter):
    if hasattr(terminalreporter.config, 'workerinput'):
        # A worker of pytest-xdist knows of its own tests only, and not of failures in others.
        return
    passed = terminalreporter.stats.get('passed', ())
    figures = sorted(pair for report in passed for pair in report.user_properties)
    for fault, text in figures:
        terminalreporter.write_line(f'{fault}: {text}')
    # Of a run in which something failed nothing is kept.
    words = os.environ.get('RELIABILITY')
    if words is not None and not terminalreporter.stats.get('failed'):
        page.write_suite(figures, len(passed), shlex.split(words))
