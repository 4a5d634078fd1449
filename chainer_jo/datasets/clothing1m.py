"""Clothing1M: a million images from online shops in 14 classes, labelled by the surrounding text.

``data verify`` reads every file once and writes an index outside the data, from which training
starts. Models are trained on the noisy list only. The clean validation images choose the best epoch
(D-28).

Source: Xiao et al., Learning from Massive Noisy Labeled Data for Image Classification, CVPR 2015.
The authors provide the data on request.
"""

import hashlib
import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

from chainer_jo import store
from chainer_jo.datasets import clothing1m_layouts as layouts
from chainer_jo.datasets import decode, fast_decode
from chainer_jo.datasets.clothing1m_layouts import PARTS
from chainer_jo.datasets.dataset import VARIABLE, Dataset, named_place
from chainer_jo.datasets.examine import KINDS, REASONS, examine_all
from chainer_jo.datasets.image_files import ImageFiles, PackedPaths, StandIn
from chainer_jo.errors import ConfigError, DataError, WriteError, count_of, excerpt

EMBEDDED = False
CLASSES = (
    'T-shirt',
    'Shirt',
    'Knitwear',
    'Chiffon',
    'Sweater',
    'Hoodie',
    'Windbreaker',
    'Jacket',
    'Down Coat',
    'Suit',
    'Shawl',
    'Dress',
    'Vest',
    'Underwear',
)
#: Images in each part, as published.
COUNTS = {'train': 1_000_000, 'validation': 14_313, 'test': 10_526}
FORMAT = 2
#: Size of the index per image, without its path.
INDEX_BYTES = 42
#: Choices of ``data verify --decoder``; the first is the default (D-55).
DECODERS = {'pillow': decode.decode, 'turbojpeg': fast_decode.decode}
SIZE, CROP = 256, 224
#: Largest fraction of unusable images in any part.
LIMIT = 0.01
# Largest fraction of the training images that may become unreadable later.
LOST_LATER = 0.001
VERIFY = 'python -m chainer_jo data verify clothing1m --data'


def at_hand(data=None):
    """Returns ``True``: nothing is ever downloaded."""
    return True


def load(data=None, on_bytes=None, warn=None):
    """Loads the index that ``data verify`` wrote: takes seconds, and opens no image.

    Args:
        data (str or os.PathLike or None): The folder that was verified, or its index; if ``None``,
            the place that the environment variable ``CHAINER_JO_DATA`` names.
        on_bytes (callable): Never called: nothing is downloaded.
        warn (callable): Called with lines of text: what is left out, and later every image that
            has become unreadable.

    Returns:
        Dataset: Its images are streamed; the true labels of the training images are unknown.

    Raises:
        DataError: There is no such folder, it was not verified, its lists or the names in its class
            folders have changed since, or too many images are unusable.
    """
    place = named_place(data)
    if place is None:
        raise DataError(
            'Clothing1M is not on this machine; its authors provide it on request',
            seen=f'no --data, no {VARIABLE}',
            fix='ask its authors for it, or make a stand-in: reproduce/clothing1m_stand_in.py DIR',
        )
    place = Path(place).expanduser()
    try:
        return _dataset(_read_index(place), warn or (lambda text: None))
    # A file whose digest is right, but whose arrays or facts are not those that verify writes.
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f'the index of {place} is not one of this version',
            seen=excerpt(f'{type(error).__name__}: {error}', 200),
            fix=f'{VERIFY} DIR',
        ) from error


def index_path(folder):
    """Returns the path of the index of a folder, in the user's cache."""
    import pooch

    # By the real path, so that a link and its target have one index.
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    return Path(pooch.os_cache('chainer_jo')) / f'clothing1m-{name}.index'


def verify(
    folder,
    imap,
    index=None,
    size=SIZE,
    crop=CROP,
    limit=LIMIT,
    leave_out_test=False,
    decoder='pillow',
    on_file=None,
    say=None,
):
    """Examines every image of a copy and writes the index from which training starts.

    Args:
        folder (str or os.PathLike): The copy. It is only read.
        imap (callable): See :func:`chainer_jo.datasets.examine.examine_all`.
        index (pathlib.Path or None): Path of the index; :func:`index_path` if ``None``.
        size (int): Height and width to which images are scaled.
        crop (int): Height and width of the net's input, at most ``size``.
        limit (float): The largest fraction of a part that may be unusable.
        leave_out_test (bool): Whether training leaves out images that are also in the test part.
        decoder (str): One of :data:`DECODERS`, with which training reads the images.
        on_file (callable): Called with the number of files examined, the number of files, and the
            :class:`~chainer_jo.datasets.examine.FileFacts` of the last one.
        say (callable): Called with lines of text that say which layout was recognised.

    Returns:
        dict: The facts of the index, see :func:`_facts`.

    Raises:
        ConfigError: ``crop`` is larger than ``size``, or the decoder is not installed.
        DataError: The folder is not a copy of Clothing1M.
        WriteError: The index cannot be written.
    """
    _check_crop(crop, size)
    _check_decoder(decoder)
    folder = Path(os.path.realpath(Path(folder).expanduser()))
    layout = layouts.recognise(folder)
    index = Path(index) if index else index_path(folder)
    # Checked before the hours of reading, not after them.
    _check_index(index, folder)
    store.make_folder(index.parent)
    if say:
        say(f'layout   {layout.title}; images in {layout.images}')
        for other in layout.unused:
            say(f'unused   {other}')
    lists_digest, started = layout.digest(), time.monotonic()
    paths, labels, problems = _listed(layout)
    total = len(paths)
    store.check_room(index.parent, paths.text.nbytes + INDEX_BYTES * total)
    told = (lambda done, found: on_file(done, total, found)) if on_file else None
    found, evidence = examine_all(paths, imap, told)
    both = _also_in_test(labels, found)
    used = {part: (labels[part] >= 0) & (found['reason'] == 0) for part in PARTS}
    if leave_out_test:
        used['train'] &= ~both
    colour = found.pop('colour')[used['train']].mean(axis=0, dtype=np.float64)
    arrays = _arrays(paths, labels, found, used)
    # Another decoder gives slightly different pixels, so its name enters the digest. Pillow's does
    # not: indexes from before there was a choice keep their digest.
    others = [] if decoder == 'pillow' else [decoder]
    content = paths.text, paths.ends, found['digest'], *labels.values(), *used.values()
    digest = store.digest(size, crop, *content, *others)
    facts = _facts(labels, found, used, both, problems, leave_out_test) | {
        'format': FORMAT,
        'folder': str(folder),
        'images': str(layout.images),
        'layout': layout.title,
        'lists_digest': lists_digest,
        'digest': digest,
        'mean': np.nan_to_num(colour).tolist(),
        'size': size,
        'crop': crop,
        'limit': limit,
        'decoder': decoder,
        'index': str(index),
    }
    arrays['facts'] = np.frombuffer(json.dumps(facts).encode(), 'u1')
    store.write_arrays(index, arrays)
    store.write_text(_problems_path(index), _problem_lines(paths, found, evidence, problems))
    return facts | {'seconds': round(time.monotonic() - started, 1)}


def _listed(layout):
    """Returns the paths and labels of a copy, and the problems of its lists."""
    # The listing itself is freed on return: its million keys take several times the memory of the
    # index.
    listing = layouts.read(layout)
    labels = {part: np.frombuffer(listing.labels[part], 'i1') for part in PARTS}
    return PackedPaths(layout.images, *listing.packed()), labels, listing.problems


def _arrays(paths, labels, found, used):
    """Returns the arrays of an index."""
    # In the dtypes that training uses, so that it can map the file and copies nothing.
    places = {part: np.flatnonzero(used[part]).astype('u4') for part in PARTS}
    arrays = found | {'text': paths.text, 'ends': paths.ends}
    arrays |= {f'place/{part}': places[part] for part in PARTS}
    arrays |= {f'label/{part}': labels[part][places[part]].astype('i') for part in PARTS}
    return arrays


def _check_crop(crop, size):
    if not 1 <= crop <= size:
        raise ConfigError(
            'a crop is larger than the image',
            seen=f'{crop} of {size}',
            fix=f'choose at most {size}',
        )


def _check_decoder(name):
    if name == 'turbojpeg':
        fast_decode.check()


def _check_index(index, folder):
    if os.path.isdir(index):
        raise ConfigError(
            f'{index} is a folder', seen='no file name', fix='name a file in it with --index'
        )
    if os.path.isfile(index) and not _is_index(index):
        raise ConfigError(
            f'{index} would be overwritten',
            seen='a file that is no index',
            fix='name another file with --index, or delete this one',
        )
    if Path(os.path.realpath(index)).is_relative_to(folder):
        raise WriteError(
            'the index would be written into the data, which are read-only',
            seen=str(index),
            fix='name another place with --index, or leave out --index',
        )


def _problems_path(index):
    return index.with_name(f'{index.name}.problems.jsonl')


def _also_in_test(labels, found):
    """Returns which training images are also in the test part, by path or by content."""
    train, test = labels['train'] != -1, labels['test'] != -1
    # Each digest as one opaque value, so that np.isin compares whole rows.
    keys = found['digest'].view(f'V{found["digest"].shape[1]}')[:, 0]
    readable = found['reason'] == 0
    same = np.isin(keys, np.unique(keys[test & readable])) & readable
    return train & (test | same)


def _facts(labels, found, used, both, problems, leave_out_test):
    """Returns a summary of a copy as plain JSON values.

    ``parts`` has for each part the counts ``images``, ``unusable``, ``unlabelled`` (of the unusable
    ones), ``used``, and ``classes``: the used images of each class. ``kinds`` and ``reasons`` count
    files. ``lines`` counts lines of the lists with a problem. ``in_test`` counts training images
    that are also test images.
    """
    parts = {}
    for part in PARTS:
        in_part = labels[part] != -1
        usable = (labels[part] >= 0) & (found['reason'] == 0)
        counts = np.bincount(labels[part][used[part]], minlength=layouts.N_CLASS)
        parts[part] = {
            'images': int(in_part.sum()),
            'unusable': int((in_part & ~usable).sum()),
            'unlabelled': int((labels[part] == -2).sum()),
            'used': int(used[part].sum()),
            'classes': counts.tolist(),
        }
    by_reason = np.bincount(found['reason'], minlength=len(REASONS)).tolist()
    return {
        'files': len(found['reason']),
        'parts': parts,
        'kinds': {name: int((found['kinds'] >> bit & 1).sum()) for bit, name in enumerate(KINDS)},
        'reasons': dict(zip(REASONS, by_reason, strict=True)),
        'lines': len(problems),
        'in_test': int(both.sum()),
        'leave_out_test': leave_out_test,
    }


def _problem_lines(paths, found, evidence, problems):
    """Returns one line of JSON for each bad line of a list, unusable file and unusual file."""
    rows = [{'list': name, 'line': line, 'reason': what} for name, line, what in problems]
    rows += [
        {'file': paths.relative(i), 'reason': REASONS[found['reason'][i]], 'seen': seen}
        for i, seen in evidence
    ]
    for i in np.flatnonzero(found['kinds']):
        names = [name for bit, name in enumerate(KINDS) if found['kinds'][i] >> bit & 1]
        rows.append({'file': paths.relative(i), 'kinds': names})
    return ''.join(json.dumps(row) + '\n' for row in rows)


def _read_index(place):
    """Returns the arrays and the facts of the index at ``place``, or of the folder ``place``."""
    is_folder = not place.is_file()
    path = index_path(place) if is_folder else place
    if is_folder and not path.is_file():
        # Raises a better error first if the folder is not a copy of Clothing1M at all.
        layouts.recognise(place)
        raise DataError(
            f'{place} is not verified yet', seen=f'no index {path}', fix=f'{VERIFY} {place}'
        )
    if not is_folder and not _is_index(path):
        layouts.recognise(place)
    try:
        arrays = store.map_arrays(path)
    except DataError as error:
        # Training does not write an index again, as it does other files of arrays.
        again = f'{VERIFY} {place if is_folder else "DIR"}'
        raise DataError(error.problem, seen=error.seen, fix=again) from error
    facts = _facts_in(arrays)
    if facts.get('format') != FORMAT:
        raise DataError(
            f'{path} is not an index of this version',
            seen=f'format {facts.get("format")}, expected {FORMAT}',
            fix=f'{VERIFY} {facts.get("folder", "DIR")}',
        )
    _check_unchanged(facts)
    return arrays, facts


def _facts_in(arrays):
    """Returns the facts of an index; ``{}`` if it has none."""
    try:
        facts = json.loads(arrays['facts'].tobytes())
    except (KeyError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_index(path):
    with open(path, 'rb') as file:
        return file.read(len(store.MAGIC)) == store.MAGIC


def _check_unchanged(facts):
    layout = layouts.recognise(facts['folder'])
    changed = layout.digest() != facts['lists_digest']
    if changed or layout.title != facts['layout']:
        raise DataError(
            f'the lists or class folders in {facts["folder"]} are not those that were verified',
            seen=f'{layout.title}, digest {layout.digest()[:16]}, was {facts["layout"]}, '
            f'{facts["lists_digest"][:16]}',
            fix=f'{VERIFY} {facts["folder"]}',
        )


def check(facts):
    """Raises DataError if a part has too many unusable images."""
    for part, counts in facts['parts'].items():
        share = counts['unusable'] / max(1, counts['images'])
        if not counts['used'] or share > facts['limit']:
            outside = facts['reasons']['leads out of the folder']
            raise DataError(
                f'too many {part} images of {facts["folder"]} are unusable',
                seen=f'{counts["unusable"]:,} of {counts["images"]:,}, {100 * share:.2f} %; '
                f'the limit is {100 * facts["limit"]:g} %',
                fix=f'repair the files listed in {_problems_path(Path(facts["index"]))}, or verify '
                'again with a larger --limit'
                + (
                    f'; {outside:,} are links that lead out of the folder, and are not followed: '
                    'put the files there, or mount them there (mount --bind)'
                    if outside
                    else ''
                ),
            )


def notes(facts):
    """Yields notes on what training leaves out, and on training images in the test set."""
    for part, counts in facts['parts'].items():
        if counts['unusable']:
            yield (
                f'{counts["unusable"]:,} of {counts["images"]:,} {part} images are unusable and '
                'left out'
            )
    if facts['in_test']:
        what = 'left out' if facts['leave_out_test'] else 'used; --leave-out-test leaves them out'
        yield f'{facts["in_test"]:,} training images are also in the clean test set: {what}'


def _dataset(index, warn):
    arrays, facts = index
    check(facts)
    # The decoder changes the pixels, so the index decides it and not what is installed.
    _check_decoder(facts['decoder'])
    for note in notes(facts):
        warn(f'clothing1m: {note}')
    mean = np.array(facts['mean'], 'f')
    parts = {part: _part(arrays, facts, part, mean, warn) for part in PARTS}
    return Dataset(
        'clothing1m',
        _variant(facts),
        facts['digest'],
        CLASSES,
        **parts,
        mean=mean[:, None, None],
    )


def _variant(facts):
    """Returns how the data are named in results.

    There are no published digests to compare with, so the published counts decide. A few unusable
    files, as copies in circulation have them, do not make another experiment of Table 4; training
    images that are left out on purpose, or another decoder, do.
    """
    parts = facts['parts']
    official = all(parts[part]['images'] == count for part, count in COUNTS.items())
    unusable = sum(counts['unusable'] for counts in parts.values())
    left_out = sum(counts['images'] - counts['used'] for counts in parts.values())
    same = (facts['size'], facts['crop'], facts['decoder']) == (SIZE, CROP, 'pillow')
    if not official or not same or left_out > unusable:
        return f'variant {facts["digest"][:8]}'
    return f'official without {count_of(unusable, "image")}' if unusable else 'official'


def _part(arrays, facts, part, mean, warn):
    places, labels = arrays[f'place/{part}'], arrays[f'label/{part}']
    paths = PackedPaths(facts['images'], arrays['text'], arrays['ends'], places)
    # The index may be forged: wrong places or labels would fail later, on the device.
    possible = labels.min() >= 0 and labels.max() < layouts.N_CLASS
    if len(labels) != len(places) or not possible or places.max() >= len(arrays['ends']):
        raise ValueError(f'impossible labels or paths in the {part} part')
    stand_in = None
    if part == 'train':
        # Only here: an accuracy over blank images would be no accuracy.
        colour = np.round(255 * mean).astype('u1')
        stand_in = StandIn(colour, max(1, int(LOST_LATER * len(paths))), warn)
    size, crop = facts['size'], facts['crop']
    return ImageFiles(
        paths,
        labels,
        (size, size),
        (crop, crop),
        stand_in=stand_in,
        decode=DECODERS[facts['decoder']],
    )


def summary(facts):
    """Returns the facts of an index as lines of text."""
    lines = [f'layout   {facts["layout"]}', f'files    {facts["files"]:,}']
    lines.append(f'decoder  {facts["decoder"]}, for training')
    for part, counts in facts['parts'].items():
        lines.append(
            f'{part:10} {counts["images"]:>9,} listed, {counts["used"]:>9,} used, '
            f'{counts["unusable"]:,} unusable, {counts["unlabelled"]:,} of them without a label'
        )
    lines += ['', f'{"class":12}' + ''.join(f'{part:>11}' for part in PARTS)]
    for c, name in enumerate(CLASSES):
        counts = ''.join(f'{facts["parts"][part]["classes"][c]:>11,}' for part in PARTS)
        lines.append(f'{name:12}{counts}')
    found = Counter(facts['reasons']) - Counter(usable=facts['reasons']['usable'])
    lines += ['', 'unusable ' + _counted(found), 'odd      ' + _counted(Counter(facts['kinds']))]
    lines.append(f'lists    {facts["lines"]:,} lines with a problem')
    lines += [f'note     {note}' for note in notes(facts)]
    lines.append(f'problems {_problems_path(Path(facts["index"]))}')
    lines.append(f'index    {facts["index"]}')
    return '\n'.join(lines)


def _counted(counts):
    return ', '.join(f'{count:,} {name}' for name, count in counts.items() if count) or 'none'
