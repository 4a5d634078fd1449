"""Local intrinsic dimensionality: how many dimensions a set of points has around each point."""

from chainer import backend

#: Keeps the logarithm finite if two points coincide, as in D2L's public code.
EPS = 1e-8


def local_intrinsic_dimensionality(points, k):
    """Estimates the local intrinsic dimensionality from distances to the nearest neighbours.

    ``LID(x) = -(1/k sum_{i=1..k} log(r_i / r_k))^-1``, the maximum-likelihood estimate, where
    ``r_i`` is the distance from ``x`` to its ``i``-th nearest neighbour among the other points.

    Args:
        points (array): Shape ``(n, D)``.
        k (int): Number of neighbours; at most ``n - 1`` are used.

    Returns:
        array: Shape ``(n,)``, float64; NaN for a point whose neighbours are all equally far, such
        as copies of it, because the estimate is then without bounds.

    Source: Ma et al., Dimensionality-Driven Learning with Noisy Labels, Eq. (4).
    """
    xp = backend.get_array_module(points)
    # In float64: the distance of close points is a small difference between large squares.
    points = points.astype('d')
    square = (points**2).sum(axis=1)
    distance = xp.sqrt(xp.maximum(square[:, None] + square - 2 * points @ points.T, 0))
    xp.fill_diagonal(distance, 0)
    # The first is the point itself, at distance 0.
    r = xp.sort(distance, axis=1)[:, 1 : k + 1]
    # The mean includes the k-th neighbour, with log 1 = 0, as in the equation.
    log = xp.log(r / xp.where(r[:, -1:] > 0, r[:, -1:], 1) + EPS)
    return xp.where(r[:, 0] < r[:, -1], -1 / log.mean(axis=1), xp.nan)
