"""Notices that other programs want the cores of a trial, and says once what helps."""

import threading
import time
from pathlib import Path

from chainer import training

SECONDS = 60.0  # Of one look.
SHARE = 0.15


def seconds_waited():
    """Returns how long this thread was ready to run and had no core; ``None`` if unknown.

    Linux counts it. Processor time would not do: it cannot tell a thread that has to wait for a
    core from one that sleeps until others have done their part of a layer.
    """
    try:
        fields = Path(f'/proc/self/task/{threading.get_native_id()}/schedstat').read_text().split()
        return int(fields[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


class NoticeNeighbours(training.Extension):
    """Warns once if training waits for a core for a good part of a minute.

    Args:
        trial (str): Its id.
        threads (int): With how many it computes; one loses no more than its share.
        warn (callable): Called with a line of text.
    """

    trigger = 1, 'iteration'

    def __init__(self, trial, threads, warn):
        self._trial, self._threads, self._warn = trial, threads, warn
        self._told = False

    def initialize(self, trainer):
        self._since, self._waited = time.monotonic(), seconds_waited()

    def __call__(self, trainer):
        seconds = time.monotonic() - self._since
        if self._told or seconds < SECONDS or self._waited is None:
            return
        share = (seconds_waited() - self._waited) / seconds
        self.initialize(trainer)
        if share > SHARE:
            self._told = True
            self._warn(
                f'{self._trial}: waited for a core {100 * share:.0f} % of the last '
                f'{seconds:.0f} s: other programs use them, and of its {self._threads} threads '
                'each waits for the slowest. It keeps them, as its last digits depend on their '
                'number; a trial started with --threads 1 loses least'
            )
