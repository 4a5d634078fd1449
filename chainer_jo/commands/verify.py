"""``verify``: checks that the files of results have not been altered."""

from chainer_jo.commands import options
from chainer_jo.console import show, show_json
from chainer_jo.errors import ConfigError, DataError, count_of, excerpt


def add(command):
    """Adds the command; ``command(name, function, text)`` returns a new parser."""
    parser = command('verify', _verify, 'checks every file in a folder of results')
    parser.add_argument(
        'folder', metavar='FOLDER', type=options.path, help='a results folder, or that of a trial'
    )
    options.add_json(parser, 'print the problems as JSON')


def _verify(given):
    from chainer_jo.report import integrity

    try:
        seen = 'no folder runs/TRIAL' if given.folder.exists() else 'no such folder'
        trials, files, problems = integrity.verify(given.folder)
    except PermissionError:
        raise
    except OSError as error:  # The name is too long.
        seen, trials = error.strerror, 0
    if not trials:
        raise ConfigError(
            f'no trial in {excerpt(given.folder)}',
            seen=seen,
            fix='name a results folder, such as results/quick',
        )
    if given.json:
        show_json(problems)
    else:
        lines = [f'{problem["path"]}: {problem["problem"]}' for problem in problems]
        count = f'{count_of(trials, "trial")}, {count_of(files, "file")}'
        found = count_of(len(problems), 'problem') if problems else 'no problems'
        show('\n'.join([*lines, f'{count}: {found}']))
    # Not raised: the problems above are the result, and scripts look at the exit code.
    return DataError.exit_code if problems else 0
