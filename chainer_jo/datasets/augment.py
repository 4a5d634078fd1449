"""Data augmentation on whole batches: gather by index, centre, crop and flip.

The random choices are drawn beforehand for a whole epoch (:func:`crops`, :func:`flips`,
:func:`mixing`). The functions that apply them take NumPy and CuPy arrays.
"""

import sys

import numpy as np


def evaluation_batch(images, mean, index):
    """Returns images as the net sees them in evaluation: scaled to ``[0, 1]`` and centred.

    Args:
        images (array): ``(N, C, H, W)``, ``uint8``.
        mean (array): ``(C, H, W)``, ``float32``.
        index (array or slice): Selects ``B`` images.

    Returns:
        array: ``(B, C, H, W)``, ``float32``.
    """
    x = images[index].astype(np.float32)
    # Multiplied, not divided by 255: the GPU kernels do so, and the last digits must agree.
    x *= 1 / 255
    x -= mean
    return x


def augment(images, mean, index, offsets, flips, pad):
    """Returns a training batch: centred, padded with 0, cropped back to size, and flipped.

    The mean is subtracted before padding, so the border has the mean colour.

    Args:
        images (array): ``(N, C, H, W)``, ``uint8``.
        mean (array): ``(C, H, W)``, ``float32``.
        index (array): ``(B,)``, integers in ``[0, N)``.
        offsets (array): Row and column of the crop's corner in the padded image, ``(B, 2)``,
            integers in ``[0, 2 * pad]``.
        flips (array): Which images to mirror left to right after the crop; ``(B,)``, ``bool``.
        pad (int): Width of the border on each side.

    Returns:
        array: ``(B, C, H, W)``, ``float32``.

    Source: Sec. 4.2 of the paper; order of the operations as in Tanaka's public code.
    """
    xp = _array_module(images)
    x = evaluation_batch(images, mean, index)
    B, C, H, W = x.shape
    padded = xp.zeros((B, C, H + 2 * pad, W + 2 * pad), np.float32)
    padded[:, :, pad : pad + H, pad : pad + W] = x
    # A view of all possible crops: pixels are copied only when one crop is chosen.
    windows = xp.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))
    x = windows[xp.arange(B), :, offsets[:, 0], offsets[:, 1]]
    # As in Tanaka's public code, the per-pixel mean is subtracted before the flip. A mirrored image
    # therefore has the mean of the opposite side subtracted.
    return xp.where(flips[:, None, None, None], x[..., ::-1], x)


def crops(rng, shape, margin):
    """Draws crop corners, uniform in ``[0, margin]``: ``(*shape, 2)``, ``int32``.

    Args:
        margin (int or tuple): Largest offset, in pixels: one number, or one for rows and one for
            columns. It is ``2 * pad`` for a padded image.
    """
    return rng.integers(np.add(margin, 1), size=(*shape, 2), dtype=np.int32)


def flips(rng, shape):
    """Draws which images to mirror, each with probability 1/2: ``shape``, ``bool``."""
    return rng.random(shape) < 0.5


def mixing(rng, steps, batch, a, per='batch'):
    """Draws the weights and partners of mix-up for ``steps`` batches.

    Args:
        rng (numpy.random.Generator): Draws all weights, then all partners.
        steps (int): Number of batches, ``S``.
        batch (int): Examples in each batch, ``B``.
        a (float): Parameter of Beta(a, a), from which weights are drawn; above 0. Table 1 of the
            paper calls it "lambda".
        per (str): ``'batch'``: one weight per batch; ``'sample'``: one weight per example.

    Returns:
        tuple of numpy.ndarray: ``lam``, ``(S,)`` or ``(S, B)``, ``float32`` in ``[0, 1]``, and
        ``partner``, ``(S, B)``, ``int32``, each row a permutation of ``range(B)``.
    """
    size = {'batch': steps, 'sample': (steps, batch)}[per]
    lam = rng.beta(a, a, size).astype(np.float32)
    # A permutation, not B independent draws: each image is a partner exactly once (D-12).
    rows = np.tile(np.arange(batch, dtype=np.int32), (steps, 1))
    return lam, rng.permuted(rows, axis=1)


def _array_module(x):
    # A CuPy array can exist only if CuPy is imported already; importing it here would take seconds.
    cupy = sys.modules.get('cupy')
    return cupy.get_array_module(x) if cupy else np
