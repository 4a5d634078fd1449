"""The page of figures is that of a whole run in which nothing failed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import page

FAULTS = Path(__file__).parent
TESTS = """
import pytest

@pytest.mark.parametrize('number', range(6))
def test_a_fault(number, figure):
    figure('F-00', f'{number}')
    assert number != FAILS
"""
CONFTEST = """
import functools, sys
sys.path[:0] = PATHS
import page
page.write = functools.partial(page.write, path=PAGE)
from conftest_of_faults import *
"""


def run(folder, fails):
    """Runs six tests in two processes; returns how many the page says have passed, if any."""
    folder.mkdir()
    place = folder / 'page.md'
    (folder / 'test_it.py').write_text(TESTS.replace('FAILS', repr(fails)))
    (folder / 'conftest_of_faults.py').write_text((FAULTS / 'conftest.py').read_text())
    paths = [str(folder), str(FAULTS), str(FAULTS.parent)]
    text = CONFTEST.replace('PATHS', repr(paths)).replace(
        'PAGE', f'__import__("pathlib").Path({str(place)!r})'
    )
    (folder / 'conftest.py').write_text(text)
    words = [sys.executable, '-m', 'pytest', '-n', '2', '-p', 'no:cacheprovider', 'test_it.py']
    environment = os.environ | {'RELIABILITY': '', 'PYTHONPATH': str(FAULTS.parents[1])}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == int(fails is not None), done.stdout + done.stderr
    if not place.exists():
        return None
    assert page.WHOLE in place.read_text()
    return int(re.search(r'(\d+) tests passed, none failed', place.read_text())[1])


def test_the_page_counts_the_tests_of_all_processes_and_is_kept_after_a_failure(tmp_path):
    assert run(tmp_path / 'good', None) == 6
    assert run(tmp_path / 'bad', 3) is None
