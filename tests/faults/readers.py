"""The readers of files that anybody may have made, and what each may raise.

``fuzz.py`` hunts for files at which one of them raises something else, hangs, or takes memory
without end; ``test_readers.py`` holds that each reads what it should.
"""

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from chainer_jo import store
from chainer_jo.datasets import (
    cifar10,
    clothing1m,
    clothing1m_layouts,
    decode,
    examine,
    fashion_mnist,
    fast_decode,
    label_files,
    label_sheet,
)
from chainer_jo.datasets.image_files import PackedPaths
from chainer_jo.errors import ConfigError, DataError
from chainer_jo.links import pretrained
from chainer_jo.report import collect, integrity, publish
from chainer_jo.training import saved_net, snapshot

#: Between the files of a reader that takes several.
BETWEEN = b'\n----\n'
CLASSES = ('t-shirt/top', 'trouser', 'ankle boot', 'bag')
IMAGES = 6
#: The trial of which ``results`` is told.
TRIAL = 'TRIAL'


@dataclasses.dataclass(frozen=True)
class Reader:
    """What reads a kind of file.

    Attributes:
        read: Called with the bytes of a file and an empty folder; what it returns does not count.
        refusals: The errors that it may raise.
        setting: Makes a context in which it is called: one of smaller data, hence of more calls.
    """

    read: Callable
    refusals: tuple = (DataError,)
    setting: Callable = contextlib.nullcontext


def sealed_arrays(body):
    """An array file with its digest right, so that what is inside is looked at."""
    return store.MAGIC + hashlib.sha256(body).digest() + body


def sealed(body):
    """A sealed JSON file of what stands before its digest."""
    return body + b',\n "digest": "%s"\n}\n' % hashlib.sha256(body).hexdigest().encode()


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


# Archives, images, labels, lists.


@contextlib.contextmanager
def two_images_a_batch():
    """CIFAR-10 of twelve images."""
    sizes = range(2 * 3073, 2 * 3073 + 1), range(2 * 3072, 4 * 3072)
    small = [
        dataclasses.replace(version, sizes=size)
        for version, size in zip(cifar10.VERSIONS, sizes, strict=True)
    ]
    with (
        mock.patch.object(cifar10, 'BATCH', 2),
        mock.patch.object(cifar10, 'BINARY', small[0]),
        mock.patch.object(cifar10, 'PYTHON', small[1]),
        mock.patch.object(cifar10, 'VERSIONS', tuple(small)),
    ):
        yield


def read_archive(content, folder):
    cifar10.load(written(folder, 'archive', content))


def read_embedded(content, folder):
    with mock.patch.object(fashion_mnist, 'PATH', written(folder, 'data.npz', content)):
        fashion_mnist.load()


def read_labels(content, folder):
    label_files.read_labels(written(folder, 'labels', content), IMAGES, CLASSES)


def read_image(content, folder):
    path = written(folder, 'image', content)
    examine.examine(str(folder), path.name)
    try:
        decode.decode(path, 3, (8, 8))
    finally:
        fast_decode.decode(path, 3, (8, 8), (4, 4), (1, 1))


def read_lists(content, folder):
    (folder / 'images' / '0').mkdir(parents=True)
    names = [*layout_names('keys'), *layout_names('merged')]
    for name, part in zip(names, content.split(BETWEEN), strict=False):
        if part:
            written(folder, name, part)
    listing = clothing1m_layouts.read(clothing1m_layouts.recognise(folder))
    paths = PackedPaths(folder / 'images', *listing.packed())
    for place in range(min(len(paths), 20)):
        found = examine.examine(paths.folder, paths.relative(place))
        assert found.reason, 'there is no image in that folder'


def layout_names(kind):
    if kind == 'merged':
        return clothing1m_layouts.MERGED_LISTS.values()
    return [*clothing1m_layouts.KEY_LISTS.values(), *clothing1m_layouts.LABEL_LISTS.values()]


def read_index(content, folder):
    # The lists that its facts are of.
    (folder / 'data' / 'images' / '0').mkdir(parents=True)
    for name in layout_names('merged'):
        written(folder / 'data', name, b'')
    # They name the folder 'data'.
    with contextlib.chdir(folder):
        clothing1m.load(written(folder, 'index', sealed_arrays(content)))


# What trials leave.


def read_results(content, folder):
    trial = folder / 'runs' / TRIAL
    trial.mkdir(parents=True)
    result, log, config, *_ = [*content.split(BETWEEN), b'', b'']
    result = result.replace(b'%LOG%', hashlib.sha256(log).hexdigest().encode())
    for name, part in (('result.json', sealed(result)), ('config.json', sealed(config))):
        if len(part) > len(sealed(b'')):
            written(trial, name, part)
    written(trial, 'log.jsonl', log)
    integrity.verify(folder)
    results, _ = collect.read_all(folder)
    collect.read_logs(results, folder)
    if results:
        publish.read('table2', 'quick', folder)
        publish.write_pages(folder)


def read_log(content, folder):
    written(folder, 'log.jsonl', content)
    collect.read_log(folder)


def read_snapshot(content, folder):
    written(folder, 'snapshot-000001.arrays', sealed_arrays(content))
    arrays = snapshot.read_newest(folder, 'identity', lambda text: None)
    if arrays:
        snapshot.rows(arrays), snapshot.environments(arrays), snapshot.seconds(arrays)


def read_any_arrays(content, folder):
    store.read_arrays(written(folder, 'some.arrays', content))


def read_noise(content, folder):
    label_files.load_noise(written(folder, 'noisy_labels.arrays', sealed_arrays(content)))


def read_net(content, folder):
    facts, _, arrays = content.partition(BETWEEN)
    written(folder, 'net.json', sealed(facts))
    written(folder, 'net.arrays', sealed_arrays(arrays))
    saved_net.load(folder, 'cpu', 'chainer')


@contextlib.contextmanager
def one_layer():
    """ResNet-50 of a convolution of two filters and its normalisation."""
    with contextlib.ExitStack() as stack:
        for naming in (pretrained._TORCH, pretrained._CHAINER):
            parts = {
                name: (ours, (2, *shape[1:-2], 1, 1)[: len(shape)])
                for name, (ours, shape) in naming.parts.items()
                if ours.startswith(('conv1/', 'bn1/'))
            }
            stack.enter_context(mock.patch.object(naming, 'parts', parts))
        stack.enter_context(mock.patch.object(pretrained, 'FEATURES', 4))
        yield


def read_weights(content, folder):
    pretrained.read(written(folder, 'weights', content))


ANY = (DataError, ConfigError)
READERS = {
    'snapshots': Reader(read_snapshot, ANY),
    'trained nets': Reader(read_net, ANY),
    'noisy labels': Reader(read_noise),
    'results': Reader(read_results, ()),
    'weights': Reader(read_weights, setting=one_layer),
    'archives': Reader(read_archive, setting=two_images_a_batch),
    'labels': Reader(read_labels),
    'label sheets': Reader(lambda content, folder: label_sheet.labels(
        written(folder, 'labels.csv', content))),
    'images': Reader(read_image),
    'lists of Clothing1M': Reader(read_lists),
    'index of Clothing1M': Reader(read_index),
    'embedded data': Reader(read_embedded),
    'logs': Reader(read_log),
    'arrays': Reader(read_any_arrays),
}  # fmt: skip


def call(name, content, folder):
    """Reads ``content`` in an empty folder.

    Returns:
        ChainerJoError or None: Its refusal.

    Raises:
        Exception: What no reader may raise.
    """
    reader, place = READERS[name], Path(folder) / 'input'
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        reader.read(content, place)
    except reader.refusals as refusal:
        return refusal
    return None
