"""How many dimensions a set of points seems to have around each of them."""

from chainer import backend

#: Keeps the logarithm finite where two points coincide, as the public code of D2L does.
EPS = 1e-8


def local_intrinsic_dimensionality(points, k):
    """Estimates the local intrinsic dimensionality from distances to the nearest neighbours.

    ``LID(x) = -(1/k sum_{i=1..k} log(r_i / r_k))^-1``, the maximum-likelihood estimate, where
    ``r_i`` is the distance from ``x`` to its ``i``-th nearest neighbour among the other points.

    Args:
        points (array): Shape ``(n, D)``.
        k (int): Neighbours; all ``n - 1`` where there are fewer.

    Returns:
        array: Shape ``(n,)``, float64.

    Source: Ma et al., Dimensionality-Driven Learning with Noisy Labels, Eq. (4).
    """
    xp = backend.get_array_module(points)
    # The distance of near points is a small difference of large squares.
    points = points.astype('d')
    square = (points**2).sum(axis=1)
    distance = xp.sqrt(xp.maximum(square[:, None] + square - 2 * points @ points.T, 0))
    xp.fill_diagonal(distance, 0)
    # The nearest of all is the point itself.
    r = xp.sort(distance, axis=1)[:, 1 : k + 1]
    # The k-th neighbour is in the mean with log 1 = 0, as in the equation.
    return -1 / xp.log(r / r[:, -1:] + EPS).mean(axis=1)
