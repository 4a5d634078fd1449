"""A few small whole files of every kind that ``readers.py`` reads, for the fuzzer to begin with."""

import contextlib
import functools
import gzip
import io
import json
import pickle
import signal
import tarfile
import tempfile
from pathlib import Path

import label_writers
import numpy as np
import readers
import tiny
import weight_files
from PIL import Image

from chainer_jo import store
from chainer_jo.datasets import (
    cifar10,
    clothing1m,
    clothing1m_layouts,
    decode,
    fashion_mnist,
    label_sheet,
)
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import StoppedError
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import saved_net, snapshot, trial

BODY = len(store.MAGIC) + store.DIGEST_BYTES


def of(name):
    """Returns files for a reader: a list of bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return list(MAKERS[name](Path(folder)))


def archives(folder):
    pixels, labels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072), np.array([3, 9])
    records = np.hstack([labels[:, None].astype(np.uint8), pixels]).tobytes()
    with readers.two_images_a_batch():
        for version, make in (
            (cifar10.BINARY, lambda: records),
            (cifar10.PYTHON, lambda: pickle.dumps({'data': pixels, 'labels': labels.tolist()}, 2)),
            (cifar10.PYTHON, lambda: pickle.dumps({b'data': pixels, b'labels': labels}, 4)),
        ):
            packed = io.BytesIO()
            with tarfile.open(None, 'w', packed) as archive:
                for name in version.batches:
                    content = make()
                    member = tarfile.TarInfo(f'{version.folder}/{name}')
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            yield packed.getvalue()
            yield gzip.compress(packed.getvalue(), mtime=0)


def embedded_data(folder):
    yield fashion_mnist.PATH.read_bytes()
    arrays = dict(np.load(fashion_mnist.PATH))
    # Small, hence changed in more places: it has another digest all the same.
    np.savez(folder / 'a.npz', **{name: array[:10] for name, array in arrays.items()})
    yield (folder / 'a.npz').read_bytes()


def labels(folder):
    for write, _, _ in label_writers.READ.values():
        write(folder / 'labels')
        yield (folder / 'labels').read_bytes()


def label_sheets(folder):
    rows = [{'path': f'{name}/1.png', 'label': name} for name in ('cat', '=dog', 'a,"b')]
    yield label_sheet.written(['path', 'label'], rows)
    yield label_sheet.written(['file', 'class', 'other'], [{'file': 'x.png', 'class': '1'}])
    yield '\ufeffpath;label\r\na.png;x\r\n\r\nb.png;"y\nz"\r\n'.encode()


def images(folder):
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    turned = Image.Exif()
    turned[decode.ORIENTATION] = 6
    for kind in decode.formats():
        for mode in ('L', 'RGB', 'CMYK', 'P', 'I;16', 'RGBA', '1'):
            file = io.BytesIO()
            try:
                grey.convert(mode).save(file, kind, exif=turned)
            except (OSError, ValueError, KeyError):
                continue  # A format has not every mode.
            yield file.getvalue()
    file = io.BytesIO()
    grey.convert('RGB').resize((64, 64)).save(file, 'JPEG', progressive=True)
    yield file.getvalue()


def lists(folder):
    keys = [f'images/{i}/{i}/{i},{i}.jpg' for i in range(3)]
    pairs = [''.join(f'{key} {i}\n' for i, key in enumerate(keys)).encode()] * 2
    names = [f'{key}\n'.encode() for key in keys]
    yield readers.BETWEEN.join([*names, *pairs])
    yield readers.BETWEEN.join([b''] * 5 + [b'images/0/a b.jpg 3\n', b'0/b.jpg\t13\n', b'c 1\r\n'])
    odd = b'../../x 1\n/etc/passwd 2\nimages/0/../../y 3\n\xff\xfe 4\n0/z -1\n0/z 1\n'
    yield readers.BETWEEN.join([b''] * 5 + [odd] * 3)


def index(folder):
    text, ends, facts = b'0/a.jpg0/b.jpg0/c.jpg', [7, 14, 21], b''
    (folder / 'images' / '0').mkdir(parents=True)
    for name in readers.layout_names('merged'):
        (folder / name).write_bytes(b'')
    layout = clothing1m_layouts.recognise(folder)
    part = {'images': 1, 'unusable': 0, 'unlabelled': 0, 'used': 1, 'classes': [1] + [0] * 13}
    facts = {
        'format': clothing1m.FORMAT, 'folder': 'data', 'images': 'data/images',
        'layout': layout.title,
        'lists_digest': layout.digest(), 'digest': 'a' * 64, 'mean': [0.5, 0.5, 0.5], 'size': 36,
        'crop': 32, 'limit': 0.01, 'decoder': 'pillow', 'index': 'index', 'in_test': 0,
        'leave_out_test': False, 'lines': 0, 'files': 3,
        'parts': dict.fromkeys(('train', 'validation', 'test'), part),
    }  # fmt: skip
    arrays = {
        'text': np.frombuffer(text, 'u1'),
        'ends': np.array(ends, 'u4'),
        'facts': np.frombuffer(json.dumps(facts).encode(), 'u1'),
    }
    for place, name in enumerate(facts['parts']):
        arrays[f'place/{name}'] = np.array([place], 'u4')
        arrays[f'label/{name}'] = np.array([4], 'i')
    store.write_arrays(folder / 'index', arrays)
    yield (folder / 'index').read_bytes()[BODY:]


def weights(folder):
    path, r = folder / 'weights', np.random.default_rng(0)
    shapes = {'conv1.weight': (2, 3, 1, 1), 'fc.weight': (3, 4), 'fc.bias': (3,)}
    shapes |= {f'bn1.{leaf}': (2,) for leaf in ('weight', 'bias', 'running_mean', 'running_var')}
    arrays = {name: r.random(shape, 'f') for name, shape in shapes.items()}
    arrays['bn1.num_batches_tracked'] = np.array(7)
    yield weight_files.safetensors(path, arrays).read_bytes()
    with weight_files.modules() as torch:
        yield weight_files.torch_zip(path, torch, arrays).read_bytes()
        yield weight_files.torch_stream(path, torch, arrays).read_bytes()
    renamed = {'conv1/W': 'conv1.weight', 'fc6/W': 'fc.weight', 'fc6/b': 'fc.bias'}
    renamed |= {'conv1/b': 'bn1.bias', 'bn1/gamma': 'bn1.weight', 'bn1/beta': 'bn1.bias'}
    renamed |= {'bn1/avg_mean': 'bn1.running_mean', 'bn1/avg_var': 'bn1.running_var'}
    with open(path, 'wb') as file:
        np.savez(file, **{ours: arrays[name] for ours, name in renamed.items()})
    yield path.read_bytes()


def stop(row):
    if row['epoch'] == 2:
        raise StoppedError(signal.SIGTERM, seen='', fix='')


@functools.cache
def trained():
    """Returns the files of a finished trial, by name, its id, and a snapshot of it."""
    config = tiny.config('ours')
    observer = trial.Observer(lambda *_: None, stop, lambda *_: None)
    with tempfile.TemporaryDirectory() as out:
        folder = tiny.folder(config, out)
        with contextlib.suppress(StoppedError):
            tiny.run(config, out, observer, seconds=0)
        newest = snapshot.list_newest_first(folder)[0].read_bytes()
        tiny.run(config, out)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files, config.trial, newest


def results(folder):
    files, name, _ = trained()
    log, (record, config) = (
        files['log.jsonl'],
        (files[f'{of}.json'].rpartition(b',\n "digest"')[0] for of in ('result', 'config')),
    )
    record = record.replace(store.sha256(log).encode(), b'%LOG%')
    record = record.replace(name.encode(), readers.TRIAL.encode())
    yield readers.BETWEEN.join([record, log, config])
    yield readers.BETWEEN.join([b'', log, config])


def logs(folder):
    yield trained()[0]['log.jsonl']


def snapshots(folder):
    (folder / 'file').write_bytes(trained()[2])
    arrays = store.read_arrays(folder / 'file')
    arrays['identity'] = np.array('identity')
    # What the readers ask for comes first, so that most changes hit it.
    small = {name: array for name, array in arrays.items() if array.nbytes < 5000}
    for kept in (arrays, dict(sorted(small.items(), key=lambda item: item[1].ndim)[:12])):
        store.write_arrays(folder / 'file', kept)
        yield (folder / 'file').read_bytes()[BODY:]


def any_arrays(folder):
    yield from ((folder / 'file').read_bytes() for _ in noisy_labels(folder))


def noisy_labels(folder):
    t = np.arange(6, dtype=np.int32)
    for arrays in ({'noisy': t, 'index': t, 'true': t}, {'noisy': t, 'index': t}):
        store.write_arrays(folder / 'file', arrays)
        yield (folder / 'file').read_bytes()[BODY:]
    np.savez_compressed(folder / 'file.npz', noisy=t, index=t)
    yield (folder / 'file.npz').read_bytes()


def trained_nets(folder):
    size = {'filters': [2, 2, 2, 2], 'blocks': [1, 1, 1], 'stem_stride': 2}
    net = PreActResNet(1, 2, **size, rng=rng(0, 'init'))
    facts = {'classes': ['a', 'b'], 'settings': size, 'precision': 'float32', 'channels': 1}
    saved_net.SavedNet(net, np.zeros((1, 8, 8), 'f'), facts).save(folder)
    text = (folder / 'net.json').read_bytes().rpartition(b',\n "digest"')[0]
    yield readers.BETWEEN.join([text, (folder / 'net.arrays').read_bytes()[BODY:]])


MAKERS = {
    'archives': archives,
    'embedded data': embedded_data,
    'labels': labels,
    'label sheets': label_sheets,
    'images': images,
    'lists of Clothing1M': lists,
    'index of Clothing1M': index,
    'weights': weights,
    'results': results,
    'logs': logs,
    'snapshots': snapshots,
    'arrays': any_arrays,
    'noisy labels': noisy_labels,
    'trained nets': trained_nets,
}
