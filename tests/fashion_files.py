"""The embedded Fashion-MNIST as image files, and variants of it that know less."""

from dataclasses import replace

from PIL import Image

from chainer_jo import datasets
from chainer_jo.datasets.image_files import ImageFiles
from chainer_jo.datasets.source import ArrayImages


def write(folder, count=None):
    """Writes the first images of both parts as PNG files and returns the streamed Dataset."""
    resident = datasets.load('fashion_mnist')
    parts = {name: _write_part(folder / name, getattr(resident, name), count) for name in PARTS}
    return replace(resident, **parts)


PARTS = ('train', 'test')


def _write_part(folder, part, count):
    folder.mkdir()
    images, labels = part.images[:count], part.labels[:count]
    paths = [folder / f'{i:05d}.png' for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0]).save(path)
    return ImageFiles(paths, labels, (28, 28), channels=1, true_labels=labels)


def first(count):
    """The first images of both parts as a resident Dataset."""
    dataset = datasets.load('fashion_mnist')
    parts = {name: getattr(dataset, name) for name in PARTS}
    arrays = {name: (part.images[:count], part.labels[:count]) for name, part in parts.items()}
    return replace(dataset, **{n: ArrayImages(x, t, t) for n, (x, t) in arrays.items()})


def unlabelled():
    """The data set as somebody's own: labels that may be wrong, and no test set."""
    dataset = datasets.load('fashion_mnist')
    own = ArrayImages(dataset.train.images, dataset.train.labels)
    return replace(dataset, train=own, test=None)
