"""Estimates the transition matrix from the outputs of a net trained on noisy labels."""

from chainer import backend


def estimate_transition(f, drop, share):
    """Returns an estimate of ``T[i, j] = P(noisy = j | true = i)``, ``(C, C)``, rows sum to 1.

    The net has learned ``P(noisy | x)``. At an anchor ``x_i``, an image that certainly shows class
    ``i``, this is row ``i`` of ``T``: ``T_ij = f_j(x_i)``. The anchor of class ``i`` is the image
    with the largest ``f_i`` after a share of the images with the largest ``f_i`` has been dropped
    as outliers.

    Args:
        f (array): Outputs for all training images, ``(N, C)``, rows sum to 1.
        drop (float): Share of images dropped as outliers for each class, in ``[0, 1)``; at most two
            thirds of a class's own share.
        share (array): Share of each class among the given labels, ``(C,)``. A class without any has
            no anchor, and its row is that of the identity.

    Source: Patrini et al., CVPR 2017, Sec. 4.1; the 97th percentile as in their public code.
    """
    xp = backend.get_array_module(f)
    share = xp.asarray(share, 'd')
    # A class that is smaller than `drop` would have no image left. Rounded down, because the limit
    # below drops every image that a share has begun.
    drop = xp.minimum(drop, xp.floor(2 / 3 * share * len(f)) / len(f))
    limits = [xp.percentile(f[:, i], 100 * (1 - float(drop[i]))) for i in range(len(share))]
    # The largest value is at least its percentile even if nothing is dropped.
    outlier = (f >= xp.stack(limits)) & (drop > 0)
    # One image per class. Two classes may share one: nothing here knows the true classes.
    anchor = xp.where(outlier, 0, f).argmax(axis=0)
    T = xp.where(share[:, None] > 0, f[anchor], xp.eye(len(share), dtype=f.dtype))
    # Outputs in float32 sum to 1 up to rounding only.
    return T / T.sum(axis=1, keepdims=True)
