"""The only writer of durable files. Writes are atomic, and damage is detected on reading.

A file is written under a temporary name in the same folder, synced and renamed; then the folder is
synced. Array files contain the SHA-256 of their content and no pickles, so reading one runs no
code. Sealed JSON files have their SHA-256 as the last entry.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import mmap
import os
import re
import shutil
import socket
import stat
import struct
import tempfile
import time
import zipfile
from pathlib import Path

import filelock
import numpy as np

from chainer_jo.errors import DataError, InUseError, WriteError, excerpt

MAGIC = b'chainer_jo 1\n'
DIGEST_BYTES = 32
LOCK_SECONDS = 0.1
NAMELESS_LOCKS = 10
#: Largest JSON file and log in bytes; larger files are refused unread. The limits are far above the
#: sizes that this package writes: a log has room for some 200,000 epochs.
MOST_JSON, MOST_LOG = 2**24, 2**26
LOCAL_HEADER_BYTES = 30  # Fixed part of the header of a zip member.
MOST_HEADER = 2**17  # Bytes searched for an array's header; format 1.0 allows fewer.
# The seal is matched exactly, so that no bit of a file can change unnoticed.
SEAL = re.compile(rb',\n "digest": "([0-9a-f]{64})"\n}\n\Z')
TEMPORARY = re.compile(r'\..+\.(\d+)\.tmp')


def write_bytes(path, content):
    """Writes ``content`` (bytes) to ``path`` atomically.

    Raises:
        WriteError: The disk is full, or the folder is missing or read-only. An existing file of
            that name stays unchanged.
    """
    _write(path, lambda file: file.write(content), len(content))


def _write(path, fill, size):
    """Calls ``fill`` to write about ``size`` bytes to a temporary file; renames it to ``path``."""
    path = Path(path)
    # In the same folder, because a rename to another file system is not atomic.
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'w+b') as file:
            fill(file)
            file.flush()
            # Before the rename: after a power cut the new name could have no content otherwise.
            os.fsync(file.fileno())
        os.replace(temporary, path)
        # The rename itself is durable only once the folder is synced.
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise WriteError(
            f'cannot write {path}',
            seen=f'{error.strerror or error} ({size:,} bytes to write)',
            fix='make room or choose another folder with --out, then run the same command again',
        ) from error


def make_folder(folder):
    """Makes a folder and its parents. Raises :class:`WriteError` if that fails.

    No other function makes folders of trials, so one that is removed while its trial runs stays so.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f'cannot make the folder {folder}',
            seen=error.strerror,
            fix='choose another folder with --out',
        ) from error


def check_room(folder, size):
    """Raises :class:`WriteError` if a file of ``size`` bytes cannot be written to a folder.

    It is called before hours of work whose result is written at the end.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
        seen = f'{size:,} bytes to write, {free:,} free' if size > free else None
    except OSError as error:
        seen = error.strerror
    if seen:
        raise WriteError(
            f'cannot write in {folder}',
            seen=seen,
            fix='make room or choose another folder, then run the same command again',
        )


def write_tree(folder, files, copies=False):
    """Makes a folder of links to files, or of copies of them, atomically.

    Args:
        folder (str or os.PathLike): The folder, which must be empty or not exist.
        files (iterable): Pairs ``(path below the folder, file)``.
        copies (bool): Whether to copy files instead of linking to them.

    Raises:
        WriteError: The folder exists and is not empty, or it cannot be written.
    """
    folder = Path(folder)
    # Path('.') has no name.
    target = Path(os.path.abspath(folder))
    temporary = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        if folder.exists() and any(folder.iterdir()):
            raise WriteError(
                f'{folder} exists already',
                seen='it is not empty',
                fix='choose another folder, or move it away',
            )
        temporary.mkdir(parents=True, exist_ok=True)
        for path, file in files:
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            # Links are absolute, so that the tree can be moved.
            if copies:
                shutil.copy2(file, temporary / path)
            else:
                (temporary / path).symlink_to(Path(file).absolute())
        os.replace(temporary, target)
    except OSError as error:
        raise WriteError(
            f'cannot write {folder}',
            seen=error.strerror or str(error),
            fix='make room or choose another folder, then run the same command again',
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_tree(folder):
    """Raises :class:`WriteError` if :func:`write_tree` could not make the folder.

    It is called before hours of work whose result is written at the end.
    """
    there = os.path.exists(folder)
    write_tree(folder, [])
    if not there:
        os.rmdir(folder)


def sweep(folder):
    """Deletes the temporary files in ``folder`` whose writers have died.

    A writer counts as dead if no process on this host has its pid and the file is a minute old. The
    age matters because the folder may be shared with another host, on which the writer is alive.
    """
    for path in Path(folder).glob('.*.tmp'):
        with contextlib.suppress(OSError):
            writer = TEMPORARY.fullmatch(path.name)
            if writer and time.time() - path.stat().st_mtime > 60 and not _lives(int(writer[1])):
                path.unlink()


def _lives(pid):
    # Signal 0 only checks whether the process exists.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path, text):
    """Writes ``text`` as UTF-8, atomically. Raises as :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path, value):
    """Writes ``value`` as strict, indented JSON; ``NaN`` raises ``ValueError``."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + '\n')


_MADE_AGAIN = 'delete the file and run the command that wrote it again'


def _parsed(path, content):
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f'cannot read {path}', seen=str(error), fix=_MADE_AGAIN) from error


def _refuse_constant(name):
    raise ValueError(f'{name} is not JSON')


def _at_once(path, flags):
    # Without O_NONBLOCK, opening a pipe waits until another process writes to it.
    return os.open(path, flags | os.O_NONBLOCK)


def read_regular(path, fix=_MADE_AGAIN, most=None):
    """Returns the bytes of a regular file.

    Args:
        path (str or os.PathLike): The file. Pipes and devices, which may never end, are refused.
        fix (str): The fix in the error if there is no such file.
        most (int): Largest size in bytes; a larger file is refused unread.

    Raises:
        DataError: There is no such regular file, or it is too large.
        WriteError: The user has no permission to read it; it may be intact.
    """
    with _regular(path, fix, most) as file:
        return file.read()


@contextlib.contextmanager
def _regular(path, fix=_MADE_AGAIN, most=None):
    try:
        with open(path, 'rb', opener=_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f'cannot read {path}', seen='not a regular file', fix=fix)
            if most is not None and status.st_size > most:
                raise DataError(f'cannot read {path}', seen=f'larger than {most:,} bytes', fix=fix)
            yield file
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DataError(f'cannot read {path}', seen=str(error), fix=fix) from error
    except OSError as error:
        raise WriteError(
            f'cannot read {path}',
            seen=error.strerror or str(error),
            fix='check the permissions of the file and its disk; the file was not changed',
        ) from error


def write_sealed(path, value):
    """Writes a dict as JSON, with ``digest`` at the end: the SHA-256 of all bytes before it."""
    body = json.dumps(value, indent=1, allow_nan=False).removesuffix('\n}').encode()
    write_bytes(path, body + b',\n "digest": "%s"\n}\n' % sha256(body).encode())


def read_sealed(path):
    """Returns the dict that :func:`write_sealed` wrote, without its digest.

    Raises:
        DataError: The file is missing or truncated, or any bit of it has changed.
        WriteError: The user has no permission to read it.
    """
    value, problem = read_unsealed(path)
    if problem is not None:
        raise DataError(
            f'{path} has been altered',
            seen=problem,
            fix='restore it from a copy, or delete it and run its command again; '
            'chainer_jo verify FOLDER lists all altered files',
        )
    return value


def read_unsealed(path, most=MOST_JSON):
    """Returns the dict in a sealed file, and the problem with its digest or ``None``.

    Raises:
        DataError: The file is missing, has more than ``most`` bytes, or is not a dict in strict
            JSON.
        WriteError: The user has no permission to read it.
    """
    content = read_regular(path, most=most)
    # Parsed first: a truncated file is reported as such, and not as altered.
    value, seal = _parsed(path, content), SEAL.search(content)
    if not isinstance(value, dict):
        raise DataError(f'cannot read {path}', seen='not a JSON object', fix=_MADE_AGAIN)
    value.pop('digest', None)
    if seal is None:
        return value, (
            'it has no digest: it was altered, or is of an older version, whose results '
            'reproduce/seal_results.py converts'
        )
    if sha256(content[: seal.start()]) != seal[1].decode():
        return value, 'its SHA-256 does not match its content'
    return value, None


def sha256(content):
    """Returns the SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def read_known(path, expected):
    """Returns the bytes of a log whose SHA-256 is known from its result.

    Raises:
        DataError: The log is missing, far too large, or has another SHA-256.
        WriteError: The user has no permission to read it.
    """
    content = read_regular(path, most=MOST_LOG)
    if sha256(content) != expected:
        raise DataError(
            f'{path} has been altered',
            seen='its SHA-256 is not the one in result.json',
            fix='restore it from a copy, or delete the folder and run its command again',
        )
    return content


def write_arrays(path, arrays):
    """Writes a dict of NumPy arrays (no object arrays) with a digest. Raises as `write_bytes`.

    Equal dicts give equal files whatever the order of their names, because Chainer serializes sets
    in any order. Arrays are written one by one, so that saving needs little additional memory.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f'{name} holds Python objects; only plain arrays are stored')

    def fill(file):
        file.write(MAGIC + bytes(DIGEST_BYTES))
        np.savez(_Body(file), **dict(sorted(arrays.items())))
        # The digest is computed from the finished file: zipfile goes back to complete its headers.
        file.seek(len(MAGIC) + DIGEST_BYTES)
        content = hashlib.file_digest(file, 'sha256').digest()
        file.seek(len(MAGIC))
        file.write(content)

    _write(path, fill, sum(array.nbytes for array in arrays.values()))


class _Body:
    """The part of a file after its head, with positions counted from there, as zipfile needs."""

    def __init__(self, file):
        self._file, self._start = file, file.tell()
        self.read, self.write, self.flush = file.read, file.write, file.flush

    def tell(self):
        return self._file.tell() - self._start

    def seek(self, place, whence=os.SEEK_SET):
        start = self._start if whence == os.SEEK_SET else 0
        return self._file.seek(place + start, whence) - self._start


def read_arrays(path):
    """Returns the dict of arrays that :func:`write_arrays` wrote.

    Raises:
        DataError: The file is missing, is of another kind, or any bit of it has changed.
        WriteError: The user has no permission to read it.
    """
    with _checked(path) as file:
        body = file.read()
    with _forged(path), zipfile.ZipFile(io.BytesIO(body)) as archive:
        return {
            name: _array(archive.read(member)).copy('K')
            for name, member in _members(archive, len(body))
        }


def map_arrays(path):
    """Returns what :func:`read_arrays` returns, as read-only arrays mapped from the file.

    All processes of a machine share the memory, and only the pages used are loaded. A mapping stays
    valid when the file is replaced.

    Raises:
        As :func:`read_arrays`.
    """
    with _checked(path) as file, _forged(path), zipfile.ZipFile(file) as archive:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return {
            name: _array(_stored(member, memory)) for name, member in _members(archive, len(memory))
        }


_ANOTHER = 'delete the file; the same command writes it again or uses an older one'


@contextlib.contextmanager
def _checked(path):
    """Opens a file of arrays, verifies its digest, and yields it at the end of its head."""
    with _regular(path, _ANOTHER) as file:
        head = file.read(len(MAGIC) + DIGEST_BYTES)
        # The digest is computed in small blocks: a file of any size may have this name.
        if (
            head[: len(MAGIC)] != MAGIC
            or head != MAGIC + hashlib.file_digest(file, 'sha256').digest()
        ):
            raise DataError(
                f'{path} is damaged', seen='its SHA-256 does not match its content', fix=_ANOTHER
            )
        file.seek(len(head))
        yield file


@contextlib.contextmanager
def _forged(path):
    try:
        yield
    except MemoryError:
        raise
    # The digest is right, but the content is not: the file was forged, and may raise anything.
    except Exception as error:
        seen = str(error) or type(error).__name__
        raise DataError(f'{path} is damaged', seen=excerpt(seen, 200), fix=_ANOTHER) from error


def _members(archive, size):
    """Returns the names and members of a ``.npz`` file, after checking the memory they need."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError('it is compressed')
    # In a forged archive many members may overlap in the same bytes.
    if sum(member.file_size for member in members) > size:
        raise ValueError('its parts have more bytes than the whole')
    return [(member.filename.removesuffix('.npy'), member) for member in members]


def _stored(member, memory):
    # zipfile does not give the start of a member's bytes. They follow its name and extra field,
    # whose lengths are the last two fields of the fixed header.
    begin = member.header_offset + LOCAL_HEADER_BYTES
    begin += sum(struct.unpack('<HH', memory[begin - 4 : begin]))
    return memory[begin : begin + member.file_size]


def _array(content):
    file = io.BytesIO(content[:MOST_HEADER])
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError('an array in another format')
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError('it holds Python objects')
    # NumPy's own reader would allocate the declared shape before it checks for the bytes.
    return np.ndarray(shape, dtype, content, file.tell(), order='F' if fortran else 'C')


def digest(*values):
    """Returns the SHA-256 (64 hex digits) of arrays and JSON values, in order.

    The dtype and shape of an array count, so equal bytes of another dtype differ.
    """
    sha = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            sha.update(f'{value.dtype.str}{value.shape}'.encode())
            # The same digest for any memory layout: a GPU's arrays may be channel-last.
            sha.update(np.ascontiguousarray(value))
        else:
            sha.update(json.dumps(value, sort_keys=True, allow_nan=False).encode())
    return sha.hexdigest()


@contextlib.contextmanager
def lock(folder):
    """Locks ``folder`` for this process. A dead process does not keep its lock.

    Temporary files that a killed process left in the folder are deleted.

    Raises:
        InUseError: Another live process has the lock; the message names its pid and host.
        WriteError: The folder cannot be made or written.
    """
    folder = Path(folder)
    make_folder(folder)
    try:
        held = _acquired(folder)
    except OSError as error:
        raise WriteError(
            f'cannot write in {folder}', seen=str(error), fix='choose another folder with --out'
        ) from error
    try:
        write_text(folder / '.holder', f'pid {os.getpid()} on {socket.gethostname()}')
        for path in folder.glob('.*.tmp'):
            # One of another user only takes space.
            with contextlib.suppress(OSError):
                # A folder is a tree of corrected labels that was not finished.
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / '.holder').unlink(missing_ok=True)
        held.release()


def _acquired(folder):
    # With a timeout, because holder() in another process takes the lock for a moment.
    # Without flock a lock would be a mere file, which outlives its process.
    held = filelock.FileLock(
        folder / '.lock', timeout=LOCK_SECONDS, poll_interval=0.02, fallback_to_soft=False
    )
    seen = 'a lock whose holder has not written its name'
    # A lock without a name is asked for again: its holder has just taken it and writes the name
    # next, or has just ended.
    for _ in range(NAMELESS_LOCKS):
        try:
            held.acquire()
            return held
        except filelock.Timeout:
            with contextlib.suppress(DataError, WriteError):
                seen = _name(folder)
                break
    raise InUseError(
        f'{folder} is in use by another process',
        seen=seen,
        fix='wait for it, or stop it and run the same command again',
    )


def holder(folder):
    """Returns which process has locked a folder, ``pid N on HOST``, or ``None``; writes nothing."""
    try:
        # The name alone proves nothing: a process that died with the lock has left it.
        name = _name(Path(folder))
        with open(Path(folder) / '.lock', 'rb', opener=_at_once) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return name
    except (OSError, DataError, WriteError):
        return None
    return None


def _name(folder):
    return excerpt(read_regular(folder / '.holder', most=1000).decode(errors='replace'), 200)
