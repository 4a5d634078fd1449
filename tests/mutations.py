"""Changes the package one line at a time and sees whether the tests notice; see mutations.sh."""

import fnmatch
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = 'chainer_jo'
COPIED = (PACKAGE, 'tests', 'results', 'reproduce', '.pytest.ini', 'setup.py')
AT_ONCE = 2
# No test in the list takes as long: one that hangs has noticed, too.
SECONDS = 300
KILLED, SURVIVED, NOT_APPLIED = 'killed', 'SURVIVED', 'could not be applied'


@dataclass(frozen=True)
class Mutation:
    """One change of the package.

    Attributes:
        name: What is wrong afterwards, in a word or a few.
        file: Where, from the package's folder.
        old: Text that is there exactly once.
        new: What takes its place.
        tests: What pytest is to run: files or tests, from ``tests/``.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple

    def apply(self, text):
        """Returns a file's text with the change, or ``None`` where it cannot be made."""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None


def read():
    """Returns the mutations of ``mutations.toml``, in its order."""
    found = []
    for file, section in tomllib.loads(Path(__file__).with_suffix('.toml').read_text()).items():
        usual = section.pop('tests')
        for name, (old, new, *others) in section.items():
            found.append(Mutation(name, file, old, new, tuple(others or usual)))
    return found


def chosen(mutations, patterns):
    """Returns the mutations whose name or file is one of the patterns; all without patterns."""
    return [
        mutation
        for mutation in mutations
        if not patterns
        or any(fnmatch.fnmatch(x, p) for x in (mutation.name, mutation.file) for p in patterns)
    ]


class Copy:
    """A copy of what the tests need, in which one mutation at a time is made and undone."""

    def __init__(self, folder):
        self.folder = Path(folder)
        for name in COPIED:
            source, target = ROOT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(source, target)
        # Compiled files go by a digest of the text: two versions of a line may be of one size and
        # of one second, and then Python would run the old one.
        self.python('-m', 'compileall', '-q', '--invalidation-mode', 'checked-hash', PACKAGE)
        found = self.python('-c', f'import {PACKAGE}; print({PACKAGE}.__file__)').stdout.strip()
        if self.folder.resolve() not in Path(found).resolve().parents:
            raise RuntimeError(f'the tests would not run the copy in {folder}, but {found}')

    def python(self, *words):
        """Runs Python in the copy and returns what became of it."""
        environment = os.environ | {
            'PYTHONPATH': str(self.folder),
            'PYTHONDONTWRITEBYTECODE': '1',
            'OMP_NUM_THREADS': '1',
        }
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def test(self, tests):
        """Runs tests up to the first that fails."""
        options = ('-x', '-rfE', '-p', 'no:cacheprovider', '--hypothesis-profile', 'mutations')
        return self.python('-m', 'pytest', *options, *(f'tests/{test}' for test in tests))

    def outcome(self, mutation):
        """Returns what the tests say of a mutation, and a reason."""
        path = self.folder / PACKAGE / mutation.file
        before = path.read_text()
        after = mutation.apply(before)
        if after is None:
            count = before.count(mutation.old)
            return NOT_APPLIED, f'{mutation.old!r} is {count} times in {mutation.file}'
        path.write_text(after)
        try:
            done = self.test(mutation.tests)
        except subprocess.TimeoutExpired:
            return KILLED, f'no end after {SECONDS} s'
        finally:
            path.write_text(before)
        if done.returncode == 0:
            return SURVIVED, ''
        if done.returncode == 1 and (name := failed(done.stdout)):
            return KILLED, name
        # Whatever else is said, such as no test found, or no pytest, is no word on the mutation.
        return NOT_APPLIED, last_line(done)


def failed(output):
    """Returns the name of the test that failed, or whose fixture did; ``None`` if none did."""
    names = re.findall(r'^(?:FAILED|ERROR) \S*::(\w+)', output, re.MULTILINE)
    return names[0] if names else None


def last_line(done):
    return f'pytest: {(done.stdout + done.stderr).strip().splitlines()[-1]}'


def say(text):
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()


def run(mutations, copies):
    """Makes the mutations, several at once, says what became of each and returns the counts."""
    free, counts = queue.Queue(), Counter()
    for copy in copies:
        free.put(copy)

    def one(mutation):
        copy, began = free.get(), time.monotonic()
        try:
            return mutation, *copy.outcome(mutation), time.monotonic() - began
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        for mutation, word, reason, seconds in pool.map(one, mutations):
            counts[word] += 1
            name = f'{mutation.name} ({mutation.file})'
            say(f'{word:8}  {name:70} {seconds:5.1f} s  {reason}'.rstrip())
    return counts


def main(patterns):
    mutations = chosen(read(), patterns)
    if not mutations:
        sys.stderr.write(f'error: no such mutation\n  seen: {" ".join(patterns)}\n'
                         '  fix:  take a name or a file of tests/mutations.toml\n')  # fmt: skip
        return 2
    with tempfile.TemporaryDirectory() as folder:
        copies = [Copy(Path(folder) / str(i)) for i in range(min(AT_ONCE, len(mutations)))]
        # A test that fails anyway kills everything and shows nothing.
        tests = sorted({test for mutation in mutations for test in mutation.tests})
        if (done := copies[0].test(tests)).returncode:
            say(done.stdout)
            sys.stderr.write(f'error: the tests fail without any mutation\n  seen: '
                             f'{last_line(done)}\n  fix:  mend them first\n')  # fmt: skip
            return 1
        counts = run(mutations, copies)
    say(', '.join(f'{counts[word]} {word}' for word in (KILLED, SURVIVED, NOT_APPLIED)))
    return int(counts[KILLED] < len(mutations))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
