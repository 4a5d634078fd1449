"""Mix-up of one batch, for use without a trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chainer.backend import get_device_from_array

from chainer_jo.api import checks
from chainer_jo.datasets import augment
from chainer_jo.errors import ConfigError
from chainer_jo.functions import losses


@dataclass(eq=False)
class Mixed:
    """A mixed batch and how it was mixed; the arrays are on the device of the images.

    Attributes:
        x: ``lam x_i + (1 - lam) x_j``, the shape of the images, float32.
        y: ``lam y_i + (1 - lam) y_j``, ``(B, C)``, float32.
        partner: ``j`` for each ``i``, ``(B,)``, int32 in ``[0, B)``, a permutation.
        lam: ``()`` or ``(B,)``, float32 in ``[0, 1]``.
    """

    x: Any
    y: Any
    partner: Any
    lam: Any


def mix_up(x: Any, y: Any, a: float = 1.0, *, per: str = 'batch', rng: Any = 0) -> Mixed:
    """Mixes each image and its label with those of another image of the batch, Eq. (8).

    Args:
        x: Images, ``(B, ...)``, float32, a NumPy or CuPy array.
        y: Labels, ``(B, C)``, float32, rows that sum to 1; see :func:`chainer_jo.one_hot`.
        a: ``lam`` is drawn from Beta(a, a). This is the row "lambda" of Table 1: 0.5 to 8 for
            symmetric noise of 10 % to 90 %.
        per: ``'batch'`` draws one ``lam`` for the whole batch (D-11), ``'sample'`` one per image.
        rng: A NumPy random generator, or a seed for one.

    Raises:
        ConfigError: Shapes, dtypes or values are not as described.

    >>> import chainer_jo, numpy as np
    >>> x, y = np.ones((4, 3, 32, 32), np.float32), chainer_jo.one_hot([0, 1, 2, 3], 4)
    >>> mixed = chainer_jo.mix_up(x, y, a=2.0, rng=0)
    >>> np.allclose(mixed.y, mixed.lam * y + (1 - mixed.lam) * y[mixed.partner])
    True
    """
    y, rng = checks.rows(y, 'y'), checks.generator(rng)
    if getattr(x, 'dtype', None) != 'f' or x.ndim < 2 or len(x) != len(y):
        seen = f'x {getattr(x, "shape", x)}, {getattr(x, "dtype", None)}; y {y.shape}'
        fix = 'scale uint8 images: (x / 255).astype("f")'
        raise ConfigError('x must be one float32 image per label', seen=seen, fix=fix)
    if per not in ('batch', 'sample'):
        raise ConfigError('there is no such mode', seen=f'per={per!r}', fix="'batch' or 'sample'")
    lam, partner = augment.mixing(rng, 1, len(y), checks.positive(a, 'a'), per)
    # Drawn on the host, like all random numbers of this package, so that a GPU mixes the same way.
    lam, partner = get_device_from_array(x).send((lam[0, ...], partner[0]))
    return Mixed(losses.mix_up(x, partner, lam), losses.mix_up(y, partner, lam), partner, lam)
