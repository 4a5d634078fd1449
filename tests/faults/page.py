"""``results/reliability.md``: what faults and fuzzers found, a section for each command."""

import datetime
import re
import shlex
from pathlib import Path

from chainer_jo.training import machine

PAGE = Path(__file__).parents[2] / 'results/reliability.md'
HEAD = """# What the fault suite found

Trials are tiny: a net of four filters, 128 images, three epochs.
"""
WHOLE, SINCE, FUZZING = 'The long form', 'Parts of it, run since', 'Fuzzed readers'
SECTIONS = (WHOLE, SINCE, FUZZING)


def write(title, text, path=PAGE):
    """Puts a section in the place of the one of that title; ``None`` takes it away."""
    parts = re.split(r'^## (.+)\n\n', path.read_text() if path.exists() else '', flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True)) | {title: text}
    kept = [f'## {name}\n\n{sections[name].strip()}\n' for name in SECTIONS if sections.get(name)]
    path.write_text('\n'.join([HEAD, *kept]))


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
    write(SINCE if words else WHOLE, text)
    if not words:
        write(SINCE, None)


def write_fuzzing(rows, seconds):
    """Writes what the fuzzer found: rows of reader, seconds, of a processor, executions,
    and findings."""
    columns = ['reader', 'seconds', 'of a processor', 'executions', 'findings']
    text = (
        f'Made by `bash tests/faults/fuzz.sh {seconds}` on {here()}. A finding is an exception\n'
        'other than the documented ones, ten seconds for one file, or 2 GiB of memory.\n\n'
        + table(columns, rows)
    )
    write(FUZZING, text)
