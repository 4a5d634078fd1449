"""The process of one trial, here any other program."""

import os
import time

import pytest

from chainer_jo.sweep.attempt import Attempt

WAITS = """
import sys
print('{}', flush=True)
sys.stdin.read()
print('stopped', file=sys.stderr, flush=True)
"""


@pytest.fixture
def deaf():
    """A process that ends only when its stdin is closed, and at the latest after a minute."""
    return Attempt(['-c', f'import signal; signal.alarm(60)\n{WAITS}'], 1)


def test_a_process_ends_at_once_when_nobody_takes_its_lines(deaf):
    def refuse(line):
        raise KeyError(os.getpid())

    begun = time.monotonic()
    with pytest.raises(KeyError):
        deaf.run(refuse, print)
    assert time.monotonic() - begun < 30
