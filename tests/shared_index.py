"""What one of several processes does to see how the index of Clothing1M is shared."""

import json
import sys

from shared_labels import memory

from chainer_jo import config
from chainer_jo.datasets import clothing1m
from chainer_jo.training import data, parallel


def main():
    """Loads an index and prepares a trial on it: INDEX."""
    ranks = parallel.join()
    trial = config.trial('cross_entropy', 'clothing1m', 'none', None, 0)
    before = memory()
    prepared = data.prepare(clothing1m.load(sys.argv[1]), trial)
    # All of it is looked at, as training does: every path and every label.
    train = prepared.train
    total = sum(len(train.source.paths.relative(i)) for i in range(len(train)))
    right = total > 0 and int(train.labels.sum()) > 0
    ranks.total(0)  # No rank is gone before the others have measured.
    (used,), (all_right,) = ranks.total(memory() - before), ranks.total(right)
    if ranks.rank == 0:
        said = {'bytes': used, 'right': all_right, 'images': len(train)}
        sys.stdout.write(json.dumps(said) + '\n')
