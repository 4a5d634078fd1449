"""The kinds of file in which people keep labels; what counts is the content, not the ending.

Files come from anywhere: nothing in them is run, and none takes more memory than its labels need.
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
    b'%PDF': ('a PDF document', 'bring the labels themselves'),
    b'\x89PNG': ('an image', 'bring the labels themselves'),
    b'\x89HDF': ('an HDF5 file', 'save its labels with numpy.save'),
    b'MATLAB': ('a MATLAB file', 'save its labels with numpy.save'),
}
SAVE = 'save one label for each image with numpy.save, or one to a line as text'


class RefusedError(ValueError):
    """A file whose labels cannot be read.

    Args:
        seen (str): What is there instead; short, whatever the size of the file.
        fix (str): What to do about it.
    """

    def __init__(self, seen, fix=SAVE):
        super().__init__(seen)
        self.seen, self.fix = seen, fix


def read(path, n, classes, key=None):
    """Returns what may be labels in a file.

    Args:
        path (pathlib.Path): The file.
        n (int): Number of images.
        classes (sequence of str): Names of the classes.
        key (str or None): Name of an array or column; needed where there are several.

    Returns:
        numpy.ndarray or list: Numbers or text, of any shape.

    Raises:
        RefusedError: There are none, or several and none of them is ``key``.
        OSError: The file cannot be read.
        Exception: A damaged file raises whatever it likes.
    """
    status = path.stat()
    # Reading a pipe could block for ever.
    if not stat.S_ISREG(status.st_mode):
        kind = 'a folder' if stat.S_ISDIR(status.st_mode) else 'no regular file'
        raise RefusedError(kind, 'name the file that holds the labels')
    limit = 2**20 + n * (1024 + 64 * len(classes))
    with open(path, 'rb') as file:
        head = file.read(512)
        if head.startswith(b'PK\3\4'):
            return _zipped(file, status.st_size, limit, n, key)
        check_foreign(head)
        if status.st_size > limit:
            raise RefusedError(f'{status.st_size:,} bytes, where {n:,} labels need far fewer')
        content = head + file.read(limit)
    if head.startswith(b'\x93NUMPY'):
        return _pick(_columns(npy(content, n), n), key)
    if re.match(rb'\x80[\2-\5]|\(dp|\(lp|cnumpy', head):
        return _pick(_columns(_pickled(content, n), n), key)
    return _pick(_written(content, n, classes), key)


def _pick(columns, key):
    """Returns the one column there is, or that of a name."""
    names = list(columns)
    if key is None and len(names) == 1:
        return columns[names[0]]
    if key in columns and key:
        return columns[key]
    if names == ['']:
        return _part(columns[''], key)
    seen = 'no key' if key is None else f'the key {excerpt(key, 20)!r}'
    raise RefusedError(
        f'{seen}, where the file has {excerpt(", ".join(names) or "no labels", 100)}',
        f'name one of them after a colon, such as FILE:{excerpt(names[0], 40)}' if names else SAVE,
    )


def _part(values, key):
    """Returns a column of an array that has columns without names."""
    width = values.shape[1] if isinstance(values, np.ndarray) and values.ndim == 2 else 0
    if key.isdecimal() and int(key) < width:
        return values[:, int(key)]
    raise RefusedError(
        f'the key {excerpt(key, 20)!r}, where the file has one array without a name',
        'leave out the colon and what follows it',
    )


def check_foreign(head):
    """Refuses a file that begins with ``head`` if it is known to be of quite another kind."""
    for start, (seen, fix) in FOREIGN.items():
        if head.startswith(start):
            raise RefusedError(seen, fix)
    if re.match(rb'\s*<(!doctype|html|\?xml|head|body)', head, re.IGNORECASE):
        raise RefusedError('a web page, not labels', 'download the file itself: its raw form')
    if not head:
        raise RefusedError('an empty file: 0 labels')


def _operations(n):
    return 100_000 + 100 * n


def npy(content, n):
    """Returns the array of a ``.npy`` file, or the plain objects in an array of objects.

    Of ``n`` images, which bounds the objects; raises as :func:`read`.
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
    # A header may declare more than fits in memory.
    if len(body) < math.prod(shape) * dtype.itemsize:
        raise RefusedError('the file is cut short', 'bring it again, or another copy')
    array = np.frombuffer(body, dtype, count=math.prod(shape))
    return array.reshape(shape, order='F' if fortran else 'C')


def _zipped(file, size, limit, n, key):
    """The labels of a ``.npz`` file, or of one that torch saved."""
    check_directory(file, size, limit)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        arrays = {name.removesuffix('.npy'): name for name in names if name.endswith('.npy')}
        if arrays:
            content = member(archive, _pick(arrays, key), limit)
            return _pick(_columns(npy(content, n), n), None)
        pickles = [name for name in names if PurePosixPath(name).name == 'data.pkl']
        if len(pickles) != 1:
            seen = excerpt(', '.join(names[:8])) or 'nothing'
            raise RefusedError(f'an archive with {seen}', 'unpack it and name the file in it')
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
        raise RefusedError(f'{excerpt(name)} has more bytes than it may have')
    return content


def check_directory(file, size, limit):
    """Refuses an archive of ``size`` bytes whose list of members is longer than ``limit``.

    The list is read whole by whoever opens the archive, so its size is looked at first.
    """
    file.seek(max(0, size - 2**16 - 22))
    tail = file.read()
    end = tail.rfind(b'PK\5\6')
    if end < 0 or len(tail) < end + 22:
        raise RefusedError('an archive that is cut short', 'bring it again, or another copy')
    (length,) = struct.unpack('<I', tail[end + 12 : end + 16])
    if length > limit:
        raise RefusedError('an archive of too many files')
    file.seek(0)


def _pickled(content, n):
    value, end = plain_pickle.load_first(content, _operations(n))
    if type(value) is not int or value != plain_pickle.TORCH_MAGIC:
        return value
    for _ in range(3):  # Version, machine, and then what was saved.
        value, length = plain_pickle.load_first(content[end:], _operations(n))
        end += length
    return value


def _columns(tree, n):
    """Arrays by name, from whatever an array or container may be."""
    if isinstance(tree, np.ndarray) and tree.dtype.names:
        return {name: tree[name] for name in tree.dtype.names}
    if isinstance(tree, (list, tuple)):
        tree = list(tree)
        if tree and all(isinstance(item, dict) for item in tree):
            return {str(name): [item[name] for item in tree] for name in tree[0]}
    if not isinstance(tree, dict):
        return {'': tree}
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
    """The values of a dict by image, in the order of the numbers in its keys: 7, 'x/0007.png'."""
    numbers = [re.search(r'(\d{1,12})\D*$', str(key)) for key in labels]
    if not all(numbers):
        odd = next(key for key, number in zip(labels, numbers, strict=True) if not number)
        raise RefusedError(
            f'labels by name, such as {excerpt(odd, 40)!r}',
            'name every image by its number in the data set, from 0',
        )
    by_number = {
        int(number[1]): label for number, label in zip(numbers, labels.values(), strict=True)
    }
    first = min(by_number, default=0)
    if first > 1 or sorted(by_number) != list(range(first, first + len(labels))):
        raise RefusedError(
            f'labels by number, but not of {len(labels):,} images in a row',
            'number the images from 0, each once',
        )
    return [by_number[number] for number in sorted(by_number)]


def _written(content, n, classes):
    """Labels in text: JSON, or a table whose cells are parted by , ; tabs or spaces."""
    encoding = 'utf-16' if content[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise RefusedError('neither text nor an array') from None
    if '\0' in text:
        raise RefusedError('neither text nor an array')
    if text.lstrip()[:1] in ('[', '{'):
        return _columns(_json(text, n, classes), n)
    return _table(_rows(text, classes), n, classes)


def _json(text, n, classes):
    # An empty list takes two characters in the file and thirty times as much in memory.
    if max(text.count('['), text.count('{')) > 2 * n + 1000:
        raise RefusedError('more lists than images')
    if text.count(',') > (len(classes) + 16) * (n + 1000):
        raise RefusedError('more values than labels need')
    try:
        return json.loads(text)
    except RecursionError:
        raise RefusedError('lists in lists, too many deep') from None


def _rows(text, classes):
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith('#')]
    if not lines:
        raise RefusedError('no text in the file: 0 labels')
    apart = next((mark for mark in '\t;,' if mark in lines[0]), None)
    if apart:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=apart)]
    # Spaces separate numbers, but belong to a name such as 'ankle boot'.
    numbers = all(is_number(word) for word in lines[0].split())
    return [line.split() if numbers else [line.strip().strip('"')] for line in lines]


def is_number(text):
    """Returns whether ``text`` is a finite decimal number."""
    return bool(re.fullmatch(r'\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*', text))


def folded(name):
    """Returns a name as it is compared: without case, and with spaces for other signs."""
    return re.sub(r'[\W_]+', ' ', name.casefold()).strip()


def _table(rows, n, classes):
    """Columns by name; a table of one row is a column that lies on its side."""
    first = rows[0]
    headed = _is_header(first, rows[1:2], classes) or (first[0] == '' and len(rows) > n)
    names, body = (first, rows[1:]) if headed else ([str(i) for i in range(len(first))], rows)
    odd = next((i for i, row in enumerate(rows, 1) if len(row) != len(first)), None)
    if odd:
        raise RefusedError(
            f'{len(rows[odd - 1])} cells in row {odd}, where the first has {len(first)}'
        )
    if len(body) != n and len(first) == n and not headed:
        names, body = [str(i) for i in range(len(body))], list(zip(*body, strict=True))
    shares = len(names) == len(classes) > 1 and all(map(is_number, body[0] if body else ()))
    if shares and (not headed or set(map(folded, names)) == set(map(folded, classes))):
        return {'': np.array(body, np.float64)}
    return {name: [row[i] for row in body] for i, name in enumerate(names)}


def _is_header(first, second, classes):
    if any(map(is_number, first)):
        return False
    # The names of all classes may be a header above shares, or the labels themselves.
    named = {folded(cell) for cell in first} & {folded(name) for name in classes}
    return not named or any(is_number(cell) for row in second for cell in row)
