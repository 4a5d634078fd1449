"""How fast a streamed set is read, beside Pillow's bare decoding of the same files."""

import datetime
import time
from statistics import median

import numpy as np
from PIL import Image

from chainer_jo.benchmark import compare, machine, page
from chainer_jo.datasets import augment
from chainer_jo.datasets.clothing1m import CROP, SIZE
from chainer_jo.datasets.decode import decode
from chainer_jo.datasets.image_files import ImageFiles
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError, DataError
from chainer_jo.training.machine import cores
from chainer_jo.training.read_ahead import read_ahead

SCHEMA = 1
FILES, BATCH = 1000, 32
ENDINGS = ('.jpg', '.jpeg')
COLUMNS = ('what', 'images/s', 'share', 'turns')


def run(folder, rounds, out, say):
    """Measures both in turns, and writes ``<out>/decoding.json`` and ``decoding.md``.

    Both read the same files with a thread per core, in batches of 32.

    Args:
        folder (pathlib.Path): JPEG files, of which the first 1,000 are taken.
        rounds (int): Turns of each.
        out (pathlib.Path): Folder of the results.
        say (callable): Called with lines of progress.

    Returns:
        dict: The content of ``decoding.json``; ``rows`` has one entry for each way of reading, and
        ``share`` that of the bare rate.

    Raises:
        ConfigError: There is no JPEG file in the folder.
    """
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in ENDINGS)
    # Read once before any turn: damaged files are left out, and the others are in memory then.
    paths = [path for path in found[:FILES] if _is_readable(path)]
    if not paths:
        raise ConfigError(
            'there is nothing to decode',
            seen=f'no .jpg file that can be read in {folder}',
            fix='name a folder of photographs',
        )
    started = datetime.datetime.now(datetime.UTC)
    described, sides = machine.describe(), [_sides(path) for path in paths]
    ways = {
        'Pillow, decoded and nothing else': _bare(paths),
        'decoded, resized and cropped, as in training': _read(paths),
    }
    seconds = {name: [] for name in ways}
    for i in range(rounds):
        say(f'round {i + 1} of {rounds}')
        for name, once in ways.items():
            start = time.perf_counter()
            once()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: len(paths) / median(times) for name, times in seconds.items()}
    bare = next(iter(rates.values()))
    report = {
        'schema': SCHEMA,
        'date': started.isoformat(timespec='seconds'),
        'device': 'cpu',
        'machine': described,
        'files': len(paths),
        'mean_sides': np.mean(sides, axis=0).round(1).tolist(),
        'bytes': sum(path.stat().st_size for path in paths),
        'threads': cores(),
        'pillow': Image.__version__,
        'rows': [
            {'what': name, 'images_per_second': rate, 'share': rate / bare, 'turns': rounds}
            for name, rate in rates.items()
        ],
    }
    compare.write(report, to_markdown(report), out, 'decoding')
    return report


def _is_readable(path):
    try:
        decode(path, 3, (SIZE, SIZE))
    except DataError:
        return False
    return True


def _sides(path):
    with Image.open(path) as image:
        return image.size


def _bare(paths):
    groups = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]

    def decode(group):
        for path in group:
            with Image.open(path) as image:
                image.load()

    return lambda: _exhaust(read_ahead(decode, groups))


def _read(paths):
    source = ImageFiles([str(path) for path in paths], None, (SIZE, SIZE), (CROP, CROP))
    offsets = augment.crops(rng(0, 'benchmark/crop'), (len(paths),), source.margin)
    places = np.arange(len(paths))
    groups = [slice(start, start + BATCH) for start in range(0, len(paths), BATCH)]
    return lambda: _exhaust(
        read_ahead(lambda group: source.read(places[group], offsets[group]), groups)
    )


def _exhaust(generator):
    for _ in generator:
        pass


def to_markdown(report):
    """Returns the page of what :func:`run` returns."""
    width, height = report['mean_sides']
    size = report['bytes'] / report['files'] / 1000
    rows = (
        (row['what'], f'{row["images_per_second"]:.0f}', f'{row["share"]:.2f}', str(row['turns']))
        for row in report['rows']
    )
    lines = [
        '# Reading images from files',
        '',
        page.place(report),
        '',
        f'{report["files"]:,} JPEG files of {width:.0f} x {height:.0f} pixels and {size:.0f} kB on '
        f'average, in batches of {BATCH}, {report["threads"]} threads; resized to {SIZE} x {SIZE}, '
        f'cropped to {CROP} x {CROP}. Both took turns. Medians.',
        '',
        *page.table(COLUMNS, rows, words=1),
        '',
        f'- Pillow {report["pillow"]}',
    ]
    return '\n'.join(lines) + '\n'
