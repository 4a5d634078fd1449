"""The label sets that are the columns of a table: those of CIFAR-10N, which are in one file."""

import os
from pathlib import Path

from chainer_jo import datasets, paper, store
from chainer_jo.datasets import label_files
from chainer_jo.datasets.dataset import named_place
from chainer_jo.errors import ConfigError, DataError

NAME = 'CIFAR-10_human.pt'


def read(table, preset, labels, data):
    """Reads the label sets of a table.

    Args:
        table (str), preset (str): Names.
        labels (str): ``FILE``, or ``FILE:SET`` for one of the sets; ``None`` to look for
            ``CIFAR-10_human.pt`` in the folder of the data.
        data (str): Path of the data set; ``None`` as for :func:`chainer_jo.datasets.load`.

    Returns:
        dict: ``{noise: (digest, place)}``, which identifies the labels of each set's trials;
        ``None`` for a table without label sets.

    Raises:
        ConfigError: The table takes no labels, or has no such set.
        DataError: The file or the data are missing, or the file does not have these labels.
    """
    grid = paper.grid(table, preset)
    names = paper.label_sets(grid)
    if not names:
        if labels:
            raise ConfigError(
                f'{table} takes no labels: it draws its noise',
                seen=f'--labels {labels}',
                fix='leave out --labels',
            )
        return None
    path, wanted = _split(labels, names) if labels else (_beside(data), names)
    dataset = datasets.load(grid['dataset'], data)
    count, classes = len(dataset.train), dataset.classes
    places = {f'file:{name}': f'{path}:{name}' for name in wanted}
    return {
        noise: (store.digest(label_files.read_labels(place, count, classes).labels), place)
        for noise, place in places.items()
    }


def _split(labels, names):
    path, _, name = labels.rpartition(':')
    if name in names:
        return path, [name]
    # A colon may also be part of the file's name.
    if path and not os.path.exists(labels) and os.path.exists(path):
        raise paper.unknown('set of labels', name, names)
    return labels, names


def _beside(data):
    place = Path(named_place(data) or '.').expanduser()
    folder = place if os.path.isdir(place) else place.parent
    if not os.path.exists(folder / NAME):
        raise DataError(
            'the human labels of CIFAR-10 (CIFAR-10N) are missing',
            seen=f'no {NAME} in {folder}',
            fix='get CIFAR-10N from its authors and name the file with --labels',
        )
    return folder / NAME
