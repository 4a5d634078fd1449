"""Running sums of loss, images and hits over an epoch."""

from chainer_jo import backends


def add(sums, loss, log_f, y):
    """Adds a mini-batch to the sums, in one kernel on a GPU.

    Args:
        sums (array): ``(3,)``, float64, changed in place: loss times images, images, and hits,
            which are images whose most likely class is that of their label.
        loss (Variable): The mean over the batch, ``()``.
        log_f (Variable): ``(B, C)``, float32.
        y (array): Labels, ``(B, C)``, float32.
    """
    if add_to_sums := backends.op('add_to_sums', loss, log_f, y):
        add_to_sums(sums, loss.array, log_f.array, y)
        return
    # A soft label counts as its most likely class; argmax takes the first one of a tie.
    hits = log_f.array.argmax(axis=1) == y.argmax(axis=1)
    sums[0] += loss.array * len(hits)
    sums[1] += len(hits)
    sums[2] += hits.sum()
