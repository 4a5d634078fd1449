"""Every fault test states its figure, which the last lines of a test run repeat."""

import os
import shlex

import page
import pytest


@pytest.fixture
def figure(record_property):
    """Records the figure of a fault, such as ``figure('F-01', '8 runs, 8 identical')``."""
    return record_property


def pytest_terminal_summary(terminalreporter):
    passed = terminalreporter.stats.get('passed', ())
    figures = sorted(pair for report in passed for pair in report.user_properties)
    for fault, text in figures:
        terminalreporter.write_line(f'{fault}: {text}')
    # Of a run in which something failed nothing is kept.
    words = os.environ.get('RELIABILITY')
    if words is not None and not terminalreporter.stats.get('failed'):
        page.write_suite(figures, len(passed), shlex.split(words))
