"""One trial in a process of its own, which runs the very command that tables print beside it."""

import json
import os
import shlex
import subprocess
import sys
import threading

from chainer_jo.training.machine import THREAD_VARIABLES


class Attempt:
    """Runs a trial, or the rest of it.

    Args:
        config (TrialConfig): The trial.
        machine (Machine): Where it runs.
        threads (int): Threads that it may compute with, unless the environment says so.
    """

    def __init__(self, config, machine, threads):
        self._words = [*shlex.split(config.command)[1:], *machine.as_words(), '--json']
        self._environment = dict.fromkeys(THREAD_VARIABLES, str(threads)) | os.environ
        self._process = self._signum = None

    def run(self, on_line):
        """Waits for the end and returns the exit code and all that was said on stderr.

        Args:
            on_line (callable): Called with every line that the trial prints, a dict.
        """
        with subprocess.Popen(
            [sys.executable, *self._words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors='replace',
            # A group of its own: Ctrl-C reaches it once, from here.
            start_new_session=True,
        ) as self._process:
            if self._signum is not None:
                self._process.send_signal(self._signum)
            said = []
            reader = threading.Thread(target=lambda: said.append(self._process.stderr.read()))
            reader.start()
            for line in self._process.stdout:
                on_line(json.loads(line))
            reader.join()
            return self._process.wait(), said[0]

    def stop(self, signum):
        """Sends the process a signal, now or as soon as there is one; it takes a snapshot."""
        self._signum = signum
        if self._process is not None:
            self._process.send_signal(signum)
