"""A stand-in for Clothing1M, made by the script that users run, and its verification."""

import importlib.util
from pathlib import Path

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
