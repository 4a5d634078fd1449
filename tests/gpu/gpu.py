"""A trial for the GPU, arrays there and back, and how far a result is from the exact one."""

from dataclasses import replace
from pathlib import Path

import chainer
import numpy as np
import tiny

from chainer_jo.training.machine import Machine

DEVICE = '@cupy:0'


def config(method, *more, precision='float32'):
    """Returns the configuration of a trial that takes a second."""
    return replace(tiny.config(method, *more), precision=precision)


def machine(out=Path(), **options):
    """Returns the Machine of a test: the first GPU."""
    return Machine(Path(out), **{'device': 'cuda:0'} | options)


def send(*arrays):
    """Returns the arrays on the GPU."""
    sent = [chainer.get_device(DEVICE).send(array) for array in arrays]
    return sent[0] if len(sent) == 1 else sent


def fetch(array):
    """Returns an array of the GPU, or a Variable's, on the host."""
    return chainer.get_device('@numpy').send(chainer.as_array(array))


def draw(seed, *shapes):
    """Returns arrays of normal numbers, float32."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


def poison(shape, dtype=np.float32):
    """Leaves NaN in the memory that the next array of this size will get."""
    chainer.get_device(DEVICE).xp.full(shape, np.nan, dtype)


def error(actual, exact):
    """Returns the norm of the difference over that of the exact result; NaN stays NaN."""
    actual, exact = fetch(actual).astype(np.float64), np.asarray(exact, np.float64)
    assert actual.shape == exact.shape
    return np.linalg.norm(actual - exact) / max(np.linalg.norm(exact), 1e-30)
