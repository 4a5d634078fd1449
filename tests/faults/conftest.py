"""Every fault test states its figure, which the last lines of a test run repeat."""

import pytest


@pytest.fixture
def figure(record_property):
    """Records the figure of a fault, such as ``figure('F-01', '8 runs, 8 identical')``."""
    return record_property


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get('passed', ()):
        for fault, text in report.user_properties:
            terminalreporter.write_line(f'{fault}: {text}')
