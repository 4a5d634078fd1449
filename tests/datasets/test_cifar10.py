import gc
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import threading
import time
import tracemalloc
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from chainer_jo import datasets
from chainer_jo.datasets import cifar10
from chainer_jo.datasets.dataset import VARIABLE
from chainer_jo.errors import DataError


class Payload:
    """Makes a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def images(i):
    """A full batch whose content tells which one it is; cheap to make and to compress."""
    labels = np.arange(10_000) % 10
    return np.full((10_000, 3072), i, np.uint8) + labels[:, None].astype(np.uint8), labels


def python_batch(i, **changes):
    pixels, labels = images(i)
    return pickle.dumps({'data': pixels, 'labels': labels.tolist()} | changes, protocol=2)


def binary_batch(i):
    pixels, labels = images(i)
    return np.hstack([labels[:, None].astype(np.uint8), pixels]).tobytes()


def contents(version):
    make = binary_batch if version is cifar10.BINARY else python_batch
    return {name: make(i) for i, name in enumerate(version.batches)}


def write_folder(folder, version, files):
    folder = folder / version.folder
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path, version, files, prefix=None):
    with (
        gzip.open(path, 'wb', compresslevel=1) as packed,
        tarfile.open(None, 'w', packed) as archive,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(f'{prefix or version.folder}/{name}')
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope='module', params=[cifar10.PYTHON, cifar10.BINARY], ids=['python', 'binary'])
def made(request, tmp_path_factory):
    """A made-up data set of full size in each version: version, folder, archive."""
    version, folder = request.param, tmp_path_factory.mktemp('made')
    files = contents(version)
    unpacked = write_folder(folder, version, files)
    return version, unpacked, write_archive(folder / version.archive, version, files)


@pytest.fixture(autouse=True)
def nothing_around(tmp_path, monkeypatch):
    """No data in the environment, and an empty cache."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')


@pytest.fixture
def server(tmp_path):
    """Serves the folder ``served``; yields that folder and its address."""
    folder = tmp_path / 'served'
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f'http://127.0.0.1:{http.server_port}'
        http.shutdown()
        thread.join()
    # pooch leaves the sockets of failed downloads to the garbage collector, which warns of them.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        gc.collect()


def assert_made(dataset):
    """Compares a data set with the made-up one, image by image."""
    assert dataset.name == 'cifar10'
    assert dataset.variant == f'variant {dataset.digest[:8]}'
    assert dataset.train.images.shape == (50_000, 3, 32, 32)
    assert dataset.test.images.shape == (10_000, 3, 32, 32)
    assert dataset.train.labels.dtype == dataset.test.labels.dtype == np.int32
    np.testing.assert_array_equal(dataset.train.labels, np.arange(50_000) % 10)
    first = dataset.train.images[:, 0, 0, 0]
    np.testing.assert_array_equal(first, np.arange(50_000) // 10_000 + np.arange(50_000) % 10)
    assert (dataset.test.images[3] == 5 + 3).all()


@pytest.mark.parametrize('name_it', ['folder', 'parent', 'archive'])
def test_either_version_is_read_wherever_the_user_points(made, name_it):
    _, folder, archive = made
    place = {'folder': folder, 'parent': folder.parent, 'archive': archive}[name_it]
    assert_made(cifar10.load(place))


def test_a_variant_in_the_environment_is_refused_with_both_digests(made, monkeypatch):
    _, _, archive = made
    monkeypatch.setenv(VARIABLE, str(archive))
    with pytest.raises(DataError) as caught:
        cifar10.load()
    seen = hashlib.md5(archive.read_bytes()).hexdigest()
    assert seen in caught.value.seen
    assert cifar10.PYTHON.digest in caught.value.seen
    assert caught.value.fix.endswith(f'--data {archive}')
    assert caught.value.exit_code == 3


def test_an_unpacked_variant_in_the_environment_is_refused(made, monkeypatch):
    version, folder, _ = made
    monkeypatch.setenv(VARIABLE, str(folder))
    with pytest.raises(DataError, match=f'seen: {list(version.batches)[0]} is .*, expected'):
        cifar10.load()


def test_published_digests_make_it_official(made, monkeypatch):
    version, folder, archive = made
    for name in version.batches:
        algorithm = version.batches[name].split(':')[0]
        seen = hashlib.new(algorithm, (folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(version.batches, name, f'{algorithm}:{seen}')
    monkeypatch.setenv(VARIABLE, str(folder))
    assert datasets.load('cifar10').variant == 'official'


def test_a_folder_in_the_environment_may_hold_only_the_archive(made, tmp_path, monkeypatch):
    version, _, archive = made
    (tmp_path / version.archive).symlink_to(archive)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=f'{version.archive} is not the published CIFAR-10'):
        cifar10.load()


@pytest.mark.parametrize('share', [0.0, 0.5, 0.999])
def test_a_truncated_archive_is_refused(made, tmp_path, share):
    _, _, archive = made
    short = tmp_path / archive.name
    content = archive.read_bytes()
    short.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match='damaged'):
        cifar10.load(short)


def test_a_missing_batch_is_refused_by_name(made, tmp_path):
    version, source, _ = made
    missing = list(version.batches)[2]
    files = {n: (source / n).read_bytes() for n in version.batches if n != missing}
    folder = write_folder(tmp_path, version, files)
    with pytest.raises(DataError, match=missing):
        cifar10.load(folder)


def test_an_archive_without_a_batch_is_refused_by_name(made, tmp_path):
    version, source, _ = made
    files = {name: (source / name).read_bytes() for name in list(version.batches)[:1]}
    with pytest.raises(DataError, match=f'no {list(version.batches)[1]} and no .* in it'):
        cifar10.load(write_archive(tmp_path / 'some.tar.gz', version, files))


def test_a_batch_of_the_wrong_size_is_refused_by_name(made, tmp_path):
    version, source, _ = made
    name = list(version.batches)[0]
    folder = write_folder(tmp_path, version, {name: (source / name).read_bytes()[:-200_000]})
    with pytest.raises(DataError, match=f'{name} has'):
        cifar10.load(folder)


def test_members_under_other_names_are_not_read(made, tmp_path):
    version, _, _ = made
    files = dict.fromkeys(version.batches, b'')
    archive = write_archive(tmp_path / 'evil.tar.gz', version, files, prefix='../../etc')
    with pytest.raises(DataError, match='no .* in it'):
        cifar10.load(archive)


def test_a_link_in_the_place_of_a_batch_is_refused(made, tmp_path):
    version, _, _ = made
    with tarfile.open(tmp_path / 'link.tar.gz', 'w:gz') as archive:
        member = tarfile.TarInfo(f'{version.folder}/{list(version.batches)[0]}')
        member.type, member.linkname = tarfile.SYMTYPE, '/etc/hostname'
        archive.addfile(member)
    with pytest.raises(DataError, match='not a regular file'):
        cifar10.load(tmp_path / 'link.tar.gz')


def header(name, size, kind=tarfile.REGTYPE, **more):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for key, value in more.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def zeros(count):
    return (bytes(2**20) for _ in range(count))


def sparse(fields):
    """A sparse file in the form of GNU tar 1.0, which says how many fields are to follow."""
    pax = b'22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n'
    yield header('x', len(pax), tarfile.XHDTYPE) + pax.ljust(512, b'\0')
    yield header('sparse', 512) + fields.ljust(512, b'0')


ARCHIVE_BOMBS = {
    'filler': lambda: (header('filler', 2**32), *zeros(512)),
    'size of 2^84 bytes': lambda: (header('filler', 2**84),),
    'extended header of 4 GB': lambda: (header('x', 2**32, tarfile.XHDTYPE), *zeros(512)),
    'long name of 4 GB': lambda: (header('x', 2**32, tarfile.GNUTYPE_LONGNAME), *zeros(512)),
    'many members': lambda: (header(f'{i}', 0) for i in range(20_000)),
    'headers of headers': lambda: (
        header('x', 6, tarfile.XHDTYPE) + b'6 a=b\n'.ljust(512, b'\0') for _ in range(2000)
    ),
    'sparse without end': lambda: sparse(b'9'),
    'sparse of many fields': lambda: sparse(b'999999999\n'),
    'negative size': lambda: (header('x', -512), header('x', -(2**60))),
}


@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('bomb', ARCHIVE_BOMBS)
def test_an_archive_that_unfolds_is_refused_in_little_time_and_memory(bomb, packed, tmp_path):
    path = tmp_path / 'cifar-10-binary.tar.gz'
    with gzip.open(path, 'wb', 1) if packed else open(path, 'wb') as file:
        file.writelines(ARCHIVE_BOMBS[bomb]())
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(DataError):
        cifar10.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 20
    assert peak < 500e6


def test_a_pipe_in_the_place_of_a_batch_is_refused(made, tmp_path):
    version, _, _ = made
    first, *_, last = version.batches
    folder = write_folder(tmp_path, version, {last: b''})
    os.mkfifo(folder / first)
    with pytest.raises(DataError, match='not a regular file'):
        cifar10.load(folder)


def read_batch(tmp_path, content):
    """Loads a folder whose first batch is ``content``."""
    return cifar10.load(write_folder(tmp_path, cifar10.PYTHON, {'data_batch_1': content}))


def test_a_crafted_pickle_runs_nothing(tmp_path):
    payload = Payload(tmp_path / 'ran')
    with pytest.raises(DataError, match=r'a call of (_io|io)\.open'):
        read_batch(tmp_path, python_batch(0, extra=payload))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    'changes',
    [
        {'labels': [10] * 10_000},
        {'labels': [0.5] * 10_000},
        {'labels': [1] * 9_999},
        {'data': np.zeros((10_000, 3072), np.int8)},
        {'data': np.zeros((10_001, 3072), np.uint8)},
        {'data': 'x' * 30_720_000},
        {'data': np.array([None] * 30_720_0), 'padding': 'x' * 30_720_000},
    ],
    ids=['class', 'fraction', 'short', 'signed', 'long', 'text', 'objects'],
)
def test_a_batch_with_other_content_is_refused(tmp_path, changes):
    with pytest.raises(DataError, match='data_batch_1[ :]'):
        read_batch(tmp_path, python_batch(0, **changes))


@pytest.mark.parametrize('place', ['~nosuchuser/cifar10', 'x' * 300, 'a\0b'])
def test_a_place_that_no_system_can_look_at_is_refused_in_three_lines(place):
    with pytest.raises(DataError) as caught:
        cifar10.load(place)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('kind', ['list', 'numbers of NumPy', 'array'])
def test_batches_that_somebody_pickled_again_are_read(protocol, kind, tmp_path):
    labels = np.arange(10_000) % 10
    labels = {'list': labels.tolist(), 'numbers of NumPy': list(labels), 'array': labels}[kind]
    batch = {'data': np.full((10_000, 3072), 7, np.uint8), 'labels': labels}
    content = pickle.dumps(batch, protocol)
    pixels, seen = cifar10._from_pickle(content)
    np.testing.assert_array_equal(pixels, batch['data'])
    np.testing.assert_array_equal(seen, np.arange(10_000) % 10)


def test_a_pickled_number_that_holds_an_object_is_refused():
    harm = np.array([print], object)[0:1]
    crafted = pickle.dumps({'data': harm, 'labels': [0]}, 5)
    with pytest.raises(ValueError, match='by itself'):
        cifar10._from_pickle(crafted)


def test_an_archive_whose_names_begin_with_a_dot_is_read(made, tmp_path):
    version, source, _ = made
    files = {name: (source / name).read_bytes() for name in version.batches}
    archive = write_archive(tmp_path / 'dots.tar.gz', version, files, prefix=f'./{version.folder}')
    assert len(cifar10.load(archive).train) == 50_000


def test_a_pickle_without_pixels_is_refused(tmp_path):
    with pytest.raises(DataError, match="data_batch_1: 'data'"):
        read_batch(tmp_path, pickle.dumps({'labels': [0], 'padding': b'x' * 31_000_000}))


def test_bytes_that_are_no_pickle_are_refused(tmp_path):
    with pytest.raises(DataError, match='data_batch_1: '):
        read_batch(tmp_path, b'\xff' * 31_000_000)


def test_a_folder_without_data_is_refused_with_what_to_put_there(tmp_path):
    (tmp_path / 'holiday.jpg').touch()
    with pytest.raises(DataError, match=r'seen: .*holiday.jpg\n  fix:  put cifar-10-binary.tar.gz'):
        cifar10.load(tmp_path)
    with pytest.raises(DataError, match='no such file or folder'):
        cifar10.load(tmp_path / 'nowhere')


def test_a_download_is_checked_and_kept_for_the_next_time(server):
    folder, address = server
    (folder / 'good.tar.gz').write_bytes(b'good')
    digest = 'md5:' + hashlib.md5(b'good').hexdigest()
    told = []
    path = cifar10.download(f'{address}/good.tar.gz', digest, lambda *seen: told.append(seen))
    assert told[-1] == (cifar10.BINARY.archive, 4, 4)
    assert path.read_bytes() == b'good'
    (folder / 'good.tar.gz').unlink()
    assert cifar10.download(f'{address}/good.tar.gz', digest) == path


# urllib3 leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('kind', ['another file', 'not found', 'no server'])
def test_a_failed_download_leaves_nothing_and_says_what_to_do(server, tmp_path, kind):
    folder, address = server
    (folder / 'data.tar.gz').write_bytes(b'a login page')
    url = {
        'another file': f'{address}/data.tar.gz',
        'not found': f'{address}/none.tar.gz',
        'no server': 'http://127.0.0.1:9/data.tar.gz',
    }[kind]
    with pytest.raises(DataError) as caught:
        cifar10.load(url=url)
    assert len(str(caught.value).splitlines()) == 3
    assert '--data FOLDER' in caught.value.fix
    assert not [path for path in (tmp_path / 'cache').rglob('*') if path.is_file()]


def test_the_real_images_are_read_and_labelled_as_what_they_are(real_cifar10):
    dataset = cifar10.load(real_cifar10)
    assert dataset.variant in ('official', f'variant {dataset.digest[:8]}')
    assert np.bincount(dataset.train.labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    means = (dataset.train.images / np.float32(255)).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(means, [0.491, 0.482, 0.447], atol=0.002)
