"""Hunts, guided by coverage, for files at which a reader of ``readers.py`` does what it may not.

``fuzz.py FOLDER SECONDS [READER ...]`` hunts for so long for each reader, in one process after the
other, as a hang or a fault in native code ends one. What was found lies in FOLDER, by reader: the
bytes, and beside them the traceback.
"""

import contextlib
import hashlib
import os
import re
import resource
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from unittest import mock

PATIENCE, MEMORY = 10, 2048  # Seconds for a file, and MiB.
LONGEST = 1 << 16
# Files until a new process hunts on: under atheris, and only there, some kilobytes stay behind at
# each, so that in the end the memory would be full and any file taken for a finding.
RUNS = 100_000
SAID = '.said'
HERE = Path(__file__).parent


def hunt(reader, place, found, options):
    """Reads what libFuzzer makes up, until it is told to stop; never returns.

    Args:
        reader (str): One of ``readers.READERS``.
        place (str): An empty folder.
        found (pathlib.Path): Where the findings go.
        options (list of str): libFuzzer's.
    """
    import atheris
    import readers

    # More than this is asked for only by a file that lies about what it holds.
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY << 20, resource.RLIM_INFINITY))

    def read(content):
        try:
            readers.call(reader, content, place)
        except Exception as error:
            record(found, content, error)

    with without_checksums(), readers.READERS[reader].setting():
        atheris.Setup([sys.argv[0], *options], read)
        atheris.Fuzz()


@contextlib.contextmanager
def without_checksums():
    """In archives they only guard against accidents, and would end nearly every file at once."""
    with (
        mock.patch.object(tarfile, 'calc_chksums', lambda head: (tarfile.nti(head[148:156]),)),
        mock.patch.object(zipfile.ZipExtFile, '_update_crc'),
    ):
        yield


def record(found, content, error):
    """Keeps one file for each place at which an exception was raised."""
    places = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if 'chainer_jo' in frame.filename
    ]
    where = f'{places[-1].filename}:{places[-1].lineno}' if places else ''
    key = hashlib.sha256(f'{type(error).__name__} {where}'.encode()).hexdigest()[:12]
    if not (found / f'{key}.txt').exists():
        (found / key).write_bytes(content)
        (found / f'{key}.txt').write_text(''.join(traceback.format_exception(error)))


def in_a_process(function, said):
    """Calls a function in a fork, which has all that was imported; returns its processor time."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            function()
        os._exit(1)
    usage = os.wait4(pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


def hunted(reader, folder, seconds):
    """Hunts for so long.

    Returns:
        tuple: Seconds, those of a processor among them, number of files read, and of findings.
    """
    import seeds

    found, corpus = (folder / part / reader.replace(' ', '-') for part in ('found', 'corpus'))
    for made in (found, corpus):
        made.mkdir(parents=True, exist_ok=True)
    for content in seeds.of(reader):
        (corpus / hashlib.sha256(content).hexdigest()).write_bytes(content)
    options = {
        'timeout': PATIENCE, 'rss_limit_mb': MEMORY, 'max_len': LONGEST, 'print_final_stats': 1,
        'artifact_prefix': f'{found}/', 'runs': RUNS,
    }  # fmt: skip
    begun, busy, executions = time.monotonic(), 0.0, 0
    while (left := round(seconds - (time.monotonic() - begun))) > 0:
        words = [f'-{option}={value}' for option, value in options.items()]
        words += [f'-max_total_time={left}', str(corpus)]
        with tempfile.TemporaryDirectory(
            dir='/dev/shm' if os.path.isdir('/dev/shm') else None
        ) as t:
            busy += in_a_process(lambda: hunt(reader, t, found, words), found / SAID)  # noqa: B023
        counts = re.findall(
            r'number_of_executed_units: *(\d+)', (found / SAID).read_text(errors='replace')
        )
        if not counts:
            raise SystemExit(f'{reader}: the fuzzer did not run, see {found / SAID}')
        executions += int(counts[-1])
    findings = {path.stem for path in found.iterdir() if path.name != SAID}
    return time.monotonic() - begun, busy, executions, len(findings)


def main(folder, seconds, *names):
    import atheris

    # Packages whose code decides what a file is; the others are slow to watch and say little.
    with atheris.instrument_imports(
        include=['chainer_jo', 'PIL', 'csv', 'json', 'pickletools', 'tarfile', 'zipfile', 'gzip']
    ):
        import readers
    import page

    for name in names or readers.READERS:
        took, busy, executions, findings = hunted(name, Path(folder), float(seconds))
        sys.stdout.write(
            f'{name}: {took:.0f} s, {busy:.0f} s of a processor, {executions:,} executions, '
            f'{findings} findings\n'
        )
        sys.stdout.flush()
        # After each: a hunt may be ended at any time.
        page.write_fuzzing(name, f'{took:.0f}', f'{busy:.0f}', f'{executions:,}', str(findings))


if __name__ == '__main__':
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    main(*sys.argv[1:])
