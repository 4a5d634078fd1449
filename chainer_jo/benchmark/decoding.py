"""Measures how fast a streamed data set is read, compared with plain decoding by Pillow."""

import time
from functools import partial
from statistics import median

import numpy as np
from PIL import Image

from chainer_jo.benchmark import compare, machine, overlap, page
from chainer_jo.datasets import augment, decode, fast_decode
from chainer_jo.datasets.clothing1m import CROP, DECODERS, SIZE
from chainer_jo.datasets.image_files import ImageFiles
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError, DataError
from chainer_jo.training.machine import cores
from chainer_jo.training.read_ahead import read_ahead

SCHEMA = 2
FILES, BATCH = 1000, overlap.BATCH
# A thousand decoded photographs would take some gigabytes of memory.
RESIZED_FILES = 128
ENDINGS = ('.jpg', '.jpeg')
COLUMNS = ('what', 'images/s', 'share of the bare rate', 'turns')
EPOCH_COLUMNS = ('step', 'step alone, s', 'reading alone, s', 'epoch, s a batch', 'ratio')
BARE, RESIZE = 'Pillow, decoded and nothing else', 'Pillow, resized and cropped, from memory'
READ = {name: f'decoded, resized and cropped, --decoder {name}' for name in DECODERS}


def run(folder, device, rounds, out, say):
    """Measures all ways of reading in turns; writes ``<out>/decoding.json`` and ``decoding.md``.

    They read the same files with one thread per core, in batches of 32. Then an epoch is measured;
    see :func:`chainer_jo.benchmark.overlap.measure`.

    Args:
        folder (pathlib.Path): Folder of JPEG files; the first 1,000 are used.
        device (str): ``auto``, ``cpu`` or ``cuda:N``: the device of the net in the epoch.
        rounds (int): Number of turns of each.
        out (pathlib.Path): Folder of the results.
        say (callable): Called with lines of progress.

    Returns:
        dict: The content of ``decoding.json``. ``rows`` has one entry for each way of reading, with
        its ``share`` of the rate of plain decoding; ``epochs`` has one for each kind of step.
        ``resize_share`` is the share of Pillow's time that is resizing. ``difference`` says by how
        many of 255 levels the decoders differ, at most and on average; ``None`` if there is one.

    Raises:
        ConfigError: There are fewer than 64 readable JPEG files in the folder.
    """
    paths = _readable(folder)
    device = compare.choose(device)
    head, sides = machine.head(SCHEMA, device), [_sides(path) for path in paths]
    found = [name for name in DECODERS if name == 'pillow' or not fast_decode.missing()]
    sources = {name: _source(paths, name) for name in found}
    ways = {BARE: (_bare(paths), len(paths))}
    ways |= {READ[name]: (_read(source), len(paths)) for name, source in sources.items()}
    # Spread over all files, so that their sizes are typical.
    few = paths[:: -(-len(paths) // RESIZED_FILES)]
    ways[RESIZE] = _resized(few), len(few)
    rates = _rates(ways, rounds, say)
    rows = [
        {'what': name, 'images_per_second': rate, 'share': rate / rates[BARE], 'turns': rounds}
        for name, rate in rates.items()
    ]
    epochs = overlap.measure(sources[found[-1]], device, rounds, say)
    report = head | {
        'files': len(paths),
        'mean_sides': np.mean(sides, axis=0).round(1).tolist(),
        'bytes': sum(path.stat().st_size for path in paths),
        'threads': cores(),
        'pillow': Image.__version__,
        'rows': rows,
        'resize_share': rates[READ['pillow']] / rates[RESIZE],
        'difference': _difference(*sources.values()) if len(sources) > 1 else None,
        'epochs_by': found[-1],
        'epochs': [
            {
                'step': epoch.step,
                **{
                    name: median(getattr(epoch, name))
                    for name in ('resident', 'reading', 'streamed')
                },
                'ratio': epoch.ratio,
            }
            for epoch in epochs
        ],
    }
    compare.write(report, to_markdown(report), out, 'decoding')
    return report


def _readable(folder):
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in ENDINGS)
    # Read once in advance, to leave out damaged files and to have the others in the page cache.
    paths = [path for path in found[:FILES] if _is_readable(path)]
    if len(paths) < 2 * BATCH:
        raise ConfigError(
            'there are too few files to decode',
            seen=f'{len(paths)} readable .jpg files in {folder}',
            fix=f'name a folder with at least {2 * BATCH} photographs',
        )
    return paths


def _is_readable(path):
    try:
        decode.decode(path, 3, (SIZE, SIZE))
    except DataError:
        return False
    return True


def _sides(path):
    with Image.open(path) as image:
        return image.size


def _source(paths, decoder):
    return ImageFiles(
        [str(path) for path in paths],
        np.zeros(len(paths), 'i'),
        (SIZE, SIZE),
        (CROP, CROP),
        decode=DECODERS[decoder],
    )


def _rates(ways, rounds, say):
    """Returns images per second, the median of turns, of each ``{name: (function, images)}``."""
    seconds = {name: [] for name in ways}
    for i in range(rounds):
        say(f'round {i + 1} of {rounds}')
        for name, (once, _) in ways.items():
            start = time.perf_counter()
            once()
            seconds[name].append(time.perf_counter() - start)
    return {name: ways[name][1] / median(times) for name, times in seconds.items()}


def _in_threads(function, items):
    """Returns a function that calls ``function`` on groups of all items, in a thread per core."""
    groups = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]

    def once():
        for _ in read_ahead(function, groups):
            pass

    return once


def _bare(paths):
    def load(group):
        for path in group:
            with Image.open(path) as image:
                image.load()

    return _in_threads(load, paths)


def _read(source):
    offsets = augment.crops(rng(0, 'benchmark/crop'), (len(source),), source.margin)
    return _in_threads(lambda group: source.read(group, offsets[group]), np.arange(len(source)))


def _resized(paths):
    """Returns a function that does what :func:`decode` does after it has decoded the pixels."""
    images = [decode.opened(path, 3, (SIZE, SIZE)) for path in paths]
    offsets = augment.crops(rng(0, 'benchmark/crop'), (len(paths),), (SIZE - CROP, SIZE - CROP))
    part = partial(decode.scaled, size=(SIZE, SIZE), crop=(CROP, CROP))

    def scale(group):
        for i in group:
            part(images[i], offset=offsets[i])

    return _in_threads(scale, np.arange(len(paths)))


def _difference(one, other):
    index = np.arange(len(one))
    largest, total, pixels = 0, 0, 0
    for group in np.array_split(index, -(-len(index) // BATCH)):
        offset = augment.crops(rng(0, 'benchmark/crop'), (len(group),), one.margin)
        images = (source.read(group, offset).astype(int) for source in (one, other))
        difference = np.abs(np.subtract(*images))
        largest = max(largest, int(difference.max()))
        total, pixels = total + int(difference.sum()), pixels + difference.size
    return {'largest': largest, 'mean': total / pixels}


def to_markdown(report):
    """Returns the result of :func:`run` as a Markdown page."""
    width, height = report['mean_sides']
    size = report['bytes'] / report['files'] / 1000
    rows = (
        (row['what'], f'{row["images_per_second"]:.0f}', f'{row["share"]:.2f}', str(row['turns']))
        for row in report['rows']
    )
    epochs = (
        (row['step'], *(f'{row[name]:.3f}' for name in ('resident', 'reading', 'streamed')))
        + (f'{row["ratio"]:.2f}',)
        for row in report['epochs']
    )
    lines = [
        '# Reading images from files',
        '',
        page.place(report),
        '',
        f'{report["files"]:,} JPEG files of {width:.0f} x {height:.0f} pixels and {size:.0f} kB on '
        f'average, in batches of {BATCH}, {report["threads"]} threads; resized to {SIZE} x {SIZE}, '
        f'cropped to {CROP} x {CROP}. All took turns. Medians.',
        '',
        *page.table(COLUMNS, rows, words=1),
        '',
        f'- {100 * report["resize_share"]:.0f} % of the time that Pillow takes is resizing.',
        *_decoders(report),
        f'- Pillow {report["pillow"]}',
        '',
        f'An epoch over these files, read with --decoder {report["epochs_by"]}: seconds for a '
        f'batch on {report["device"]}, and their ratio to the longer of step and reading.',
        '',
        *page.table(EPOCH_COLUMNS, epochs, words=1),
        '',
        '- waiting for a device: a step that waits as long as a batch is read, computing nothing',
    ]
    return '\n'.join(lines) + '\n'


def _decoders(report):
    if found := report['difference']:
        yield (
            f'- The decoders differ by at most {found["largest"]} of 255 levels, by '
            f'{found["mean"]:.2f} on average.'
        )
    else:
        yield '- turbojpeg is not installed: pip install ".[turbojpeg]"'
