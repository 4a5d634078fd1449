"""The scripts in ``reproduce/``, as far as all of them are alike."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The scripts run what is in .venv; set-up itself takes no options.
SCRIPTS = sorted({*ROOT.glob('reproduce/*.sh')} - {ROOT / 'reproduce/setup.sh'})


@pytest.mark.skipif(Path(sys.prefix) != ROOT / '.venv', reason='the tests run outside .venv')
@pytest.mark.parametrize('script', SCRIPTS, ids=lambda script: script.name)
def test_a_script_explains_itself_at_once(script):
    done = subprocess.run(
        ['bash', script, '--help'], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('usage: ')
