"""When all trials of a run will be done, by how fast it has trained so far."""

import time

SECONDS = 10  # Of training, before they say anything about the rest.


class Arrival:
    """Looks at how far the trials of a run are.

    Args:
        work (dict): What each trial has left, by its id: all in seconds, or all in epochs.
    """

    def __init__(self, work):
        self._left, self._trained = dict(work), {}
        self._first, self._since = {}, None

    def place(self, trial, done, epochs):
        """A trial has trained ``done``, perhaps with a fraction, of so many epochs."""
        if self._since is None:
            self._since = time.monotonic()
        # What lay in the folder, or was trained for another trial, says nothing of this run's pace.
        first = self._first.setdefault(trial, done)
        self._trained[trial] = (done - first) / max(epochs - first, 1)

    def finish(self, trial):
        """A trial is done, here or, if it was never seen to be trained, elsewhere."""
        if trial in self._trained:
            self._trained[trial] = 1.0
        else:
            self._left.pop(trial, None)

    def seconds(self, at_least=0.0):
        """Returns how long all that is left takes, or ``None`` while it is unknown.

        Args:
            at_least (float): What the slowest running trial takes: it cannot be divided.
        """
        trained = sum(self._left.get(trial, 0) * part for trial, part in self._trained.items())
        elapsed = 0.0 if self._since is None else time.monotonic() - self._since
        if elapsed < SECONDS or trained <= 0:
            return None
        return max(at_least, (sum(self._left.values()) - trained) * elapsed / trained)
