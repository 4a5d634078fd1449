"""Writes real images as JPEGs in the layout of Clothing1M, which is available on request only.

    .venv/bin/python reproduce/clothing1m_stand_in.py DIR
    .venv/bin/python -m chainer_jo data verify clothing1m --data DIR --resize 36 --crop 32

The images are the embedded ones of Fashion-MNIST or, with --data, those of CIFAR-10. They have 10
classes. In four of these every second image is turned upside down, which gives 14 classes that
mirroring cannot confuse, of unequal size as in Clothing1M. About 38.5 % of the noisy labels are
wrong, as there, with errors like those of web shops: a class is mistaken for a few others, and not
equally often the other way round. A few files are damaged, grey, CMYK, rotated by EXIF, large, or
not JPEGs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from chainer_jo import datasets, store  # noqa: E402
from chainer_jo.datasets.clothing1m import CLASSES  # noqa: E402
from chainer_jo.datasets.clothing1m_layouts import KEY_LISTS, LABEL_LISTS  # noqa: E402
from chainer_jo.datasets.streams import rng  # noqa: E402

# Turned upside down, class TURNED[k] becomes class 10 + k: t-shirt, pullover, dress and coat; for
# CIFAR-10 automobile, deer, horse and truck, whose images have a clear top and bottom.
TURNED = {'fashion_mnist': (0, 2, 3, 4), 'cifar10': (1, 4, 7, 9)}
WRONG = 0.385
#: The classes that class c is mistaken for, the first most often; for Fashion-MNIST similar ones.
TAKEN_FOR = {
    0: (6, 3, 10), 1: (3, 4), 2: (4, 6, 11), 3: (1, 4, 12), 4: (2, 6, 13), 5: (7, 9), 6: (0, 2, 4),
    7: (5, 9), 8: (5,), 9: (7, 5), 10: (6, 0, 12), 11: (13, 2), 12: (3, 10), 13: (11, 4, 6),
}  # fmt: skip
SHARES = (0.65, 0.25, 0.10)
#: The share of wrong labels in a class, relative to the mean: some classes are easy to recognise.
HARDNESS = (1.2, 0.6, 1.3, 1.0, 1.1, 0.7, 1.6, 0.9, 0.4, 0.8, 1.2, 1.3, 1.0, 1.2)
LISTED_TWICE = 8  # Test images that are in the noisy list, too.
HUGE = (2400, 3200)


def fourteen(part, name):
    """Returns images ``(N, H, W, 3)``, uint8, and labels in 0 to 13 of a part of 10 classes."""
    images = np.repeat(part.images, 3 // part.images.shape[1], axis=1).transpose(0, 2, 3, 1).copy()
    labels = part.true_labels.copy()
    for k, c in enumerate(TURNED[name]):
        every_second = np.flatnonzero(part.true_labels == c)[1::2]
        images[every_second] = images[every_second, ::-1]
        labels[every_second] = 10 + k
    return images, labels


def confusion(labels):
    """Returns ``T[i, j] = P(noisy = j | true = i)``, ``(14, 14)``, for a given mix of classes."""
    wrong = np.array(HARDNESS)
    wrong *= WRONG / wrong[labels].mean()
    T = np.diag(1 - wrong)
    for c, others in TAKEN_FOR.items():
        shares = np.array(SHARES[: len(others)])
        T[c, list(others)] = wrong[c] * shares / shares.sum()
    return T


def noisy(labels, T, random):
    """Draws a noisy label for each true one."""
    return (random.random(len(labels))[:, None] > T[labels].cumsum(axis=1)).sum(axis=1)


def photograph(image, random, sides):
    """Returns an image in a random size, on a tinted background, as a shop would show it."""
    height, width = random.integers(sides[0], sides[1] + 1, 2)
    tint = random.uniform(0.7, 1.0, 3)
    pixels = (image * tint).astype(np.uint8)
    return Image.fromarray(pixels).resize((int(width), int(height)), Image.Resampling.BICUBIC)


def key(number, random):
    """Returns a key like those of Clothing1M, with a comma in the name."""
    first, second = random.integers(1_000_000_000, 4_000_000_000, 2)
    return f'images/{number % 10}/{number // 10 % 100:02d}/{first},{second}{number:06d}.jpg'


def save_odd(kind, image, path):
    """Writes an image as one of the odd or damaged files that real collections contain."""
    if kind == 'grey':
        image.convert('L').save(path, 'JPEG', quality=90)
    elif kind == 'CMYK':
        image.convert('CMYK').save(path, 'JPEG', quality=90)
    elif kind == 'rotated':
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, 'JPEG', quality=90, exif=exif)
    elif kind == 'PNG':
        image.save(path, 'PNG')
    elif kind == 'palette':
        image.quantize(64).save(path, 'PNG')
    elif kind == 'huge':
        image.resize(HUGE[::-1]).save(path, 'JPEG', quality=60)
    elif kind == 'truncated':
        image.save(path, 'JPEG', quality=90)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    elif kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'text':
        path.write_bytes(b'<html>404 Not Found</html>\n')
    # A 'missing' file is only in the lists.


ODD = ('grey', 'CMYK', 'rotated', 'PNG', 'palette', 'huge')
DAMAGED = ('truncated', 'empty', 'text', 'missing')


def write_images(folder, images, keys, sides, odd, random):
    """Writes the files; ``odd`` maps some positions to a kind of :func:`save_odd`."""
    for place, (image, name) in enumerate(zip(images, keys, strict=True)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made = photograph(image, random, sides)
        if place in odd:
            save_odd(odd[place], made, path)
        else:
            made.save(path, 'JPEG', quality=int(random.integers(75, 96)))


def make(folder, name, dataset, counts, sides=(48, 96), seed=0):
    """Writes a stand-in.

    Args:
        folder (pathlib.Path): Must be empty or absent.
        name (str): ``'fashion_mnist'`` or ``'cifar10'``.
        dataset (Dataset): That data set.
        counts (tuple): Numbers of images in the noisy, clean validation and clean test lists.
        sides (tuple): Shortest and longest side of an image, in pixels.
        seed (int): Determines every random choice.

    Returns:
        float: The share of wrong labels in the noisy list.
    """
    random = rng(seed, 'stand-in')
    n_train, n_validation, n_test = counts
    images, labels = fourteen(dataset.train, name)
    test_images, test_labels = fourteen(dataset.test, name)
    order = random.permutation(len(images))[: n_train + n_validation]
    test_order = random.permutation(len(test_images))[:n_test]
    images = np.concatenate([images[order], test_images[test_order]])
    true = np.concatenate([labels[order], test_labels[test_order]])
    keys = [key(number, random) for number in range(len(true))]
    given = noisy(true, confusion(true[:n_train]), random)
    kinds = ODD + DAMAGED
    places = random.choice(n_train, len(kinds), replace=False)
    odd = dict(zip(places.tolist(), kinds, strict=True))
    write_images(folder, images, keys, sides, odd, random)
    write_lists(folder, keys, true, given, counts, random)
    return float((given[:n_train] != true[:n_train]).mean())


def write_lists(folder, keys, true, given, counts, random):
    """Writes the lists of keys and labels; noisy and clean ones overlap, as in Clothing1M."""
    n_train, n_validation, n_test = counts
    parts = {
        'train': [*range(n_train), *range(len(keys) - min(n_test, LISTED_TWICE), len(keys))],
        'validation': range(n_train, n_train + n_validation),
        'test': range(n_train + n_validation, len(keys)),
    }
    for part, places in parts.items():
        lines = [keys[place] for place in places]
        store.write_text(folder / KEY_LISTS[part], '\n'.join(lines) + '\n')
    # Half of the clean images have a noisy label, too, and some of the noisy ones a clean label.
    clean = [*range(0, n_train, 20), *range(n_train, len(keys))]
    also = [*parts['train'], *range(n_train, len(keys), 2)]
    for name, labels, places in (('noisy', given, also), ('clean', true, clean)):
        lines = [f'{keys[place]} {labels[place]}' for place in dict.fromkeys(places)]
        store.write_text(folder / LABEL_LISTS[name], '\n'.join(lines) + '\n')
    cleaned = [keys[place] for place in range(0, n_train, 20)]
    store.write_text(folder / 'clean_train_key_list.txt', '\n'.join(cleaned) + '\n')
    store.write_text(folder / 'category_names_eng.txt', '\n'.join(CLASSES) + '\n')


def main():
    parser = argparse.ArgumentParser(description='Write a stand-in for Clothing1M.')
    parser.add_argument('folder', type=Path, help='an empty folder, or a new one')
    parser.add_argument('--data', help='CIFAR-10; without it the embedded images')
    parser.add_argument('--train', type=int, default=4800, help='noisy images (default: 4800)')
    parser.add_argument('--validation', type=int, default=800, help='clean images (default: 800)')
    parser.add_argument('--test', type=int, default=1600, help='clean images (default: 1600)')
    parser.add_argument(
        '--sides', type=int, nargs=2, default=(48, 96), help='least and largest side in pixels'
    )
    parser.add_argument('--seed', type=int, default=0)
    given = parser.parse_args()
    if given.folder.exists() and any(given.folder.iterdir()):
        parser.error(f'{given.folder} is not empty')
    name = 'cifar10' if given.data else 'fashion_mnist'
    dataset = datasets.load(name, given.data)
    counts = (given.train, given.validation, given.test)
    if given.train + given.validation > len(dataset.train) or given.test > len(dataset.test):
        parser.error(f'{name} has {len(dataset.train):,} and {len(dataset.test):,} images')
    if given.train < 100 or min(counts) < 14:
        parser.error('at least 100 noisy images and 14 of each clean part')
    wrong = make(given.folder, name, dataset, counts, tuple(given.sides), given.seed)
    print(f'{given.folder}: {sum(counts):,} images, {100 * wrong:.1f} % of noisy labels wrong')


if __name__ == '__main__':
    main()
