"""The help texts are kept in ``help`` beside this file. To write them anew after a change:

UPDATE_HELP=1 python -m pytest tests/commands/test_help.py
"""

import os
import re
from pathlib import Path

import pytest

from chainer_jo import cli, store

KEPT = Path(__file__).parent / 'help'
COMMANDS = re.findall(r'^    (\w+)', cli.parser().format_help(), re.M)


@pytest.mark.parametrize('command', ['', *COMMANDS])
def test_the_help_text_is_the_one_that_is_kept(command, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '100')
    with pytest.raises(SystemExit) as exited:
        cli.main([*command.split(), '--help'])
    assert exited.value.code == 0
    text, path = capsys.readouterr().out, KEPT / f'{command or "chainer_jo"}.txt'
    if os.environ.get('UPDATE_HELP'):
        store.write_text(path, text)
    assert text == path.read_text(), (
        'if that is meant: UPDATE_HELP=1 pytest tests/commands/test_help.py'
    )


def test_no_help_text_is_kept_for_a_command_that_is_gone():
    assert {path.stem for path in KEPT.glob('*')} == {'chainer_jo', *COMMANDS}


@pytest.mark.parametrize('command', COMMANDS)
def test_every_help_text_names_the_exit_codes_and_every_argument_has_a_text(command):
    text = (KEPT / f'{command}.txt').read_text()
    assert 'exit codes:' in text
    arguments = re.findall(r'^  (-*\w[^\n]*)\n(?!   )', text.split('exit codes:')[0], re.M)
    assert [argument for argument in arguments if not re.search(r'\S  +\S', argument)] == []
