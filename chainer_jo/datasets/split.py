"""Splits the labelled examples into a training and a validation part."""

import numpy as np

from chainer_jo.errors import ConfigError


def validation_size(count):
    """Returns how many of ``count`` images to hold out for validation: a tenth, but at least one.

    Source: "we retained 10 % of the training data for validation", Sec. 4.1 of the paper.
    """
    return max(1, count // 10)


def split(labels, n_validation, rng, n_train=None):
    """Splits the examples at random, with the same share of every class in both parts.

    The validation part does not depend on ``n_train``, so a run on fewer training images has the
    same validation images.

    Args:
        labels (numpy.ndarray): True labels, ``(N,)``, integers from 0.
        n_validation (int): Size of the validation part: 5,000 of CIFAR-10's 50,000.
        rng (numpy.random.Generator): Every draw comes from here.
        n_train (int or None): Size of the training part; all other examples if ``None``.

    Returns:
        tuple of numpy.ndarray: Sorted indices of the training and of the validation part,
        ``int64``. Where the classes do not divide evenly, their counts differ by one.

    Raises:
        ConfigError: There are fewer examples than that.

    Source: Sec. 4.1 of the paper ("retained 10 %"); stratified as in Tanaka's public code.
    """
    if n_train is None:
        n_train = len(labels) - n_validation
    if n_validation < 0 or n_train < 1 or n_train + n_validation > len(labels):
        raise ConfigError(
            'the sizes of the split are impossible',
            seen=f'{n_train} to train and {n_validation} to validate, of {len(labels)}',
            fix='set common.train_images and common.validation_images to numbers that add up to at '
            f'most {len(labels)}, with at least 1 to train',
        )
    # All classes are shuffled before any is split, so that no draw depends on the sizes.
    orders = [rng.permutation(np.flatnonzero(labels == c)) for c in range(labels.max() + 1)]
    sizes = np.array([len(order) for order in orders])
    held = _shares(sizes, n_validation)
    kept = _shares(sizes - held, n_train)
    validation = [order[:v] for order, v in zip(orders, held, strict=True)]
    train = [order[v : v + k] for order, v, k in zip(orders, held, kept, strict=True)]
    # Sorted: the order in which training visits images comes from the epoch tables alone.
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))


def _shares(sizes, total):
    """Divides ``total`` in proportion to ``sizes``; the largest remainders get one more."""
    shares, remainders = np.divmod(total * sizes, sizes.sum())
    # A stable sort gives the extra one to the lower class on a tie, on every machine.
    shares[np.argsort(-remainders, kind='stable')[: total - shares.sum()]] += 1
    return shares
