"""Estimates when all trials of a run will be done, from its pace so far."""

import time

SECONDS = 10  # Of training before the pace is used for an estimate.


class Arrival:
    """Tracks the progress of the trials of a run.

    Args:
        work (dict): Remaining work by trial id, all in seconds or all in epochs.
    """

    def __init__(self, work):
        self._left, self._trained = dict(work), {}
        self._first, self._since = {}, None

    def place(self, trial, done, epochs):
        """Records that a trial has trained ``done`` of ``epochs`` epochs; may be fractional."""
        if self._since is None:
            self._since = time.monotonic()
        # Epochs from an earlier run, or from a shared first stage, do not count for the pace.
        first = self._first.setdefault(trial, done)
        self._trained[trial] = (done - first) / max(epochs - first, 1)

    def finish(self, trial):
        """Records that a trial is done; if it never trained here, another process trained it."""
        if trial in self._trained:
            self._trained[trial] = 1.0
        else:
            self._left.pop(trial, None)

    def give_up(self, trial):
        """Records that a trial has failed and will not be trained on."""
        part = self._trained.get(trial, 0.0)
        self._left[trial] = self._left.get(trial, 0) * part
        self._trained[trial] = 1.0

    def seconds(self, at_least=0.0):
        """Returns the seconds that the remaining work takes, or ``None`` while it is unknown.

        Args:
            at_least (float): Seconds left of the slowest running trial, which cannot be divided.
        """
        # A copy, because other threads add trials meanwhile. Not a list of pairs: making one may
        # start the garbage collector, and with it those threads.
        trained = sum(
            self._left.get(trial, 0) * part for trial, part in self._trained.copy().items()
        )
        elapsed = 0.0 if self._since is None else time.monotonic() - self._since
        # The first seconds go to starting processes and to captures, and would mislead.
        if elapsed < SECONDS or trained <= 0:
            return None
        return max(at_least, (sum(self._left.values()) - trained) * elapsed / trained)
