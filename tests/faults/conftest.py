"""Every fault test states its figure, which the last lines of a test run repeat."""

import datetime
import os
from pathlib import Path

import pytest

from chainer_jo.training import machine


@pytest.fixture
def figure(record_property):
    """Records the figure of a fault, such as ``figure('F-01', '8 runs, 8 identical')``."""
    return record_property


def pytest_terminal_summary(terminalreporter):
    passed = terminalreporter.stats.get('passed', ())
    figures = [pair for report in passed for pair in report.user_properties]
    for fault, text in figures:
        terminalreporter.write_line(f'{fault}: {text}')
    # Of a run in which something failed nothing is kept.
    if (page := os.environ.get('RELIABILITY')) and not terminalreporter.stats.get('failed'):
        Path(page).write_text(_page(sorted(figures), len(passed)))


def _page(figures, tests):
    place = machine.processor()['processor']
    rows = '\n'.join(f'| {fault} | {text} |' for fault, text in figures)
    return f"""# What the fault suite found

Made by `bash tests/faults/run_long.sh` on {datetime.date.today()}; {place},
{machine.cores()} cores. {tests} tests passed, none failed. Trials are tiny: a net of four filters,
128 images, three epochs.

| fault | figure |
| --- | --- |
{rows}
"""
