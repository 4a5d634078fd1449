"""The product of a batch with a small matrix of classes by classes."""

import chainer
import chainer.functions as F
import numpy as np


def product(y, M, transposed=False):
    """Returns ``y M`` or ``y M'``, a Variable ``(B, C)``.

    cuBLAS cannot be captured in a CUDA graph, so a matrix product is used for NumPy arrays only.

    Args:
        y (Variable or array): ``(B, C)``.
        M (Variable or array): ``(C, C)``.
        transposed (bool): Whether to multiply by ``M'``.
    """
    if type(chainer.as_array(M)) is np.ndarray:
        return F.matmul(y, M, transb=transposed)
    # A temporary array of B x C x C, which for ten classes is smaller than the batch's images.
    return F.sum(F.expand_dims(y, 1 if transposed else 2) * M, axis=2 if transposed else 1)
