"""What one of several processes does to see what it gets of a snapshot with many labels."""

import json
import sys

import chainer
import chainer.links as L
import numpy as np
from shared_labels import memory

from chainer_jo.links.label_store import LabelStore
from chainer_jo.training import parallel, state

N, C = 200_000, 14


class Updater(chainer.Chain):
    """Has what hand_out asks of a StageUpdater: a method, and all that is saved."""

    def __init__(self, ranks):
        super().__init__()
        with self.init_scope():
            self.method = ranks.share_labels(make)


def make():
    method = chainer.Chain()
    with method.init_scope():
        method.labels = LabelStore(np.zeros(N, 'i'), C, 'all')
        method.bn = L.BatchNormalization(3)
    return method


def saved(updater, size):
    """A snapshot in which every number says whose it is."""
    arrays = {name: np.full_like(array, 7) for name, array in state.arrays(updater).items()}
    for rank in range(size):
        arrays[f'rank{rank}/method/bn/avg_mean'] = np.full(3, rank, 'f')
    return arrays | {'log': np.array('[1]'), 'method/bn/N': np.array(5)}


def main():
    ranks = parallel.join()
    updater = Updater(ranks)
    # Pages of shared memory are a process's from its first look at them.
    seen = sum(array.sum() for array in state.arrays(updater).values())
    arrays = saved(updater, ranks.size) if ranks.rank == 0 else None
    before = memory()
    found = ranks.hand_out(arrays, updater)
    used = memory() - before
    state.restore(updater, found)
    right = (
        bool((updater.method.labels.y == 7).all() and (updater.method.labels.past.total == 7).all())
        and updater.method.bn.avg_mean.tolist() == [ranks.rank] * 3
        and updater.method.bn.avg_var.tolist() == [7] * 3
        and str(found['log']) == '[1]'
        and not any(name.startswith('rank') for name in found)
        and seen > 0
    )
    # The first has the snapshot: of the others none may have a copy of the labels.
    (total,), (all_right,) = ranks.total(used if ranks.rank else 0), ranks.total(right)
    if ranks.rank == 0:
        said = {'bytes': total, 'right': all_right, 'labels': updater.method.labels.y.nbytes}
        sys.stdout.write(json.dumps(said) + '\n')
