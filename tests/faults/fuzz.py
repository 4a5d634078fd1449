"""Hunts, guided by coverage, for files at which a reader of ``readers.py`` does what it may not.

``fuzz.py FOLDER SECONDS [READER ...]`` hunts in one process after the other, as a hang or a fault
in native code ends one; ``fuzz.py --hunt READER FOLDER [libFuzzer's options]`` is such a process.
What was found lies in FOLDER, by reader: the bytes, and beside them the traceback.
"""

import contextlib
import hashlib
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

PATIENCE, MEMORY = 10, 2048  # Seconds for a file, and MiB.
LONGEST = 1 << 16
BEGUN, SAID = '.begun', '.said'
HERE = Path(__file__).parent


def hunt(name, folder, options):
    """Reads what libFuzzer makes up, until it is told to stop."""
    import atheris

    # Packages whose code decides what a file is; the others are slow to watch and say little.
    with atheris.instrument_imports(
        include=['chainer_jo', 'PIL', 'csv', 'json', 'pickletools', 'tarfile', 'zipfile', 'gzip']
    ):
        import readers

    # More than this is asked for only by a file that lies about what it holds.
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY << 20, resource.RLIM_INFINITY))
    found = Path(folder)

    def read(content):
        try:
            readers.call(name, content, place)
        except Exception as error:
            record(found, content, error)

    with (
        tempfile.TemporaryDirectory(dir='/dev/shm' if os.path.isdir('/dev/shm') else None) as place,
        without_checksums(),
        readers.READERS[name].setting(),
    ):
        atheris.Setup([sys.argv[0], *options], read)
        (found / BEGUN).touch()
        atheris.Fuzz()


@contextlib.contextmanager
def without_checksums():
    """In archives they only guard against accidents, and would end nearly every file at once."""
    import tarfile
    import zipfile
    from unittest import mock

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


def hunted(name, folder, seconds):
    """Hunts for so long; returns the seconds it took, the number of files read, and of findings."""
    import seeds

    found, corpus = folder / name.replace(' ', '-'), folder / 'corpus' / name.replace(' ', '-')
    for made in (found, corpus):
        made.mkdir(parents=True, exist_ok=True)
    for content in seeds.of(name):
        (corpus / hashlib.sha256(content).hexdigest()).write_bytes(content)
    took = executions = 0
    while (left := int(seconds - took)) > 0:
        command = [sys.executable, __file__, '--hunt', name, str(found), str(corpus)]
        options = {
            'max_total_time': left, 'timeout': PATIENCE, 'rss_limit_mb': MEMORY,
            'max_len': LONGEST, 'print_final_stats': 1, 'artifact_prefix': f'{found}/',
        }  # fmt: skip
        done = subprocess.run(
            [*command, *(f'-{option}={value}' for option, value in options.items())],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors='replace',
            check=False,
        )  # fmt: skip
        (found / SAID).write_text(done.stderr[-20000:])
        counts = re.findall(r'number_of_executed_units: *(\d+)', done.stderr)
        if not counts:
            raise SystemExit(f'{name}: the fuzzer did not run\n{done.stderr[-3000:]}')
        executions += int(counts[-1])
        # Without the time in which all was imported.
        took += time.time() - (found / BEGUN).stat().st_mtime
    return took, executions, len({path.stem for path in found.iterdir() if path.name[0] != '.'})


def main(folder, seconds, *names):
    import page
    import readers

    rows = []
    for name in names or readers.READERS:
        took, executions, findings = hunted(name, Path(folder), float(seconds))
        rows.append((name, f'{took:.0f}', f'{executions:,}', str(findings)))
        sys.stdout.write(f'{name}: {took:.0f} s, {executions:,} executions, {findings} findings\n')
        sys.stdout.flush()
        # After each: a hunt may be ended at any time.
        if not names:
            page.write_fuzzing(rows, seconds)


if __name__ == '__main__':
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    if sys.argv[1] == '--hunt':
        hunt(*sys.argv[2:4], sys.argv[4:])
    else:
        main(*sys.argv[1:])
