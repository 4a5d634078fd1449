"""Random streams: every draw is a function of (seed, purpose, epoch) and is made on the host.

A resumed run recomputes its tables instead of restoring generator states. Adding a purpose does not
change the draws of any other purpose.
"""

import zlib

import numpy as np

from chainer_jo.errors import ConfigError


def rng(seed, purpose, epoch=0):
    """Returns the random generator of one purpose in one epoch.

    Args:
        seed (int): The trial's seed, 0 or more.
        purpose (str): What is drawn, such as ``'order'`` or ``'noise'``.
        epoch (int): 0 or more.

    Returns:
        numpy.random.Generator: The same stream on every machine.
    """
    # NumPy mixes the three numbers. Their sum would give seed 1, epoch 0 and seed 0, epoch 1 the
    # same stream. crc32 because Python's hash() of a string differs between processes.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), epoch])


def batches(seed, purpose, epoch, n, batch_size):
    """Draws the order in which one epoch visits the examples.

    All batches are full. As with ``chainer.iterators.SerialIterator(repeat=True)``, the last batch
    of an epoch also holds the first examples of the next, so the number of batches may differ by
    one between epochs (D-35). Unlike Chainer's, the order is a function of the epoch: pass ``k``
    over the data set follows the permutation of ``rng(seed, purpose, k)``.

    Args:
        seed (int): The trial's seed.
        purpose (str): The purpose of the draw.
        epoch (int): Counted from 0.
        n (int): Number of examples, at least ``batch_size``.
        batch_size (int): Examples in a batch, ``B``.

    Returns:
        tuple of numpy.ndarray: ``index`` and ``turn``, each ``(S, B)``, ``int32``, for ``S``
        batches. ``index`` is in ``[0, n)``. ``turn`` is the epoch to which an example belongs:
        ``epoch``, or ``epoch + 1`` at the end of the last batch.

    Raises:
        ConfigError: There are fewer examples than a batch holds.
    """
    if n < batch_size:
        raise ConfigError(
            'a batch is larger than the training split',
            seen=f'{n} examples, batches of {batch_size}',
            fix=f'set common.batch_size to at most {n}',
        )
    # Rounded up: the batch in which an epoch ends is the last batch of that epoch.
    first, last = (-(-k * n // batch_size) for k in (epoch, epoch + 1))
    position = np.arange(first * batch_size, last * batch_size) - epoch * n
    # Two epochs: the last batch of this one holds the first images of the next (D-35).
    orders = np.concatenate([rng(seed, purpose, epoch + k).permutation(n) for k in (0, 1)])
    shape = (last - first, batch_size)
    index = orders[position].astype(np.int32).reshape(shape)
    return index, (epoch + position // n).astype(np.int32).reshape(shape)


def balanced_batches(seed, purpose, epoch, labels, count, batch_size):
    """Draws an epoch of ``count`` batches with the same number of examples of every class.

    Where the classes do not divide evenly, their counts differ by one. A class with fewer examples
    than its share is repeated, in a new order each time. Classes without examples are left out.

    Args:
        seed, purpose, epoch, batch_size: As for :func:`batches`.
        labels (numpy.ndarray): ``(N,)``, integers from 0.
        count (int): Number of batches, ``S``.

    Returns:
        tuple of numpy.ndarray: As from :func:`batches`; ``turn`` is ``epoch`` throughout.
    """
    generator, total = rng(seed, purpose, epoch), count * batch_size
    classes = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    shares = np.full(len(classes), total // len(classes))
    # Chosen at random: otherwise the same classes would have one more in every epoch.
    shares[generator.permutation(len(classes))[: total % len(classes)]] += 1
    drawn = [
        np.concatenate([generator.permutation(own) for _ in range(-(-share // len(own)))])[:share]
        for own, share in zip(classes, shares, strict=True)
        if share
    ]
    index = generator.permutation(np.concatenate(drawn)).astype(np.int32)
    shape = (count, batch_size)
    return index.reshape(shape), np.full(shape, epoch, np.int32)
