"""``report``, ``diff`` and ``show``: the results of finished trials. Chainer is not imported."""

import difflib
import os
from pathlib import Path

from chainer_jo import paper
from chainer_jo.commands import options
from chainer_jo.console import say, show, show_json
from chainer_jo.errors import ConfigError, DataError, excerpt


def add(command):
    """Adds the commands; ``command(name, function, text)`` returns a new parser."""
    report = command('report', _report, 'writes tables, figures and an overview page')
    options.add_table(report, everything=True)
    options.add_out(report)
    options.add_json(report, "print the table's rows as JSON")
    diff = command(
        'diff', _diff, "the difference from the paper's numbers; exit 1 outside tolerance"
    )
    options.add_table(diff)
    options.add_out(diff)
    options.add_json(diff)
    shown = command('show', _show, 'one trial: command, settings, result, last epochs')
    shown.add_argument('trial', type=options.path, metavar='TRIAL', help='trial id or folder')
    options.add_json(shown)


def write(table, preset, out, say_where=True):
    """Writes a table's files and returns its Report; lists unreadable files on stderr."""
    from chainer_jo.report import publish
    from chainer_jo.report.collect import Trials

    trials = Trials(out)
    report = publish.write(table, preset, out, trials)
    pages = publish.write_pages(out, trials)
    if say_where:
        written = [Path(out) / f'{report.grid["name"]}.md', *pages]
        say(f'written  {", ".join(map(str, written))}')
    _complain_of(report.unreadable)
    return report


def show_table(table, preset, out):
    """Writes a table's files and prints the table; returns 3 if a file was unreadable, else 0."""
    report = write(table, preset, out)
    show(report.markdown)
    return DataError.exit_code if report.unreadable else 0


def _complain_of(unreadable):
    for file in unreadable:
        say(f'unreadable: {file["path"]}: {file["problem"]}')


def _check_out(given):
    # A folder without results is fine if it is the usual one, which nobody mistypes.
    if given.out and not options.out_folder(given, paper.tables()[0]).is_dir():
        raise ConfigError(
            f'there are no results in {excerpt(given.out)}',
            seen='no such folder',
            fix='name the folder that was the --out of run, or leave out --out',
        )


def _report(given):
    _check_out(given)
    tables = paper.tables() if given.table == 'all' else [given.table]
    reports = [
        write(table, given.preset, options.out_folder(given, table), not given.json)
        for table in tables
    ]
    if given.json:
        show_json([row for report in reports for row in report.rows])
    else:
        show('\n'.join(report.markdown for report in reports))
    return DataError.exit_code if any(report.unreadable for report in reports) else 0


def _diff(given):
    from chainer_jo.report import difference, publish

    _check_out(given)
    report = publish.read(given.table, given.preset, options.out_folder(given))
    _complain_of(report.unreadable)
    differences = difference.differences(report.grid, report.rows)
    if given.json:
        show_json(differences)
    else:
        show(difference.to_markdown(report.grid, differences))
    if report.unreadable:
        return DataError.exit_code
    if not difference.judged(differences):
        say('no cell has a verdict; exit code 0 does not mean here that the table is reproduced')
    # For scripts: 0 if every cell with a verdict is within the allowed difference.
    return int(difference.outside(differences))


def _show(given):
    # Not Path.is_dir, which raises an error for a name that is too long.
    if os.path.isdir(runs := given.trial / 'runs'):
        raise ConfigError(
            f'{excerpt(given.trial, 200)} contains trials, and is not one',
            seen=f'the folder {excerpt(runs, 200)}',
            fix=f'name one of them, such as {excerpt(min(runs.iterdir(), default="TRIAL"), 200)}',
        )
    from chainer_jo.report import publish
    from chainer_jo.report.show import show as read
    from chainer_jo.report.show import to_text

    folder = _find(given.trial)
    shown = read(folder.parent.parent, folder.name, publish.command)
    show_json(shown) if given.json else show(to_text(shown))
    return 0


def _find(named):
    """Returns the folder of a trial; the user's runs take precedence over the repository's."""
    # A trial id has no slash; everything else is a folder.
    if len(named.parts) != 1:
        return _checked(named)
    trial = named.name
    results = Path('results')
    # The user's own results first, because they are more likely meant.
    runs = [*sorted(results.glob('*/runs')), *sorted(results.glob('reference/*/runs'))]
    found = [folder / trial for folder in runs if _checked(folder / trial).is_dir()]
    if found:
        return found[0]
    # The caller reports that it is not there, with the nearest names in the same folder.
    near = {path.name: path.parent for folder in runs for path in folder.glob('*')}
    names = difflib.get_close_matches(trial, near, 1, 0)
    return (near[names[0]] if names else results / 'paper' / 'runs') / trial


def _checked(folder):
    try:
        folder.exists()
    except OSError as error:
        raise ConfigError(
            f'no trial {excerpt(folder.name)!r}',
            seen=error.strerror,
            fix='give a trial id from a table, or the folder of a trial',
        ) from None
    return folder
