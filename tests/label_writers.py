"""Writers of label files as people have them, each with what it is to be read as."""

import json
import pickle
import zipfile

import numpy as np

CLASSES = ('t-shirt/top', 'trouser', 'ankle boot', 'bag')
LABELS = np.array([3, 0, 2, 2, 1, 0], np.int32)
NAMES = [CLASSES[label] for label in LABELS]
N = len(LABELS)
SOFT = np.eye(4)[LABELS] * 0.6 + 0.1


def lines(values=LABELS):
    return ''.join(f'{value}\n' for value in values)


def saved(save, *arrays, **named):
    """What a function of NumPy writes, in a file of any name."""

    def write(path):
        with path.open('wb') as file:
            save(file, *arrays, **named)

    return write


def npy(array):
    return saved(np.save, array, allow_pickle=True)


def npz(**arrays):
    return saved(np.savez, **arrays)


def text(content, **encoding):
    return lambda path: path.write_text(content, **encoding)


def pickled(value, protocol=2):
    return lambda path: path.write_bytes(pickle.dumps(value, protocol))


def torch_zip(value, pkl='data.pkl', **storages):
    """The zip form in which torch saves; ``value`` may be the bytes of its pickle."""
    content = value if isinstance(value, bytes) else pickle.dumps(value, 2)

    def write(path):
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr(f'archive/{pkl}', content)
            archive.writestr('archive/version', '3')
            for key, storage in storages.items():
                archive.writestr(f'archive/data/{key}', storage)

    return write


def torch_old(value):
    """The form in which torch saved before version 1.6: pickles one after another."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}, value, []]
    return lambda path: path.write_bytes(b''.join(pickle.dumps(part, 2) for part in parts))


MANY = {'clean': LABELS * 0, 'given': LABELS}
OBJECTS = np.array(MANY, dtype=object)
BY_INDEX = {str(i): int(label) for i, label in reversed(list(enumerate(LABELS)))}
READ = {
    'npy': (npy(LABELS.astype(np.int64)), '', 'class numbers'),
    'bytes': (npy(LABELS.astype(np.uint8)), '', 'class numbers'),
    'floats': (npy(LABELS.astype(np.float32)), '', 'class numbers'),
    'column': (npy(LABELS[:, None]), '', 'class numbers'),
    'big-endian': (npy(LABELS.astype('>i8')), '', 'class numbers'),
    'names': (npy(np.array(NAMES)), '', 'class names'),
    'records': (npy(np.array(list(zip(NAMES, LABELS, strict=True)), 'U20,i8')), ':f1', 'numbers'),
    'two columns': (npy(np.stack([LABELS * 0, LABELS], 1)), ':1', 'class numbers'),
    'dictionary': (npy(OBJECTS), ':given', 'class numbers'),
    'objects': (npy(np.array([*map(int, LABELS)], dtype=object)), '', 'class numbers'),
    'npz': (npz(a=LABELS), '', 'class numbers'),
    'npz of many': (npz(**MANY), ':given', 'class numbers'),
    'npz of a dictionary': (npz(a=np.array({'given': LABELS}, dtype=object)), '', 'class numbers'),
    'one-hot': (npy(np.eye(4)[LABELS]), '', 'one-hot rows'),
    'one-hot booleans': (npy(np.eye(4, dtype=bool)[LABELS]), '', 'one-hot rows'),
    'soft': (npy(SOFT.astype(np.float16)), '', 'soft labels, read as the class of the largest'),
    'a line each': (text(lines()), '', 'class numbers'),
    'Windows': (text('\ufeff' + lines().replace('\n', '\r\n')), '', 'class numbers'),
    'Excel': (text(lines(), encoding='utf-16'), '', 'class numbers'),
    'header': (text(f'label\n{lines()}\n\n'), '', 'class numbers'),
    'comment': (text(f'# label\n{lines()}'), '', 'class numbers'),
    'one row': (text(','.join(map(str, LABELS))), '', 'class numbers'),
    'spaces': (text(' '.join(map(str, LABELS))), '', 'class numbers'),
    'savetxt': (lambda path: np.savetxt(path, LABELS), '', 'class numbers'),
    'soft savetxt': (lambda path: np.savetxt(path, SOFT), '', 'soft labels'),
    'text names': (text(lines(NAMES)), '', 'class names'),
    'other case': (text(lines(name.upper().replace(' ', '_') for name in NAMES)), '', 'names'),
    'csv by name': (
        text('file,given\n' + ''.join(f'x{i}.png, {v}\n' for i, v in enumerate(LABELS))),
        ':given',
        'class numbers',
    ),
    'csv by number': (
        text(''.join(f'x{i}.png;{v}\n' for i, v in enumerate(LABELS))), ':1', 'class numbers'
    ),
    'csv with an index': (
        text(',0\n' + ''.join(f'{i},{v}\n' for i, v in enumerate(LABELS))), ':0', 'class numbers'
    ),
    'csv one-hot': (
        text(','.join(f'"{c}"' for c in CLASSES) + '\n'
             + ''.join(','.join(f'{x:g}' for x in row) + '\n' for row in np.eye(4)[LABELS])),
        '',
        'one-hot rows',
    ),
    'list': (text(json.dumps(LABELS.tolist())), '', 'class numbers'),
    'list of names': (text(json.dumps(NAMES)), '', 'class names'),
    'list of rows': (text(json.dumps(SOFT.tolist())), '', 'soft labels'),
    'list of records': (
        text(json.dumps([{'id': i, 'given': int(v)} for i, v in enumerate(LABELS)])),
        ':given',
        'class numbers',
    ),
    'by index': (text(json.dumps(BY_INDEX)), '', 'class numbers'),
    'by index from 1': (
        text(json.dumps({str(int(key) + 1): value for key, value in BY_INDEX.items()})),
        '',
        'class numbers',
    ),
    'by path': (
        text(json.dumps({f'train/{key.zfill(5)}.png': CLASSES[v] for key, v in BY_INDEX.items()})),
        '',
        'class names',
    ),
    'named lists': (
        text(json.dumps({'rate': 0.4, 'of': {'given': LABELS.tolist(), 'x': [1]}})),
        ':of.given',
        'class numbers',
    ),
    'torch': (torch_zip({'given': LABELS, 'rate': 0.4}), '', 'class numbers'),
    'torch of many': (torch_zip(MANY), ':given', 'class numbers'),
    'torch of before 2020': (torch_old(MANY), ':given', 'class numbers'),
    'pickle': (pickled(MANY), ':given', 'class numbers'),
    'pickle of Python 2': (pickled({'given': LABELS.tolist()}, 0), '', 'class numbers'),
    'pickle of today': (pickled(LABELS, 5), '', 'class numbers'),
    'pickle by index': (pickled({int(key): v for key, v in BY_INDEX.items()}), '', 'numbers'),
}  # fmt: skip
