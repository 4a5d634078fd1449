"""The signals that ask a trial or a run of trials to stop: noted, until it looks."""

import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Notes the signals that come while a ``with`` block runs.

    Attributes:
        last (int): The last one that came, or ``None``.
    """

    def __init__(self):
        self.last = None

    def __enter__(self):
        # A signal that nohup made this process ignore stays ignored.
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, signum, _):
        # Nothing but this: the handler may have interrupted code that holds a lock.
        self.last = signum
