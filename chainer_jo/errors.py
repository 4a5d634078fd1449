"""Errors with a problem, what was seen, and a fix; each kind has an exit code."""

import signal
import sys


class ChainerJoError(Exception):
    """Base class of all errors that a user can cause or fix.

    Args:
        problem (str): What is wrong, in one line.
        seen (str): The evidence: the value, file or number that was found.
        fix (str): What to do or type next. ``{setting}`` is replaced by ``setting``.
        setting (tuple): Name and value of a setting that fixes the error, or ``None``. In Python it
            is an argument, on the command line an option; only the commands know which.
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
        """The problem and what was seen in one line, for lists of errors."""
        return f'{self.problem}: {excerpt(self.seen, 200)}'

    def __reduce__(self):
        # For pickling between processes: by default the constructor would get `args` only, without
        # the required keywords.
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
    """Data are missing, damaged, or not the expected ones."""

    exit_code = 3


class InUseError(ChainerJoError):
    """Another process is using this folder."""

    exit_code = 4


class DivergedError(ChainerJoError):
    """The loss or a parameter is no longer a finite number."""

    exit_code = 5


class WriteError(ChainerJoError):
    """A file cannot be written or read: disk full, no permission, or a missing folder."""

    exit_code = 6


class OutOfMemoryError(ChainerJoError):
    """The GPU, or this machine, is out of memory."""

    exit_code = 7


class KilledError(ChainerJoError):
    """A trial's process was killed by a signal: from the kernel, a user, or a crash."""

    exit_code = 8


class StoppedError(ChainerJoError):
    """A signal asked the run to stop; a snapshot was taken first.

    Args:
        signum (int): The signal; the exit code is ``128 + signum``.
    """

    def __init__(self, signum, *, seen, fix):
        name = 'Ctrl-C' if signum == signal.SIGINT else signal.Signals(signum).name
        super().__init__(f'stopped by {name}', seen=seen, fix=fix)
        # The code with which a shell reports a process that was killed by a signal.
        self.exit_code = 128 + signum


class UnforeseenError(ChainerJoError):
    """An unexpected error, probably a fault of this package."""

    # EX_SOFTWARE of BSD's sysexits.h; exit code 1 has another meaning here.
    exit_code = 70


def not_installed(error):
    """Returns the ConfigError for a ModuleNotFoundError of another package."""
    return ConfigError(
        'this Python lacks a package that chainer_jo needs',
        seen=f'no module {error.name} for {sys.executable}',
        fix='run bash reproduce/setup.sh, and use .venv/bin/python instead of python',
    )


def count_of(number, what):
    """Returns a number with its noun: ``1 trial``, ``1,000 trials``."""
    return f'{number:,} {what}{"" if number == 1 else "s"}'


def excerpt(text, length=60):
    """Returns ``text`` (any object) as one printable line of at most ``length`` characters."""
    # Cut first, because a message may quote a file of any size.
    line = ' '.join(str(text)[: 4 * length].split())
    line = ''.join(letter if letter.isprintable() else '?' for letter in line)
    return line if len(line) <= length else f'{line[: length - 1]}…'
