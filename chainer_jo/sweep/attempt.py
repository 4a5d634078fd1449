"""One trial in a process of its own, which runs the very command that tables print beside it."""

import json
import os
import shlex
import subprocess
import sys
import threading
from collections import deque

from chainer_jo.training.machine import THREAD_VARIABLES

LINES_KEPT = 200


def words(config, machine):
    """Returns what follows ``python`` on the command line of a trial (TrialConfig) on a Machine."""
    return [*shlex.split(config.command)[1:], *machine.as_words(), '--json']


class Attempt:
    """Runs a trial, or the rest of it.

    Args:
        words (list of str): The trial; see :func:`words`.
        threads (int): Threads that it computes with if it has not begun with others.
        folder (os.PathLike): Where the process runs; ``None`` for the present folder.
        without (tuple of str): Environment variables that it is not handed.
    """

    def __init__(self, words, threads, folder=None, without=()):
        self._words, self._folder = [*words, '--while-stdin-is-open'], folder
        handed = {name: value for name, value in os.environ.items() if name not in without}
        self._environment = handed | dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._process = self._signum = None

    def run(self, on_line, on_text):
        """Waits for the end and returns the exit code and the last lines said on stderr.

        Args:
            on_line (callable): Called with every line that the trial prints, a dict.
            on_text (callable): Called with any other line on its stdout, which libraries print.
        """
        with subprocess.Popen(
            [sys.executable, *self._words],
            cwd=self._folder,
            env=self._environment,
            # Nothing is written to this pipe: it closes when this process dies, however it dies.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors='replace',
            # A group of its own: Ctrl-C reaches it once, from here.
            start_new_session=True,
        ) as self._process:
            if self._signum is not None:
                self._process.send_signal(self._signum)
            said = deque(maxlen=LINES_KEPT)
            reader = threading.Thread(target=lambda: said.extend(self._process.stderr))
            reader.start()
            for line in self._process.stdout:
                _hand_on(line, on_line, on_text)
            reader.join()
            return self._process.wait(), ''.join(said)

    def stop(self, signum):
        """Sends the process a signal, now or as soon as there is one; it takes a snapshot."""
        self._signum = signum
        if self._process is not None:
            self._process.send_signal(signum)


def _hand_on(line, on_line, on_text):
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        on_line(value)
    elif line.strip():
        on_text(line.rstrip('\n'))
