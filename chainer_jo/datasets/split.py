"""The training and the validation part of the labelled examples."""

import numpy as np

from chainer_jo.errors import ConfigError


def split(labels, n_validation, rng, n_train=None):
    """Splits the examples at random, with the same share of every class in both parts.

    The validation part does not depend on ``n_train``, so a run on fewer images is validated on
    the same ones.

    Args:
        labels (numpy.ndarray): True labels, ``(N,)``, integers from 0.
        n_validation (int): Size of the validation part: 5,000 of CIFAR-10's 50,000.
        rng (numpy.random.Generator): Every draw comes from here.
        n_train (int or None): Size of the training part; all that is left if ``None``.

    Returns:
        tuple of numpy.ndarray: Sorted indices of the training and of the validation part,
        ``int64``. Where the classes do not divide evenly, their numbers differ by one.

    Raises:
        ConfigError: There are not that many examples.

    Source: Sec. 4.1 of the paper ("retained 10 %"); stratified as in Tanaka's public code.
    """
    if n_train is None:
        n_train = len(labels) - n_validation
    if n_validation < 0 or n_train < 1 or n_train + n_validation > len(labels):
        raise ConfigError(
            'the split asks for a number of examples that is not there',
            seen=f'{n_train} to train and {n_validation} to validate, of {len(labels)}',
            fix=f'let the two add up to {len(labels)} or less, with at least 1 to train',
        )
    # Whole classes are shuffled before any is split, so no draw depends on the sizes asked for.
    orders = [rng.permutation(np.flatnonzero(labels == c)) for c in range(labels.max() + 1)]
    sizes = np.array([len(order) for order in orders])
    held = _shares(sizes, n_validation)
    kept = _shares(sizes - held, n_train)
    validation = [order[:v] for order, v in zip(orders, held, strict=True)]
    train = [order[v : v + k] for order, v, k in zip(orders, held, kept, strict=True)]
    # Sorted, as the order of training comes from the epoch tables alone.
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))


def _shares(sizes, total):
    """Divides ``total`` in proportion to ``sizes``; the largest remainders get one more."""
    shares, remainders = np.divmod(total * sizes, sizes.sum())
    # Stable: for equal remainders the lower class gets one more, on every machine.
    shares[np.argsort(-remainders, kind='stable')[: total - shares.sum()]] += 1
    return shares
