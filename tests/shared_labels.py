"""What one of several processes does to see how labels are shared."""

import json
import sys
from pathlib import Path

import chainer
import numpy as np

from chainer_jo.links.label_store import LabelStore
from chainer_jo.training import parallel

N, C = 1_000_000, 14


def memory():
    """Bytes of this process; what several share is divided among them."""
    lines = Path('/proc/self/smaps_rollup').read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith('Pss:')))


def main():
    ranks = parallel.join()

    def make():
        method = chainer.Chain()
        with method.init_scope():
            method.labels = LabelStore(np.zeros(N, 'i'), C, 'all')
        method.labels.pin(np.arange(N) == N - 1)
        return method

    before = memory()
    labels = ranks.share_labels(make).labels
    f, index = np.full((1000, C), 1 / C, 'f'), np.arange(1000, dtype='i')
    for start in range(0, N, 1000):
        labels.record(f, start + index, np.zeros(1000, 'i'))
    labels.average_outputs()
    # All of it is seen by each of them.
    right = bool(np.allclose(labels.y[:-1], 1 / C)) and labels.past.count.tolist() == [1] * N
    right = right and labels.y[-1].tolist() == [1] + [0] * (C - 1)
    (used,) = ranks.total(memory() - before)
    (all_right,) = ranks.total(right)
    if ranks.rank == 0:
        sys.stdout.write(json.dumps({'bytes': used, 'right': all_right}) + '\n')
