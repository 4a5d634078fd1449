"""The form in which every data set is loaded: its parts, its classes and a digest."""

import os
from dataclasses import dataclass

from chainer_jo import store
from chainer_jo.datasets.source import ArrayImages, LabelledImages

#: Environment variable that names the place of a data set for which there is no ``--data``.
VARIABLE = 'CHAINER_JO_DATA'


def named_place(data):
    """Returns ``data``, else the place that :data:`VARIABLE` names, else ``None``."""
    return data if data is not None else os.environ.get(VARIABLE) or None


@dataclass(frozen=True, eq=False)
class Dataset:
    """The parts of one data set, ready to split.

    Attributes:
        name (str): ``'cifar10'``, ``'fashion_mnist'``, ...
        variant (str): ``'official'``, ``'official without <n> images'``, ``'embedded subset'``, or
            ``'variant <8 hex digits>'`` for data that differ from the published ones. Results carry
            this label.
        digest (str): SHA-256 (64 hex digits) of the contents of all parts.
        classes (tuple[str]): Names of the ``C`` classes.
        train (LabelledImages): Training images. Part of them is held out for validation unless
            there is a ``validation`` part.
        test (LabelledImages or None): The test set, if there is one.
        validation (LabelledImages or None): The data set's own validation images; ``None`` to hold
            out a part of ``train``.
        flips (dict or None): The map of asymmetric noise: true class -> noisy class.
        mean (numpy.ndarray or None): Mean of the images, float32 in ``[0, 1]``, of a shape that
            broadcasts to an image; ``None`` to use the mean of the training split (D-25).
        known (numpy.ndarray or None): Which labels of ``train`` are known to be right, ``(N,)``,
            bool. Training does not change them. ``None`` if none is known.
    """

    name: str
    variant: str
    digest: str
    classes: tuple
    train: LabelledImages
    test: LabelledImages | None = None
    validation: LabelledImages | None = None
    flips: dict | None = None
    mean: object = None
    known: object = None

    @classmethod
    def of_arrays(cls, name, variant, arrays, classes, flips=None):
        """Makes a data set whose labels are all true from arrays in memory.

        Args:
            arrays (sequence): Training images (uint8) and labels (int32), then those of the test
                set.
            variant (str or None): ``None`` if the data are not the published ones; the variant is
                then named after their digest.
        """
        digest = store.digest(*arrays)
        x_train, t_train, x_test, t_test = arrays
        return cls(
            name,
            # Marks results on other data, so that no table mixes them with the published data's.
            variant or f'variant {digest[:8]}',
            digest,
            tuple(classes),
            # The same array as given and as true labels: a trial draws its noise into a copy.
            ArrayImages(x_train, t_train, t_train),
            ArrayImages(x_test, t_test, t_test),
            flips=flips,
        )
