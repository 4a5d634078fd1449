"""The code is as ruff wants it."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize('check', [['check'], ['format', '--check']], ids=' '.join)
def test_ruff_has_nothing_to_say_about(check):
    done = subprocess.run(
        [sys.executable, '-m', 'ruff', *check, '--no-cache', '.'],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
