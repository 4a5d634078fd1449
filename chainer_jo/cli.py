"""The command line: the parser of all commands, error reports, and exit codes."""

import argparse
import contextlib
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from chainer_jo import console, store
from chainer_jo.commands import about, benchmark, correct, data, report, sweep, train, verify
from chainer_jo.errors import (
    ChainerJoError,
    ConfigError,
    OutOfMemoryError,
    StoppedError,
    UnforeseenError,
    WriteError,
    excerpt,
    not_installed,
)
from chainer_jo.training import mpiexec, processes
from chainer_jo.version import __version__

EXIT_CODES = """\
exit codes:
  0  done                          6  cannot write, or may not read
  1  outside tolerance             7  out of memory
  2  usage or configuration        8  a trial's process was killed
  3  data missing or damaged       70  unexpected error; the message names the traceback file
  4  in use by another process     129, 130, 143  stopped after a snapshot
  5  diverged                      141  the reader of the output has closed the pipe
"""
EXAMPLES = """\
examples:
  python -m chainer_jo run table2 --preset quick
  python -m chainer_jo run table2 --data ~/cifar10 --only ours,tanaka --rates 0.7
  python -m chainer_jo train --dataset cifar10 --noise symmetric --rate 0.5 --method ours
"""
UNREAD = 141  # 128 + SIGPIPE, as a shell reports a program that was ended by a closed pipe.


def main(arguments=None):
    """Runs one command and exits with its code."""
    try:
        console.prepare()
        code = _run(arguments)
    except BrokenPipeError:
        # The reader, such as head, has seen enough: not an error to report.
        console.abandon_stdout()
        code = UNREAD
        processes.present().abort(code)
    except (Exception, KeyboardInterrupt) as raised:
        error = _for_people(raised)
        _tell(_with_option(error), error.exit_code)
        code = error.exit_code
    sys.exit(code)


def _tell(text, code):
    """Reports what ended a command, once for all ranks. If only one rank fails, it ends all."""
    ranks = processes.present()
    said = ranks.all_fail(text)
    if said is None:
        console.say(text, always=True)
        console.say(
            f'process {ranks.rank} of {ranks.size} has failed; all processes are stopped',
            always=True,
        )
        ranks.abort(code)
    elif ranks.rank == 0:
        # Ranks mostly fail for the same reason: equal messages are printed once.
        console.say('\n'.join(dict.fromkeys(said)))


def _run(arguments):
    try:
        ranks = _ranks()
        if ranks.rank:
            console.silence()
        options = parser().parse_args(arguments)
        if ranks.size > 1 and options.command is not train.run:
            raise ConfigError(
                'only the command train can run as several processes',
                seen=f'mpiexec -n {ranks.size}',
                fix='leave out mpiexec',
            )
        code = options.command(options)
    except SystemExit as exited:  # After --help and --version.
        code = exited.code
    console.flush()
    return code


def _ranks():
    if mpiexec.launched()[0] == 1:
        return processes.ALONE
    # Imported here, because it imports Chainer and --help should not wait for that.
    from chainer_jo.training import parallel

    return parallel.join()


def _for_people(error):
    """Returns the ChainerJoError for any exception that ended a command."""
    if isinstance(error, ChainerJoError):
        return error
    if isinstance(error, KeyboardInterrupt):
        # Training handles signals itself, so there was nothing to save.
        return StoppedError(
            signal.SIGINT, seen='nothing was training', fix='run the same command again'
        )
    if isinstance(error, MemoryError):
        return OutOfMemoryError(
            'the memory of this machine is full',
            seen=excerpt(error) or 'an allocation failed',
            fix='end other programs and run the same command again',
        )
    if isinstance(error, PermissionError) and error.filename is not None:
        return WriteError(
            f'cannot use {excerpt(error.filename, 1000)}',
            seen=error.strerror,
            fix='give yourself the right to read and write there, or name another folder',
        )
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith('chainer_jo'):
        return not_installed(error)
    return UnforeseenError(
        'unexpected error, probably a fault of chainer_jo',
        seen=f'{type(error).__name__}: {excerpt(error, 200)}',
        fix=f'report it with the traceback, {_keep_traceback(error)}',
    )


def _keep_traceback(error):
    lines = traceback.format_exception(error)
    with contextlib.suppress(OSError, ChainerJoError):
        # In a new folder with an unpredictable name, so that no file is overwritten.
        path = Path(tempfile.mkdtemp(prefix='chainer_jo-')) / 'traceback.txt'
        store.write_bytes(path, ''.join(lines).encode(errors='replace'))
        return f'which is in {path}'
    return f'which could not be written to a file; it ended in {excerpt(lines[-2], 200)}'


def _with_option(error):
    """Returns the text of an error with its setting written as a command-line option."""
    if not error.setting:
        return str(error)
    name, value = error.setting
    option = f'--no-{name}' if value is False else f'--{name} {value}'
    return str(error).replace(f'{name}={value!r}', option)


class _Parser(argparse.ArgumentParser):
    # argparse would print the usage and exit; errors here all have the same three lines.
    def error(self, message):
        raise ConfigError(excerpt(message, 200), seen=self.prog, fix=f'see {self.prog} --help')

    def parse_known_args(self, args=None, namespace=None):
        known, others = super().parse_known_args(args, namespace)
        # Here already: the parser of a command leaves them to the main parser, whose --help does
        # not list the options of the command.
        if others:
            self.error(f'unrecognized arguments: {" ".join(others)}')
        return known, others

    def _print_message(self, message, file=None):
        # argparse itself ignores errors when it writes a help text.
        console.show(message.rstrip('\n'))


def parser():
    """Returns the parser of all commands. It raises ConfigError for a wrong command line."""
    parser = _Parser(
        prog='python -m chainer_jo',
        description='Reproduces "Improved Mix-up with KL-Entropy for Learning From Noisy Labels".',
        epilog=f'{EXAMPLES}\n{EXIT_CODES}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'chainer_jo {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)

    def command(name, function, text):
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=function)
        return sub

    for group in (about, correct, data, sweep, train, report, verify, benchmark):
        group.add(command)
    return parser
