"""Errors that say the problem, what was seen, and the fix; each kind has an exit code."""

import signal


class ChainerJoError(Exception):
    """Base of all errors a user can cause or mend.

    Args:
        problem (str): What is wrong, in one line.
        seen (str): The evidence: the value, file or figure that was found.
        fix (str): What to do or type next; ``{setting}`` stands for ``setting``.
        setting (tuple): None, or the name and the value of a setting that mends it. A caller in
            Python types it as an argument, a user of the commands as an option; only the
            commands know which.
    """

    exit_code = 1

    def __init__(self, problem, *, seen, fix, setting=None):
        super().__init__(problem)
        self.setting = setting
        if setting:
            fix = fix.format(setting=f'{setting[0]}={setting[1]!r}')
        self.problem, self.seen, self.fix = problem, seen, fix

    @property
    def in_a_line(self):
        """The problem and what was seen, for a list of several errors."""
        return f'{self.problem}: {excerpt(self.seen, 200)}'

    def __reduce__(self):
        # For pickling: by default a copy would be made from the wrong arguments.
        return _copy, (type(self), self.args, vars(self))

    def __str__(self):
        return f'error: {self.problem}\n  seen: {self.seen}\n  fix:  {self.fix}'


def _copy(kind, arguments, values):
    error = kind.__new__(kind, *arguments)
    vars(error).update(values)
    return error


class ConfigError(ChainerJoError):
    """Wrong usage or configuration."""

    exit_code = 2


class DataError(ChainerJoError):
    """Data are missing, damaged, or not the ones that were meant."""

    exit_code = 3


class InUseError(ChainerJoError):
    """Another process works on this folder."""

    exit_code = 4


class DivergedError(ChainerJoError):
    """The loss or a parameter is no longer a finite number."""

    exit_code = 5


class WriteError(ChainerJoError):
    """A file cannot be written, or may not be read: disk full, no permission, folder gone."""

    exit_code = 6


class OutOfMemoryError(ChainerJoError):
    """The GPU, or this machine, is out of memory."""

    exit_code = 7


class KilledError(ChainerJoError):
    """The process of a trial was ended by a signal: from the kernel, a user, or a fault."""

    exit_code = 8


class StoppedError(ChainerJoError):
    """A signal asked the run to stop; a snapshot was taken first.

    Args:
        signum (int): The signal; the exit code is ``128 + signum``.
    """

    def __init__(self, signum, *, seen, fix):
        super().__init__(f'stopped by {signal.Signals(signum).name}', seen=seen, fix=fix)
        # As a shell reports a process that a signal has ended.
        self.exit_code = 128 + signum


class UnforeseenError(ChainerJoError):
    """Nothing that a user did, as far as this package knows."""

    # That of a software error in BSD's sysexits.h; 1 means something else here.
    exit_code = 70


def excerpt(text, length=60):
    """Returns ``text`` (any object) in one line of at most ``length`` characters, for a message."""
    # Cut before and after escaping: a message may quote a file of any size.
    line = ' '.join(str(text)[: 4 * length].split())
    line = ''.join(letter if letter.isprintable() else '?' for letter in line)
    return line if len(line) <= length else f'{line[: length - 1]}…'
