"""Warns once if other programs compete for the cores of a trial."""

import threading
import time
from pathlib import Path

from chainer import training

SECONDS = 60.0  # Length of one measurement.
SHARE = 0.15  # Share of that time spent waiting above which it warns.


def seconds_waited():
    """Returns the seconds that this thread was ready to run but had no core; ``None`` if unknown.

    Linux counts them. Processor time does not show this: it looks the same for a thread that waits
    for a core and for one that sleeps until other threads finish a layer.
    """
    try:
        fields = Path(f'/proc/self/task/{threading.get_native_id()}/schedstat').read_text().split()
        return int(fields[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


class NoticeNeighbours(training.Extension):
    """Warns once if training waits for a core for more than ``SHARE`` of a minute.

    Args:
        trial (str): The trial's id.
        threads (int): Its number of threads.
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
                f'{seconds:.0f} s, because other programs use the cores. Each of its '
                f'{self._threads} threads waits for the slowest. A running trial keeps its number '
                'of threads, on which its last digits depend; start new ones with --threads 1'
            )
