"""Commands in an empty folder."""

import re
import shlex

import pytest
from narrow import THREE_LINES, TINY, command, files

from chainer_jo import cli
from chainer_jo.datasets.dataset import VARIABLE


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder in which the smallest trial was trained, and the process that did it."""
    folder = tmp_path_factory.mktemp('trained')
    return folder, command(TINY, folder, TERM='xterm-256color')


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs a command in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)

    def run(words, folder=tmp_path):
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit) as exited:
            cli.main(shlex.split(words))
        captured = capsys.readouterr()
        return exited.value.code, captured.out, captured.err

    return run


@pytest.fixture
def refused(call, tmp_path):
    """Runs a command that must end in an error of three lines and write nothing."""

    def run(words):
        before = files(tmp_path)
        code, out, said = call(words)
        assert out == ''
        assert re.fullmatch(THREE_LINES, said), said
        assert files(tmp_path) == before
        return code, said

    return run
