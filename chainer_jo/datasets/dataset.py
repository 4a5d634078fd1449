"""What every data set becomes: images to train on, perhaps others to measure on, and a digest."""

from dataclasses import dataclass

from chainer_jo import store
from chainer_jo.datasets.source import ArrayImages, LabelledImages


@dataclass(frozen=True, eq=False)
class Dataset:
    """The parts of one data set, ready to split.

    Attributes:
        name (str): ``'cifar10'``, ``'fashion_mnist'``, ...
        variant (str): ``'official'``, ``'embedded subset'``, or ``'variant <8 hex digits>'`` for
            data that are not the published ones; results made from it carry this label.
        digest (str): SHA-256 (64 hex digits) of all that is in the parts.
        classes (tuple[str]): Names of the ``C`` classes.
        train (LabelledImages): Images to train on, and to validate on unless there is
            ``validation``.
        test (LabelledImages or None): The test set, if there is one.
        validation (LabelledImages or None): Images that come with the data set for validation;
            ``None`` where a part of ``train`` is held out.
        flips (dict or None): True class to the class it is taken for: the map of asymmetric noise.
        mean (numpy.ndarray or None): Of the images, in ``[0, 1]``, float32, of a shape that
            broadcasts to theirs; ``None`` for that of the training split (D-25).
        known (numpy.ndarray or None): Which labels of ``train`` somebody knows to be right,
            ``(N,)``, bool: training leaves them as they are. ``None`` where there are none.
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
        """Makes a data set with true labels of images (uint8) and labels (int32) in memory.

        Args:
            arrays (sequence): Images and labels to train on, then those of the test set.
            variant (str or None): ``None`` where the data are not the published ones, and are
                named after their digest.
        """
        digest = store.digest(*arrays)
        x_train, t_train, x_test, t_test = arrays
        return cls(
            name,
            # So that no table can mistake other data for the published ones.
            variant or f'variant {digest[:8]}',
            digest,
            tuple(classes),
            # One array for both: these labels are right, and noise may be drawn into them.
            ArrayImages(x_train, t_train, t_train),
            ArrayImages(x_test, t_test, t_test),
            flips=flips,
        )
