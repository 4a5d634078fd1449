"""Commands in processes of their own, which a test may kill, freeze or hinder.

They are forked from a server that has imported everything, so that one costs no second to start.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time

from chainer_jo import cli

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['pytest', 'chainer_jo.cli', 'chainer_jo.training.trial'])
PATIENCE = 60  # Seconds until a test gives up; nothing is expected to take long.


class Child:
    """``python -m chainer_jo`` with some words, its output in a file.

    Args:
        words (list of str): The command line.
        log (pathlib.Path): Where stdout and stderr go.
        fault (callable): Called in the child before the command; must be picklable.
        fresh (bool): Whether a new interpreter runs the command, as from a shell.
    """

    def __init__(self, words, log, fault=None, fresh=False):
        self.log = log
        log.write_text('')
        self._process = CONTEXT.Process(target=_main, args=(words, log, fault, fresh))
        self._process.start()
        self.pid = self._process.pid

    def said(self):
        """All that it printed so far."""
        return self.log.read_text()

    def send(self, signum):
        with contextlib.suppress(ProcessLookupError):  # It may have ended.
            os.kill(self.pid, signum)

    def wait_for(self, text):
        """Waits until it has printed ``text``."""
        end = time.monotonic() + PATIENCE
        while text not in self.said():
            assert time.monotonic() < end, self.said()
            assert self._process.is_alive() or text in self.said(), self.said()
            time.sleep(0.005)

    def wait(self):
        """Waits for its end and returns its exit code, ``-n`` if signal ``n`` killed it."""
        self._process.join(PATIENCE)
        code = self._process.exitcode
        assert code is not None, self.said()
        self._process.close()
        return code


def _main(words, log, fault, fresh):
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if fault is not None:
        fault()
    if fresh:
        os.execv(sys.executable, [sys.executable, '-m', 'chainer_jo', *words])
    cli.main(words)


def run(words, log, fault=None):
    """Runs a command to its end and returns its exit code."""
    return Child(words, log, fault).wait()


def without_privileges():
    """Has this process obey the rights of files even where root runs it."""
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0
