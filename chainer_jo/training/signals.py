"""Records the signals that ask a trial or a run of trials to stop."""

import signal
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Records signals while a ``with`` block runs; the block polls :attr:`last`.

    In a thread other than the main one, in which Python allows no handlers, it records none.

    Attributes:
        last (int): The last signal received, or ``None``.
    """

    def __init__(self):
        self.last = None

    def __enter__(self):
        heeded = SIGNALS if threading.current_thread() is threading.main_thread() else ()
        # Ignored signals stay ignored: nohup, for one, ignores SIGHUP.
        heeded = [number for number in heeded if signal.getsignal(number) != signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, signum, _):
        # Nothing else is safe here: the handler may have interrupted code that holds a lock.
        self.last = signum
