"""What every data set becomes: plain arrays with a name and a digest."""

from dataclasses import dataclass

import numpy as np

from chainer_jo import store


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and true labels of one data set, ready to split. The arrays are read-only.

    Attributes:
        name (str): ``'cifar10'``, ``'fashion_mnist'``, ...
        variant (str): ``'official'``, ``'embedded subset'``, or ``'variant <8 hex digits>'`` for
            data that are not the published ones; results made from it carry this label.
        digest (str): SHA-256 (64 hex digits) over the four arrays.
        x_train (numpy.ndarray): ``(N, C, H, W)``, ``uint8``; training and validation images.
        t_train (numpy.ndarray): ``(N,)``, ``int32`` in ``[0, len(classes))``.
        x_test (numpy.ndarray): ``(M, C, H, W)``, ``uint8``.
        t_test (numpy.ndarray): ``(M,)``, ``int32``.
        classes (tuple[str]): Names of the classes.
    """

    name: str
    variant: str
    digest: str
    x_train: np.ndarray
    t_train: np.ndarray
    x_test: np.ndarray
    t_test: np.ndarray
    classes: tuple

    @classmethod
    def of_arrays(cls, name, variant, arrays, classes):
        """Makes a data set of ``x_train, t_train, x_test, t_test``.

        ``variant`` may be ``None``: the data are not the published ones, and are named after
        their digest.
        """
        for array in arrays:
            array.flags.writeable = False
        digest = store.digest(*arrays)
        return cls(name, variant or f'variant {digest[:8]}', digest, *arrays, tuple(classes))
