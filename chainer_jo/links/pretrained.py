"""Reads ImageNet weights of ResNet-50 from the files that other libraries publish.

Files may come from anywhere: no code in them is run, and reading one takes no more memory than the
weights need.
"""

import hashlib
import json
import math
import re
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import chainer
import numpy as np

from chainer_jo.datasets import label_formats, plain_pickle
from chainer_jo.datasets.label_formats import RefusedError
from chainer_jo.errors import DataError, excerpt
from chainer_jo.links.resnet50 import (
    BLOCKS,
    CAFFE,
    EXPANSION,
    FEATURES,
    TORCHVISION,
    WIDTHS,
    Form,
    ResNet50,
)

FIX = (
    'get resnet50-0676ba61.pth of torchvision (97.8 MiB, SHA-256 0676ba61…) or its older '
    'resnet50-19c8e357.pth (102,502,400 bytes, 19c8e357…), model.safetensors of '
    'timm/resnet50.tv_in1k (102 MB, 5d061a3c…), or the npz that chainer.links.ResNet50Layers saves'
)
# All files above are smaller; nothing larger is read or unpacked.
LARGEST = 2**27
HEADER, OPERATIONS = 2**21, 200_000


@dataclass(frozen=True)
class Weights:
    """The result of :func:`read`.

    Attributes:
        form (Form): The form of ResNet-50 that the weights belong to.
        digest (str): SHA-256 of the file, 64 hex digits.
        arrays (dict): All parameters and statistics except the last layer's, float32, by their
            names in :class:`~chainer_jo.links.resnet50.ResNet50`.
    """

    form: Form
    digest: str
    arrays: dict = field(repr=False)

    def build(self, n_class, precision='float32', *, rng):
        """Returns a ResNet50 with these weights, and a new last layer for ``n_class`` classes.

        Initial weights of all layers are drawn from ``rng``, then those that the file provides are
        replaced. So the last layer starts the same with and without a file.
        """
        net = ResNet50(n_class, self.form, precision, rng=rng)
        reader = chainer.serializers.NpzDeserializer(
            self.arrays, ignore_names=lambda name: name not in self.arrays
        )
        reader.load(net)
        return net


def read(path):
    """Reads ImageNet weights of all layers except the last.

    The file may be a ``.safetensors`` or a PyTorch ``.pth`` file, also from before 2020, with the
    names of torchvision and timm. Or it may be a ``.npz`` file of
    ``chainer.links.ResNet50Layers``; its first convolution is for BGR images, and is reversed. The
    format is recognised by the content, not the file name. The last layer is skipped, and may have
    any number of classes.

    Args:
        path (str or pathlib.Path): The file.

    Returns:
        Weights: The weights of all other layers.

    Raises:
        DataError: The file is missing, damaged, or not one of these; the message names the
            published files.
    """
    path = Path(path)
    try:
        return _read(path)
    except OSError as error:
        seen = error.strerror or str(error)
    except RefusedError as error:
        seen = error.seen
    except Exception as error:
        # For a damaged file the readers may raise any error.
        seen = f'{type(error).__name__}: {excerpt(error, 100)}'
    raise DataError(f'no weights of ResNet-50 in {path}', seen=seen, fix=FIX) from None


def _read(path):
    status = path.stat()
    # Reading a pipe could block forever.
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError('a folder' if path.is_dir() else 'not a regular file')
    if status.st_size > LARGEST:
        raise RefusedError(f'{status.st_size:,} bytes, more than any of the published files')
    with open(path, 'rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
        _check_digest(path.name, digest, status.st_size)
        found = _reader(file)(_File(file, status.st_size))
    naming = _CHAINER if 'fc6/W' in found else _TORCH
    return Weights(naming.form, digest, naming.arrays(found))


def _check_digest(name, digest, size):
    """Checks the digest: the name of a PyTorch file contains how its digest begins."""
    said = re.search(r'-([0-9a-f]{8,64})\.pth$', name)
    if said and not digest.startswith(said[1]):
        raise RefusedError(
            f'{size:,} bytes whose SHA-256 begins with {digest[:8]}, not {said[1]} as in the name'
        )


class _File:
    """A file with a limit on how many bytes are read from it into memory."""

    def __init__(self, file, size):
        self.file, self.size, self.left = file, size, LARGEST

    def read(self, place, size):
        """Returns ``size`` bytes from offset ``place``. Raises RefusedError if there are fewer."""
        if size < 0 or place + size > self.size:
            raise RefusedError('the file is truncated, or its header is wrong')
        self.spend(size)
        self.file.seek(place)
        return self.file.read(size)

    def spend(self, size):
        """Counts ``size`` bytes against the limit."""
        self.left -= size
        if self.left < 0:
            raise RefusedError('more data than the weights of ResNet-50')

    def unpack(self, archive, name):
        """Returns a member of the archive in this file."""
        content = label_formats.member(archive, name, self.left)
        self.spend(len(content))
        return content


def _reader(file):
    """Returns the function that reads the format of a file."""
    file.seek(0)
    head = file.read(512)
    label_formats.check_foreign(head)
    if head.startswith(b'PK\3\4'):
        return _zipped
    # Checked before the next format: the length that precedes the brace may begin with any byte.
    if head[8:9] == b'{':
        return _safetensors
    if head.startswith(b'\x80'):
        return _stream
    raise RefusedError('neither a .safetensors, a .pth nor a .npz file')


def _safetensors(file):
    """Reads a safetensors file: length of the header, header in JSON, then the numbers."""
    if file.size < 8:
        raise RefusedError('the file is truncated')
    length = int.from_bytes(file.read(0, 8), 'little')
    if length > HEADER:
        raise RefusedError(f'a header of {length:,} bytes')
    header = json.loads(file.read(8, length), object_pairs_hook=_without_twins)
    if type(header) is not dict:
        raise RefusedError('a header without names')
    header.pop('__metadata__', None)
    found, place = {}, 8 + length
    # The format allows neither overlaps nor gaps: each tensor begins where the previous one ends,
    # and the last one ends with the file.
    for name, part in sorted(header.items(), key=lambda item: item[1]['data_offsets']):
        dtype, shape, (begin, end) = part['dtype'], part['shape'], part['data_offsets']
        kind = {'F32': '<f4', 'I64': '<i8'}.get(dtype)
        if kind is None:
            raise RefusedError(f'{excerpt(name)} has the type {excerpt(dtype, 20)}, not F32')
        if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise RefusedError(f'{excerpt(name)} has an invalid shape or offset')
        if (8 + length + begin, end - begin) != (place, math.prod(shape) * int(kind[-1])):
            raise RefusedError(f'{excerpt(name)} has the wrong offset or size')
        found[name] = np.frombuffer(file.read(place, end - begin), kind).reshape(shape)
        place += end - begin
    if place != file.size:
        raise RefusedError(f'{file.size - place:,} bytes after the last number')
    return found


def _without_twins(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RefusedError('a name occurs twice')
    return found


def _stream(file):
    """Reads a PyTorch file from before 2020."""
    head = file.read(0, min(HEADER, file.size))
    return _state(plain_pickle.load_torch_stream(head, OPERATIONS, file.read))


def _zipped(file):
    """Reads a ``.npz`` file or a current PyTorch file, both of which are zip archives."""
    label_formats.check_directory(file.file, file.size, HEADER)
    with zipfile.ZipFile(file.file) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise RefusedError('a name occurs twice')
        if 'conv1/W.npy' in names or 'fc6/W.npy' in names:
            return {
                name.removesuffix('.npy'): label_formats.npy(file.unpack(archive, name), 0)
                for name in names
            }
        pickles = [name for name in names if PurePosixPath(name).name == 'data.pkl']
        if len(pickles) != 1:
            raise RefusedError(f'an archive with {excerpt(", ".join(names[:8])) or "nothing"}')
        folder = pickles[0].removesuffix('data.pkl')
        if (
            f'{folder}byteorder' in names
            and file.unpack(archive, f'{folder}byteorder') != b'little'
        ):
            raise RefusedError('numbers that are not little-endian')
        content = label_formats.member(archive, pickles[0], HEADER)
        return _state(
            plain_pickle.load(
                content, OPERATIONS, lambda key: file.unpack(archive, f'{folder}data/{key}')
            )
        )


def _state(found):
    if type(found) is not dict:
        raise RefusedError(f'a {type(found).__name__} instead of named tensors')
    return found


class _Naming:
    """A library's names for the arrays of ResNet-50, and the form of the net that it uses."""

    def __init__(self, form, index, leaves, counter, last, colours):
        self.form, self.counter, self.last, self.colours = form, counter, last, colours
        self.parts = {
            names[index] + leaves[leaf]: (f'{names[0]}/{leaf}', shape)
            for names, leaf, shape in _parts(form)
        }
        self.counters = {
            name.replace(leaves['avg_mean'], counter)
            for name in self.parts
            if name.endswith(leaves['avg_mean'])
        }

    def arrays(self, found):
        """Returns the arrays by this package's names. Raises RefusedError if one is invalid."""
        self._check_names(set(found))
        arrays = {}
        for name, (ours, shape) in self.parts.items():
            _check_array(name, found[name], shape)
            if ours.endswith('avg_var') and found[name].min() < 0:
                raise RefusedError(f'{name} contains a variance below 0')
            arrays[ours] = found[name]
        W, b = (found[name] for name in self.last)
        classes = len(W) if np.ndim(W) else 0
        for name, array, shape in zip(
            self.last, (W, b), ((classes, FEATURES), (classes,)), strict=True
        ):
            _check_array(name, array, shape)
        arrays['conv1/W'] = arrays['conv1/W'][:, self.colours]
        return arrays

    def _check_names(self, found):
        wanted = {*self.parts, *self.last}
        if missing := sorted(wanted - found):
            raise RefusedError(f'{len(found)} names, but not {excerpt(", ".join(missing), 60)}')
        if other := sorted(map(str, found - wanted - self.counters)):
            raise RefusedError(f'names of another net: {excerpt(", ".join(other), 60)}')


def _parts(form):
    """Yields, for each array, its layer's three names, its own name and its shape."""
    yield from _convolved('conv1', 'bn1', *('conv1', 'bn1') * 2, shape=(64, 3, 7, 7))
    if form.stem_bias:
        yield ('conv1',) * 3, 'b', (64,)
    channels = 64
    for stage, (count, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
        for i in range(count):
            out = EXPANSION * width
            shapes = [(width, channels, 1, 1), (width, width, 3, 3), (out, width, 1, 1)]
            shapes += [(out, channels, 1, 1)] if i == 0 else []
            for j, shape in enumerate(shapes, 1):
                own, chainers = f'res{stage + 2}/{i}', f'res{stage + 2}/{f"b{i}" if i else "a"}'
                torchs = f'layer{stage + 1}.{i}'
                pair = ('downsample.0', 'downsample.1') if j == 4 else (f'conv{j}', f'bn{j}')
                yield from _convolved(
                    *(f'{own}/conv{j}', f'{own}/bn{j}'),
                    *(f'{torchs}.{part}' for part in pair),
                    *(f'{chainers}/conv{j}', f'{chainers}/bn{j}'),
                    shape=shape,
                )
            channels = out


def _convolved(*names, shape):
    """Yields the arrays of a convolution and of the batch normalisation after it."""
    yield names[::2], 'W', shape
    for leaf in ('gamma', 'beta', 'avg_mean', 'avg_var'):
        yield names[1::2], leaf, shape[:1]


def _check_array(name, array, shape):
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise RefusedError(f'{name} has the type {excerpt(kind, 20)}, not float32')
    if array.shape != shape:
        raise RefusedError(f'{name} has the shape {excerpt(array.shape)}, not {shape}')
    if not np.isfinite(array).all():
        raise RefusedError(f'{name} contains NaN or infinity')


_TORCH = _Naming(
    TORCHVISION,
    1,
    {
        'W': '.weight',
        'gamma': '.weight',
        'beta': '.bias',
        'avg_mean': '.running_mean',
        'avg_var': '.running_var',
    },
    '.num_batches_tracked',
    ('fc.weight', 'fc.bias'),
    slice(None),
)
_CHAINER = _Naming(
    CAFFE,
    2,
    {leaf: f'/{leaf}' for leaf in ('W', 'b', 'gamma', 'beta', 'avg_mean', 'avg_var')},
    '/N',
    ('fc6/W', 'fc6/b'),
    # Caffe's weights were trained on images in BGR order.
    slice(None, None, -1),
)
