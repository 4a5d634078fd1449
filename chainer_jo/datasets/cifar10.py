"""CIFAR-10 from its official archives, or from a variant that the user names.

Archives are read member by member and never unpacked. The pickles of the Python version are parsed
without running any of their code.
"""

import contextlib
import gzip
import hashlib
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainer_jo.datasets import plain_pickle
from chainer_jo.datasets.dataset import Dataset, named_place
from chainer_jo.errors import ChainerJoError, DataError

EMBEDDED = False
URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
CLASSES = (
    'airplane',
    'automobile',
    'bird',
    'cat',
    'deer',
    'dog',
    'frog',
    'horse',
    'ship',
    'truck',
)
# Truck -> automobile, bird -> airplane, cat <-> dog, deer -> horse: the map of Patrini et al.
# (2017), which Sec. 4.1 of the paper uses (it prints "house" for "horse").
FLIPS = {9: 1, 2: 0, 3: 5, 5: 3, 4: 7}
BATCH = 10_000
PIXELS = 3 * 32 * 32
# A pickled batch has a label and a file name for every image, and each takes three operations or
# fewer.
MOST_OBJECTS = 20 * BATCH
# An archive has eight members. A batch of the Python version may be twice the size of its pixels.
MOST_MEMBERS, MOST_BYTES = 1000, 6 * 2 * BATCH * PIXELS + 2**24


def load(data=None, on_bytes=None, warn=None, *, url=URL):
    """Loads CIFAR-10: 50,000 images to train and validate, 10,000 to test, 32 x 32, colour.

    A file or folder that the user names may hold a variant of the published data; the data set's
    ``variant`` then says so. Data found without ``data`` must be the published ones.

    Args:
        data (str or os.PathLike or None): An archive (Python or binary version), the folder it
            unpacks to, or a folder that holds either; an unpacked folder takes precedence. If
            ``None``, the place that the environment variable ``CHAINER_JO_DATA`` names, or else the
            archive in the user's cache, which is downloaded once.
        on_bytes (callable): See :func:`download`.
        warn (callable): Never called: nothing is left out.
        url (str): Where to download the binary version.

    Returns:
        Dataset: Its variant is ``'official'`` or ``'variant <8 hex digits>'``.

    Raises:
        DataError: There are no data, a file is damaged or cannot be downloaded, or the data are a
            variant that the user did not name.
    """
    place = named_place(data)
    if place is None:
        # pooch checks the digest, of a cached file as well.
        place, difference = download(url, on_bytes=on_bytes), None
    else:
        with _complaints(place):
            place = _find(Path(place).expanduser())
        difference = _difference(place)
    if difference and data is None:
        raise DataError(
            f'{place} is not the published CIFAR-10',
            seen=difference,
            fix=f'if you mean to use it, name it: --data {place}',
        )
    # Decoded last, so that a wrong digest is reported before an error in decoding.
    batches = _read(place)
    arrays = [np.concatenate(part) for part in zip(*batches[:5], strict=True)] + list(batches[5])
    variant = None if difference else 'official'
    return Dataset.of_arrays('cifar10', variant, arrays, CLASSES, FLIPS)


def at_hand(data=None):
    """Returns whether :func:`load` needs no download; ``data`` is as for :func:`load`."""
    import pooch

    cached = Path(pooch.os_cache('chainer_jo')) / BINARY.archive
    return bool(named_place(data) or cached.exists())


def download(url=URL, digest=None, on_bytes=None):
    """Downloads the binary version to the user's cache, unless it is there already.

    Args:
        url (str): Address of the archive.
        digest (str or None): Expected digest, as ``'md5:...'``; the published MD5 if ``None``.
        on_bytes (callable): Called now and then with the name of the file, the bytes downloaded so
            far, and the size of the file in bytes.

    Returns:
        pathlib.Path: The complete archive, with the expected digest.

    Raises:
        DataError: The download failed, or the file has another digest. No partial file is kept.
    """
    import pooch

    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=digest or BINARY.digest,
                fname=BINARY.archive,
                path=pooch.os_cache('chainer_jo'),
                downloader=pooch.HTTPDownloader(progressbar=_Count(on_bytes)),
            )
        )
    # pooch raises ValueError for a wrong digest.
    except (OSError, ValueError) as error:
        raise DataError(
            f'cannot download CIFAR-10 from {url}',
            seen=' '.join(str(error).split()),
            fix=f'copy {BINARY.archive} to this machine and name its folder: --data FOLDER',
        ) from error


class _Count:
    """Has the methods of the progress bar that pooch expects, and reports bytes instead."""

    total = None

    def __init__(self, on_bytes):
        self._on_bytes, self._done = on_bytes or (lambda *_: None), 0

    def update(self, n):
        self._done += n
        self._on_bytes(BINARY.archive, self._done, self.total)

    def reset(self):
        self._done = 0

    def close(self):
        """Does nothing; pooch calls it."""


def _from_pickle(content):
    batch = plain_pickle.load(content, MOST_OBJECTS)
    batch = {key.decode() if isinstance(key, bytes) else key: batch[key] for key in batch}
    return batch['data'], np.array(batch['labels'])


def _from_records(content):
    records = np.frombuffer(content, np.uint8).reshape(BATCH, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


@dataclass(frozen=True)
class _Version:
    archive: str
    digest: str
    folder: str
    batches: dict[str, str]
    sizes: range
    decode: Callable


PYTHON = _Version(
    archive='cifar-10-python.tar.gz',
    digest='md5:c58f30108f718f92721af3b95e74349a',
    folder='cifar-10-batches-py',
    batches={
        'data_batch_1': 'md5:c99cafc152244af753f735de768cd75f',
        'data_batch_2': 'md5:d4bba439e000b95fd0a9bffe97cbabec',
        'data_batch_3': 'md5:54ebc095f3ab1f0389bbae665268c751',
        'data_batch_4': 'md5:634d18415352ddfa80567beed471001a',
        'data_batch_5': 'md5:482c414d41f54cd18b22e5b47cb7c3cb',
        'test_batch': 'md5:40351d587109b95175f43aff81a1287e',
    },
    sizes=range(BATCH * PIXELS, 2 * BATCH * PIXELS),
    decode=_from_pickle,
)
BINARY = _Version(
    archive='cifar-10-binary.tar.gz',
    digest='md5:c32a1d4ab5d03f1284b67883e8d87530',
    folder='cifar-10-batches-bin',
    # Toronto publishes no digests of these files. The SHA-1 digests are those that Apache MXNet
    # checks.
    batches={
        'data_batch_1.bin': 'sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540',
        'data_batch_2.bin': 'sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795',
        'data_batch_3.bin': 'sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295',
        'data_batch_4.bin': 'sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e',
        'data_batch_5.bin': 'sha1:26e2849e66a845b7f1e4614ae70f4889ae604628',
        'test_batch.bin': 'sha1:67eb016db431130d61cd03c7ad570b013799c88c',
    },
    sizes=range(BATCH * (1 + PIXELS), BATCH * (1 + PIXELS) + 1),
    decode=_from_records,
)
VERSIONS = (BINARY, PYTHON)


def _find(path):
    """Returns the folder of batches, or the archive, that ``path`` is or contains."""
    if path.is_file():
        return path
    for version in VERSIONS:
        for folder in (path, path / version.folder):
            if any((folder / name).is_file() for name in version.batches):
                return folder
    for version in VERSIONS:
        if (path / version.archive).is_file():
            return path / version.archive
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else None
    raise DataError(
        f'no CIFAR-10 in {path}',
        seen='no such file or folder' if names is None else ', '.join(names[:8]) or 'empty',
        fix=f'put {" or ".join(version.archive for version in VERSIONS)} there',
    )


def _difference(place):
    """Returns how ``place`` differs from the published data; ``None`` if it does not."""
    with _complaints(place):
        if place.is_file():
            seen = _digest(place, 'md5')
            expected = [version.digest for version in VERSIONS]
            return None if seen in expected else f'{seen}, expected {" or ".join(expected)}'
        for name, expected in _version_of(place).batches.items():
            seen = _digest(place / name, expected.split(':')[0])
            if seen != expected:
                return f'{name} is {seen}, expected {expected}'


def _digest(path, algorithm):
    # Reading a pipe could block forever.
    if path.exists() and not path.is_file():
        raise ValueError(f'{path.name} is not a regular file')
    with open(path, 'rb') as file:
        return f'{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}'


def _version_of(folder):
    return BINARY if any((folder / name).is_file() for name in BINARY.batches) else PYTHON


def _read(place):
    """Returns the pixels and labels of the six batches, the test batch last."""
    contents = _folder_contents(place) if place.is_dir() else _archive_contents(place)
    with _complaints(place):
        found = {name: _decode(version, name, content) for version, name, content in contents}
        missing = [[n for n in version.batches if n not in found] for version in VERSIONS]
        if all(missing):
            raise ValueError(f'no {" and no ".join(min(missing, key=len))} in it')
    version = VERSIONS[missing.index([])]
    return [found[name] for name in version.batches]


def _folder_contents(folder):
    version = _version_of(folder)
    for name in version.batches:
        path = folder / name
        _check_size(version, name, path.stat().st_size)
        yield version, name, path.read_bytes()


def _archive_contents(path):
    wanted = {f'{v.folder}/{name}': (v, name) for v in VERSIONS for name in v.batches}
    # Read as a stream: seeking back in a gzip file decompresses it again from the start.
    with (
        _opened(path) as file,
        tarfile.open(None, 'r|', _Bounded(file), bufsize=2**20) as archive,
    ):
        for count, member in enumerate(archive):
            if count > MOST_MEMBERS:
                raise ValueError(f'more than {MOST_MEMBERS:,} files in it')
            # Members are read by name and never extracted, so one called ../x does no harm.
            if (path := member.name.removeprefix('./')) not in wanted:
                continue
            version, name = wanted[path]
            if not member.isreg():
                raise ValueError(f'{member.name} is not a regular file')
            _check_size(version, name, member.size)
            yield version, name, archive.extractfile(member).read()


def _opened(path):
    """Opens a tar archive, with or without gzip; other compressions may need any memory."""
    with open(path, 'rb') as file:
        packed = file.read(2) == b'\x1f\x8b'
    return gzip.open(path) if packed else open(path, 'rb')


class _Bounded:
    """A file that raises ValueError once more than ``MOST_BYTES`` are read from it."""

    def __init__(self, file):
        self._file, self._left = file, MOST_BYTES

    def read(self, size):
        # Counts the bytes asked for, not those returned: to skip a member, tarfile asks for all of
        # its declared size, even past the end of the file.
        self._left -= size
        if self._left < 0:
            raise ValueError(f'more than {MOST_BYTES:,} bytes in it')
        return self._file.read(size)


def _check_size(version, name, size):
    if size not in version.sizes:
        raise ValueError(f'{name} has {size:,} bytes, expected at least {version.sizes[0]:,}')


def _decode(version, name, content):
    try:
        pixels, labels = version.decode(content)
    except Exception as error:  # A damaged pickle can raise almost anything.
        raise ValueError(f'{name}: {error or type(error).__name__}') from error
    if getattr(pixels, 'dtype', None) != np.uint8 or pixels.shape != (BATCH, PIXELS):
        raise ValueError(f'{name} does not hold {BATCH} x {PIXELS} bytes of pixels')
    if labels.dtype.kind not in 'iu' or labels.shape != (BATCH,):
        raise ValueError(f'{name} does not hold {BATCH} labels')
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f'{name} has labels from {labels.min()} to {labels.max()}')
    return np.ascontiguousarray(pixels).reshape(BATCH, 3, 32, 32), labels.astype(np.int32)


@contextlib.contextmanager
def _complaints(place):
    try:
        yield
    except (ChainerJoError, MemoryError):
        raise
    # A damaged archive can raise almost anything.
    except Exception as error:
        raise DataError(
            f'{place} is damaged, or is not CIFAR-10',
            seen=str(error) or type(error).__name__,
            fix=f'get another copy; the binary version is at {URL}',
        ) from error
