"""A stand-in for Clothing1M, made by the script that users run, and its verification."""

import importlib.util
from pathlib import Path

import numpy as np

from chainer_jo import datasets
from chainer_jo.datasets import clothing1m
from chainer_jo.training.read_ahead import read_ahead

SCRIPT = Path(__file__).parents[1] / 'reproduce/clothing1m_stand_in.py'
COUNTS = 600, 60, 90


def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location('clothing1m_stand_in', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(folder, counts=COUNTS, sides=(24, 48), **options):
    """Writes a small stand-in; returns the share of wrong labels."""
    embedded = datasets.load('fashion_mnist')
    return script().make(folder, 'fashion_mnist', embedded, counts, sides, **options)


def verify(folder, index, **options):
    """Writes the index of a copy, for images of 36 x 36 and crops of 32 x 32."""
    small = {'size': 36, 'crop': 32}
    return clothing1m.verify(folder, read_ahead, index, **small | options)


def large_index(folder, n, monkeypatch):
    """Writes lists of ``n`` keys of the published form and their index; there are no images."""

    def examined(paths, imap, on_file):
        shapes = {
            'reason': 'u1',
            'kinds': 'u1',
            'size': '(2,)u4',
            'length': 'u4',
            'colour': '(3,)f4',
        }
        found = {name: np.zeros(n, dtype) for name, dtype in shapes.items()}
        return found | {'digest': np.arange(2 * n).view('u1').reshape(n, 16)}, []

    monkeypatch.setattr(clothing1m, 'examine_all', examined)
    (folder / 'images/0').mkdir(parents=True)
    keys = [
        f'images/{i % 10}/{i % 97:02d}/{3_000_000_000 + i},{900_000_000 + i}.jpg' for i in range(n)
    ]
    parts = {'noisy_train': keys[200:], 'clean_val': keys[:100], 'clean_test': keys[100:200]}
    for name, part in parts.items():
        (folder / f'{name}_key_list.txt').write_text('\n'.join(part))
    for name in ('noisy', 'clean'):
        lines = (f'{key} {i % 14}\n' for i, key in enumerate(keys))
        (folder / f'{name}_label_kv.txt').write_text(''.join(lines))
    return clothing1m.verify(folder, map, folder.with_suffix('.index'))['index']
