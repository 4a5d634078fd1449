"""What is summed up over the steps of an epoch."""

from chainer_jo import backends
from chainer_jo.backends import cudnn


def add(sums, loss, log_f, y):
    """Adds a mini-batch, on a GPU in one kernel.

    Args:
        sums (array): ``(3,)``, float64, changed in place: loss times images, images, and hits,
            images whose most likely class is that of their label.
        loss (Variable): The mean over the batch, ``()``.
        log_f (Variable): ``(B, C)``, float32.
        y (array): Labels, ``(B, C)``, float32.
    """
    if backends.name_for(loss, log_f, y) == 'cudnn':
        return cudnn.add_to_sums(sums, loss.array, log_f.array, y)
    hits = log_f.array.argmax(axis=1) == y.argmax(axis=1)
    sums[0] += loss.array * len(hits)
    sums[1] += len(hits)
    sums[2] += hits.sum()
