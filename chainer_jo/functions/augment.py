"""Training batches, drawn on the device that trains."""

from chainer_jo import backends
from chainer_jo.backends import cudnn
from chainer_jo.datasets import augment as datasets_augment


def augment(images, mean, index, offsets, flips, pad):
    """Does what :func:`chainer_jo.datasets.augment.augment` does; in one kernel on a GPU."""
    by_kernel = backends.name_for(mean) == 'cudnn'
    function = cudnn.augment if by_kernel else datasets_augment.augment
    return function(images, mean, index, offsets, flips, pad)
