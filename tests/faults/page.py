"""``results/reliability.md``: what faults and fuzzers found, a section for each command."""

import datetime
import fcntl
import re
import shlex
from pathlib import Path

from chainer_jo.training import machine

PAGE = Path(__file__).parents[2] / 'results/reliability.md'
HEAD = """# What the fault suite found

Trials are tiny: a net of four filters, 128 images, three epochs.

F-01 kill -9 at random moments; F-02 kill -9 within a write; F-03 signals; F-05 snapshots cut short;
F-06 flipped bits; F-07 no whole snapshot left; F-08 the snapshot of another trial; F-09 full disk;
F-10 folders that cannot be written; F-11 two processes for one trial; F-12 the lock of a dead
process; F-13 two processes for one table; F-14 a loss that is not finite; F-19 changed data;
F-22 full memory; F-23 the same seed twice; F-24 random settings.
"""
WHOLE, SINCE, FUZZING = 'The long form', 'Parts of it, run since', 'Fuzzed readers'
SECTIONS = (WHOLE, SINCE, FUZZING)


def write(title, change, path=PAGE):
    """Puts what ``change`` makes of a section in its place; ``None`` takes the section away."""
    with path.open('a+') as page:
        # Two fuzzers may run side by side, and end in the same second.
        fcntl.flock(page, fcntl.LOCK_EX)
        page.seek(0)
        parts = re.split(r'^## (.+)\n\n', page.read(), flags=re.MULTILINE)
        sections = dict(zip(parts[1::2], parts[2::2], strict=True))
        sections[title] = change(sections.get(title, ''))
        kept = [(name, sections[name].strip()) for name in SECTIONS if sections.get(name)]
        page.truncate(0)
        page.write('\n'.join([HEAD, *(f'## {name}\n\n{text}\n' for name, text in kept)]))


def table(columns, rows):
    """Returns the lines of a table."""
    head = [f'| {" | ".join(columns)} |', f'|{" --- |" * len(columns)}']
    return '\n'.join([*head, *(f'| {" | ".join(row)} |' for row in rows)])


def here():
    """Says when and where something was run."""
    place = machine.processor()['processor']
    return f'{datetime.date.today()}; {place}, {machine.cores()} cores'


def write_suite(figures, passed, words=()):
    """Writes what the long form found; ``words`` of its command chose a part of it."""
    words = shlex.join(words)
    text = (
        f'Made by `bash tests/faults/run_long.sh{words and f" {words}"}` on {here()}.\n'
        f'{passed} tests passed, none failed.\n\n{table(["fault", "figure"], figures)}'
    )
    write(SINCE if words else WHOLE, lambda _: text)
    if not words:
        write(SINCE, lambda _: None)


def write_fuzzing(reader, *figures):
    """Writes what the fuzzer found at a reader, in the place of what it found there before:
    seconds, those of a processor among them, executions, and findings."""
    columns = ['reader', 'seconds', 'of a processor', 'executions', 'findings', 'run on']

    def change(section):
        lines = [line for line in section.splitlines() if line.startswith('|')]
        rows = {row[0]: row for row in (line.strip('| ').split(' | ') for line in lines[2:])}
        rows[reader] = [reader, *figures, here()]
        head = (
            'Made by `bash tests/faults/fuzz.sh SECONDS [READER ...]`; a row is the last run for\n'
            'a reader. A finding is an exception other than the documented ones, ten seconds for\n'
            'one file, or 2 GiB of memory.'
        )
        return f'{head}\n\n{table(columns, [rows[name] for name in sorted(rows)])}'

    write(FUZZING, change)
