"""Reads labels from the kinds of file in which people keep them, recognised by content.

Files are not trusted: no code in them is run, and the memory used is bounded by the number of
labels expected.
"""

import csv
import io
import json
import math
import re
import stat
import struct
import zipfile
from pathlib import PurePosixPath

import numpy as np

from chainer_jo.datasets import plain_pickle
from chainer_jo.errors import excerpt

FOREIGN = {
    b'version https://git-lfs': ('a git-lfs pointer, not the file itself', 'run git lfs pull'),
    b'\x1f\x8b': ('a gzip file', 'unpack it with gunzip'),
    b'BZh': ('a bzip2 file', 'unpack it with bunzip2'),
    b'\xfd7zXZ': ('an xz file', 'unpack it with unxz'),
    b'%PDF': ('a PDF document', 'provide the labels themselves'),
    b'\x89PNG': ('an image', 'provide the labels themselves'),
    b'\x89HDF': ('an HDF5 file', 'save its labels with numpy.save'),
    b'MATLAB': ('a MATLAB file', 'save its labels with numpy.save'),
}
SAVE = 'save one label for each image with numpy.save, or as text with one label per line'


class RefusedError(ValueError):
    """A file whose labels cannot be read.

    Args:
        seen (str): What the file has instead; short, whatever the size of the file.
        fix (str): What the user can do.
    """

    def __init__(self, seen, fix=SAVE):
        super().__init__(seen)
        self.seen, self.fix = seen, fix


def read(path, n, classes, key=None):
    """Returns the values in a file that may be labels.

    Args:
        path (pathlib.Path): The file.
        n (int): Number of images.
        classes (sequence of str): Names of the classes.
        key (str or None): Name of an array or column; needed where there are several.

    Returns:
        numpy.ndarray or list: Numbers or text, of any shape.

    Raises:
        RefusedError: The file has no labels, or has several arrays or columns and none is ``key``.
        OSError: The file cannot be read.
        Exception: A damaged file can raise almost anything.
    """
    status = path.stat()
    # Reading a pipe could block forever.
    if not stat.S_ISREG(status.st_mode):
        kind = 'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'
        raise RefusedError(kind, 'name the file with the labels')
    # Room for a path and a row of float64 text per image; whatever is larger holds something else.
    limit = 2**20 + n * (1024 + 64 * len(classes))
    with open(path, 'rb') as file:
        head = file.read(512)
        if head.startswith(b'PK\3\4'):
            return _zipped(file, status.st_size, limit, n, key)
        check_foreign(head)
        if status.st_size > limit:
            raise RefusedError(f'{status.st_size:,} bytes, but {n:,} labels need far fewer')
        content = head + file.read(limit)
    if head.startswith(b'\x93NUMPY'):
        return _pick(_columns(npy(content, n), n), key)
    # The start of a pickle: protocol 2 to 5, or in protocol 0 a dict, a list or an array.
    if re.match(rb'\x80[\2-\5]|\(dp|\(lp|cnumpy', head):
        return _pick(_columns(_pickled(content, n), n), key)
    return _pick(_written(content, n, classes), key)


def _pick(columns, key):
    """Returns the column named ``key``, or the only column if ``key`` is ``None``."""
    names = list(columns)
    if key is None and len(names) == 1:
        return columns[names[0]]
    if key in columns and key:
        _check_order(columns, key)
        return columns[key]
    if names == ['']:
        return _part(columns[''], key)
    seen = 'no key' if key is None else f'the key {excerpt(key, 20)!r}'
    raise RefusedError(
        f'{seen}, but the file has {excerpt(", ".join(names) or "no labels", 100)}',
        f'name one of them after a colon, such as FILE:{excerpt(_last_named(names), 40)}'
        if any(names)
        else SAVE,
    )


def _last_named(names):
    # The first column is mostly a number or a file, and has no name in a table of pandas.
    return next(name for name in reversed(names) if name)


def _check_order(columns, key):
    """Raises RefusedError if another column numbers the images and is not in order."""
    for name, values in columns.items():
        try:
            numbers = np.asarray(values).astype(np.int64)
        except (TypeError, ValueError, OverflowError):
            continue
        if name == key or numbers.ndim != 1 or not numbers.size or numbers.min() not in (0, 1):
            continue
        order = np.arange(len(numbers)) + numbers.min()
        if (numbers != order).any() and (np.sort(numbers) == order).all():
            raise RefusedError(
                f'the column {excerpt(name, 20)!r} numbers the images, in another order',
                'sort the rows by that column, so that label i is that of image i',
            )


def _part(values, key):
    """Returns a column, by number, of an array whose columns have no names."""
    width = values.shape[1] if isinstance(values, np.ndarray) and values.ndim == 2 else 0
    if key.isdecimal() and int(key) < width:
        return values[:, int(key)]
    raise RefusedError(
        f'the key {excerpt(key, 20)!r}, but the file has one array without a name',
        'leave out the colon and the key',
    )


def check_foreign(head):
    """Raises RefusedError if a file that begins with ``head`` is known to hold no labels."""
    for start, (seen, fix) in FOREIGN.items():
        if head.startswith(start):
            raise RefusedError(seen, fix)
    if re.match(rb'\s*<(!doctype|html|\?xml|head|body)', head, re.IGNORECASE):
        raise RefusedError('a web page, not labels', 'download the raw file')
    if not head:
        raise RefusedError('an empty file: 0 labels')


def _operations(n):
    return 100_000 + 100 * n


def npy(content, n):
    """Returns the array of a ``.npy`` file, or the plain objects in an array of objects.

    The number of images, ``n``, bounds the number of objects. Raises as :func:`read` does.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read_header:
        raise RefusedError(f'a .npy file of version {version}')
    shape, fortran, dtype = read_header[version](file)
    body = file.read()
    if dtype.hasobject:
        return plain_pickle.load(body, _operations(n))
    # numpy.load would allocate what the header declares, which may be more than fits in memory.
    if len(body) < math.prod(shape) * dtype.itemsize:
        raise RefusedError('a truncated file', 'get another copy of it')
    array = np.frombuffer(body, dtype, count=math.prod(shape))
    return array.reshape(shape, order='F' if fortran else 'C')


def _zipped(file, size, limit, n, key):
    """Returns the labels of a ``.npz`` file, or of a file that torch saved."""
    check_directory(file, size, limit)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        arrays = {name.removesuffix('.npy'): name for name in names if name.endswith('.npy')}
        if arrays:
            content = member(archive, _pick(arrays, key), limit)
            return _pick(_columns(npy(content, n), n), None)
        # torch.save writes data.pkl and one file per storage into a folder of any name.
        pickles = [name for name in names if PurePosixPath(name).name == 'data.pkl']
        if len(pickles) != 1:
            seen = excerpt(', '.join(names[:8])) or 'nothing'
            raise RefusedError(f'an archive with {seen}', 'unpack it and name the file with labels')
        folder = pickles[0].removesuffix('data.pkl')
        tree = plain_pickle.load(
            member(archive, pickles[0], limit),
            _operations(n),
            lambda storage: member(archive, f'{folder}data/{storage}', limit),
        )
    return _pick(_columns(tree, n), key)


def member(archive, name, limit):
    """Returns the bytes of a file in an archive. Raises RefusedError if they exceed ``limit``."""
    info = archive.getinfo(name)
    # The other compression methods may need any amount of memory to unpack.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError(f'{excerpt(name)} is compressed in an unusual way')
    with archive.open(info) as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise RefusedError(f'{excerpt(name)} has more than {limit:,} bytes')
    return content


def check_directory(file, size, limit):
    """Raises RefusedError if the directory of an archive is longer than ``limit`` bytes.

    ``zipfile`` reads the whole directory into memory, so its size is checked first. ``size`` is the
    size of the file in bytes.
    """
    # The end record has 22 bytes and is followed by a comment of up to 65,535 bytes.
    file.seek(max(0, size - 2**16 - 22))
    tail = file.read()
    end = tail.rfind(b'PK\5\6')
    if end < 0 or len(tail) < end + 22:
        raise RefusedError('a truncated archive', 'get another copy of it')
    (length,) = struct.unpack('<I', tail[end + 12 : end + 16])
    if length > limit:
        raise RefusedError('an archive with too many files')
    file.seek(0)


def _pickled(content, n):
    value, end = plain_pickle.load_first(content, _operations(n))
    if type(value) is not int or value != plain_pickle.TORCH_MAGIC:
        return value
    for _ in range(3):  # The version, the machine, and the saved object.
        value, length = plain_pickle.load_first(content[end:], _operations(n))
        end += length
    return value


def _columns(tree, n):
    """Returns arrays by name from an array or container; ``''`` names an array without a name."""
    if isinstance(tree, np.ndarray) and tree.dtype.names:
        return {name: tree[name] for name in tree.dtype.names}
    if isinstance(tree, (list, tuple)):
        tree = list(tree)
        if tree and all(isinstance(item, dict) for item in tree):
            return {str(name): [item[name] for item in tree] for name in tree[0]}
    if not isinstance(tree, dict):
        return {'': tree}
    # A dict of n entries maps images to labels; any other has arrays by name.
    if len(tree) == n or not any(_is_long(value) for value in _leaves(tree).values()):
        return {'': _in_order(tree)}
    return {name: value for name, value in _leaves(tree).items() if _is_long(value)}


def _leaves(tree, prefix=''):
    leaves = {}
    for key, value in tree.items():
        name = prefix + (key.decode('latin-1') if isinstance(key, bytes) else str(key))
        leaves |= _leaves(value, f'{name}.') if isinstance(value, dict) else {name: value}
    return leaves


def _is_long(value):
    return isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _in_order(labels):
    """Returns the values of a dict in the order of the numbers in its keys: 7, 'x/0007.png'."""
    numbers = [re.search(r'(\d{1,12})\D*$', str(key)) for key in labels]
    if not all(numbers):
        odd = next(key for key, number in zip(labels, numbers, strict=True) if not number)
        raise RefusedError(
            f'labels by name, such as {excerpt(odd, 40)!r}',
            'use the number of each image in the data set, from 0, as its key',
        )
    by_number = {
        int(number[1]): label for number, label in zip(numbers, labels.values(), strict=True)
    }
    # People number images from 0 or from 1; with no gaps, both are clear.
    first = min(by_number, default=0)
    if first > 1 or sorted(by_number) != list(range(first, first + len(labels))):
        raise RefusedError(
            f'{len(labels):,} labels by number, but the numbers have gaps or repeats',
            'number the images from 0, each once',
        )
    return [by_number[number] for number in sorted(by_number)]


def _written(content, n, classes):
    """Returns labels from text: JSON, or a table separated by commas, semicolons, tabs, spaces."""
    # Excel saves "Unicode text" as UTF-16, and CSV in UTF-8 with a byte order mark.
    encoding = 'utf-16' if content[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise RefusedError('neither text nor an array') from None
    if '\0' in text:
        raise RefusedError('neither text nor an array')
    if text.lstrip()[:1] in ('[', '{'):
        return _columns(_json(text, n, classes), n)
    return _table(_rows(text), n, classes)


def _json(text, n, classes):
    # An empty list takes two bytes in the file and about thirty times as much in memory.
    if max(text.count('['), text.count('{')) > 2 * n + 1000:
        raise RefusedError('more lists than images')
    if text.count(',') > (len(classes) + 16) * (n + 1000):
        raise RefusedError('more values than labels need')
    try:
        return json.loads(text)
    except RecursionError:
        raise RefusedError('lists that are nested too deeply') from None


def _rows(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith('#')]
    if not lines:
        raise RefusedError('no text in the file: 0 labels')
    apart = next((mark for mark in '\t;,' if mark in lines[0]), None)
    if apart:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=apart)]
    # Spaces separate numbers, but are part of a name such as 'ankle boot'.
    numbers = all(is_number(word) for word in lines[0].split())
    return [line.split() if numbers else [line.strip().strip('"')] for line in lines]


def is_number(text):
    """Returns whether ``text`` is a finite decimal number."""
    return bool(re.fullmatch(r'\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*', text))


def folded(name):
    """Returns a name normalised for comparison: case-folded, with a space for any punctuation."""
    return re.sub(r'[\W_]+', ' ', name.casefold()).strip()


def _table(rows, n, classes):
    """Returns the columns of a table by name; a single row counts as a single column."""
    first = rows[0]
    # pandas writes its index as a first column with an empty name.
    headed = _is_header(first, rows[1:2], classes) or (first[0] == '' and len(rows) > n)
    names, body = (first, rows[1:]) if headed else ([str(i) for i in range(len(first))], rows)
    odd = next((i for i, row in enumerate(rows, 1) if len(row) != len(first)), None)
    if odd:
        raise RefusedError(
            f'{len(rows[odd - 1])} cells in row {odd}, but {len(first)} in the first'
        )
    if len(body) != n and len(first) == n and not headed:
        names, body = [str(i) for i in range(len(body))], list(zip(*body, strict=True))
    shares = len(names) == len(classes) > 1 and all(map(is_number, body[0] if body else ()))
    named = list(map(folded, names))
    if shares and not headed:
        return {'': np.array(body, np.float64)}
    if shares and set(named) == set(map(folded, classes)):
        # The columns may be in any order; pandas sorts them by name.
        return {'': np.array(body, np.float64)[:, [named.index(folded(name)) for name in classes]]}
    return {name: [row[i] for row in body] for i, name in enumerate(names)}


def _is_header(first, second, classes):
    if any(map(is_number, first)):
        return False
    # Class names in the first row are a header if numbers follow, and else the first labels.
    named = {folded(cell) for cell in first} & {folded(name) for name in classes}
    return not named or any(is_number(cell) for row in second for cell in row)
