"""``correct`` finds and corrects wrong labels in your own images; ``predict`` labels new ones."""

import argparse
import contextlib
import math
import os
import shlex
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

from chainer_jo import store
from chainer_jo.commands import options
from chainer_jo.console import TrialProgress, counting, say, show, show_json
from chainer_jo.errors import ConfigError, DataError, excerpt
from chainer_jo.version import __version__

#: Images of 12 bits in files of 16 take 16 of the 256 levels that the net sees.
FEWEST_LEVELS = 32
#: With fewer images of a class many wrong labels are missed, as results/label_audit.md shows.
FEW = 100


def add(command):
    """Adds the commands; ``command(name, function, text)`` returns a new parser."""
    _add_correct(command)
    _add_predict(command)


def _add_correct(command):
    parser = command('correct', _correct, 'finds and corrects wrong labels in your own images')
    parser.add_argument(
        'folder',
        metavar='FOLDER',
        type=options.path,
        help='the images, with one sub-folder per class',
    )
    parser.add_argument(
        '--out',
        required=True,
        type=options.path,
        metavar='DIR',
        help='folder for labels.csv, report.html and the trained net; an interrupted command '
        'resumes there',
    )
    parser.add_argument(
        '--labels',
        type=options.path,
        metavar='CSV',
        help='a table of path (below FOLDER) and label, instead of sub-folders',
    )
    parser.add_argument(
        '--size',
        type=_size,
        metavar='PIXELS',
        help="side of the net's square input (default: that of the images, 8 to 64)",
    )
    parser.add_argument(
        '--threshold',
        type=options.fraction,
        metavar='SCORE',
        help='a label with a score below this may be judged wrong (default: 0.8)',
    )
    parser.add_argument(
        '--apply',
        type=options.path,
        metavar='DIR2',
        help='also make a folder with links to the images, one sub-folder per corrected label',
    )
    parser.add_argument('--copies', action='store_true', help='with --apply: copy, do not link')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of all random choices (default: 0)'
    )
    options.add_settings(parser)
    options.add_device(parser)
    options.add_backend(parser)
    options.add_training(parser, share=None)
    options.add_json(parser, 'print the findings as JSON')
    parser.set_defaults(preset='correct', data=None, share=False, weights=None)


def _add_predict(command):
    parser = command('predict', _predict, 'labels images with a net that correct has trained')
    parser.add_argument('net', metavar='DIR', type=options.path, help='the --out folder of correct')
    parser.add_argument(
        'images',
        metavar='IMAGE',
        nargs='+',
        type=options.path,
        help='image files, or folders of them',
    )
    options.add_device(parser)
    options.add_backend(parser)
    options.add_json(parser, 'print JSON instead of CSV')


def _size(text):
    size = options.positive(text)
    if not 8 <= size <= 512:
        raise argparse.ArgumentTypeError(f'{size} is not from 8 to 512')
    return size


def _correct(given):
    from chainer_jo.datasets import image_folder
    from chainer_jo.report import label_table
    from chainer_jo.training import corrections
    from chainer_jo.training.read_ahead import read_ahead

    # All checks come before the hours of training, whose result could not be written otherwise.
    _check_places(given)
    # Raises for wrong settings now, before all images are read.
    corrections.settings(given.seed, given.overrides, given.precision)
    table = given.out / label_table.NAME
    finals = label_table.finals(table)
    found = image_folder.find(given.folder, given.labels)
    image_folder.answer(found, finals)
    with counting('images read') as count:
        dataset = image_folder.examine(found, read_ahead, given.size, count)
    say(_what_is_there(found, dataset, finals))
    for warning in filter(None, (_few(dataset), _flat(found.levels))):
        say(warning)
    if given.apply is not None:
        store.check_tree(given.apply)
    # Locked, so that two commands do not write one labels.csv.
    with store.lock(given.out):
        return _train_and_write(given, found, dataset, table)


def _check_places(given):
    """Raises ConfigError if the output would go into the images' folder or over other files."""
    # Resolved, because a link may lead into the folder of the images.
    images = given.folder.resolve()
    for name, place in (('--out', given.out), ('--apply', given.apply)):
        if place is not None and place.resolve().is_relative_to(images):
            raise ConfigError(
                f'{name} is inside the folder of the images, which is only read',
                seen=f'{excerpt(place, 200)} is in {excerpt(given.folder, 200)}',
                fix=f'choose another folder with {name}',
            )
    # --out is written first, so the folder of --apply would then not be empty.
    if given.apply is not None and given.out.resolve().is_relative_to(given.apply.resolve()):
        raise ConfigError(
            '--out is the folder of --apply, or inside it',
            seen=f'--out {excerpt(given.out, 200)}, --apply {excerpt(given.apply, 200)}',
            fix='choose another folder with --apply',
        )
    if given.copies and given.apply is None:
        raise ConfigError(
            '--copies needs --apply',
            seen='no --apply',
            fix='add --apply DIR2, or leave out --copies',
        )
    if given.apply is not None and os.path.exists(given.apply) and any(_listed(given.apply)):
        raise ConfigError(
            f'{excerpt(given.apply, 200)} exists already',
            seen='it is not empty',
            fix='choose another folder with --apply, or move it away',
        )


def _listed(place):
    with contextlib.suppress(NotADirectoryError):
        return list(place.iterdir())
    # A file counts as a folder with something in it: it must not be overwritten either.
    return [place]


def _what_is_there(found, dataset, finals):
    from chainer_jo.datasets import image_folder

    count, side = len(dataset.train), dataset.train.shape[1]
    # Named, because FOLDER/train/cats gives the class train.
    names = excerpt(', '.join(dataset.classes))
    line = f'images   {count:,} of {len(dataset.classes):,} classes ({names})'
    line += f', as {side} x {side} pixels'
    left_out = len(found.rows) - count
    line += f'; {left_out:,} left out, as labels.csv will say' if left_out else ''
    line += f'; files of other kinds: {found.others:,}' if found.others else ''
    line += f'; {len(finals):,} with a final_label' if finals else ''
    lost = [row.path for row in found.rows if row.final and row.reason == image_folder.MISSING]
    if lost:
        line += f', of which {len(lost):,} missing, such as {excerpt(lost[0])}'
    return line


def _few(dataset):
    """Returns a warning if classes are too small to be judged well; ``None`` if none are."""
    counts = Counter(dataset.classes[label] for label in dataset.train.labels)
    small = [name for name in counts if counts[name] < FEW]
    if not small:
        return None
    least = min(small, key=counts.get)
    which = 'all' if len(small) == len(counts) else f'{len(small):,} of {len(counts):,}'
    return (
        f'few      {which} classes have fewer than {FEW} images, such as {excerpt(least, 30)} with '
        f'{counts[least]}: most wrong labels there may be missed and right ones doubted'
    )


def _flat(levels):
    """Returns a warning if all images together have little contrast; ``None`` if they have more."""
    least, largest = levels
    if largest - least >= FEWEST_LEVELS:
        return None
    return (
        f'flat     the pixels of all images lie from {least} to {largest} of 255: if they use only '
        'a part of the range of their files, rescale them first'
    )


def _train_and_write(given, found, dataset, place):
    from chainer_jo.datasets import image_folder, judgement
    from chainer_jo.report import corrections as report
    from chainer_jo.report import label_table

    described, trained = _train(given, dataset)
    threshold = judgement.THRESHOLD if given.threshold is None else given.threshold
    groups = image_folder.same([found.rows[i].digest for i in found.usable])
    # Read again: what the user has written into the file during training counts.
    image_folder.answer(found, label_table.finals(place))
    notes = label_table.notes(place)
    labels, known = image_folder.reviewed(found, dataset.classes, dataset.train.labels)
    judged = judgement.judge(trained.probabilities, labels, threshold, groups, known)
    table = label_table.rows(found, dataset.classes, judged, groups, trained.held_out)
    _label_the_unlabelled(given.folder, table, trained.net)
    table = [row | notes.get(row['path'], {}) for row in table]
    store.write_bytes(place, label_table.written(table))
    trained.net.save(given.out)
    facts = {
        'folder': str(given.folder),
        'command': _command(given),
        'others': found.others,
        'size': dataset.train.shape[1],
        'threshold': threshold,
        'seconds': trained.result['times']['training_seconds'],
        'trial': described.trial,
        'version': __version__,
        'data': dataset.digest,
    }
    _write_report(given, found, dataset, table, facts)
    if given.apply is not None:
        tree = label_table.cleaned(table)
        files = ((to, given.folder / image) for to, image in tree)
        store.write_tree(given.apply, files, given.copies)
    if given.json:
        show_json(label_table.summary(table) | {'out': str(given.out), 'trial': described.trial})
    else:
        show(f'{report.finding(table, dataset.classes)}\nsee {given.out / report.NAME}')
    return 0


def _train(given, dataset):
    """Trains; returns the TrialConfig and the Corrected. First says how long it will take."""
    from chainer_jo.training import corrections

    labels = dataset.train.labels
    described = corrections.describe(dataset, labels, given.seed, given.overrides, given.precision)
    where = options.machine(given)
    options.choose_device(given)
    # Only for a new trial: measuring takes seconds, and a resumed one is partly done.
    if not (where.folder(described.trial) / 'config.json').exists():
        took = corrections.seconds(described, dataset, labels, where)
        say(f'time     about {timedelta(seconds=math.ceil(took))} of training, from a few updates')
    with _watching(described) as observer:
        return described, corrections.run(described, dataset, labels, where, observer)


def _label_the_unlabelled(folder, table, net):
    from chainer_jo.datasets import image_folder

    rows = [row for row in table if row['reason'] in image_folder.UNLABELLED]
    # Images without a label were not trained on, so the net predicts them as it would new ones.
    seen = _predictions(net, [folder / row['path'] for row in rows])
    for row, prediction in zip(rows, seen, strict=True):
        row['predicted_label'] = prediction['predicted_label']


def _write_report(given, found, dataset, table, facts):
    from chainer_jo.report import corrections as report
    from chainer_jo.report.collect import read_log

    places = {found.rows[i].path: n for n, i in enumerate(found.usable)}
    images = partial(_pixels, dataset.train, places)
    log = read_log(given.out / 'runs' / facts['trial'])
    store.write_text(
        given.out / report.NAME, report.page(table, dataset.classes, images, log, facts)
    )


def _pixels(source, places, path):
    import numpy as np

    return source.read(np.array([places[path]]), np.zeros((1, 2), np.int32))[0]


def _command(given):
    # Only what changes the findings: device, threads and --apply are left out.
    words = [str(given.folder), '--out', str(given.out)]
    words += ['--labels', str(given.labels)] if given.labels else []
    words += ['--size', str(given.size)] if given.size else []
    words += [] if given.threshold is None else ['--threshold', f'{given.threshold:g}']
    words += ['--seed', str(given.seed)] if given.seed else []
    words += [] if given.precision == 'float32' else ['--precision', given.precision]
    words += [word for override in given.overrides for word in ('--set', override)]
    return f'python -m chainer_jo correct {shlex.join(words)}'


@contextlib.contextmanager
def _watching(described):
    from chainer_jo.training.trial import Observer

    progress = TrialProgress()
    with progress.shown():
        watched = progress.of(described.trial)
        yield Observer(watched.start, watched.epoch, progress.say, watched.begin, watched.step)


def _predict(given):
    from chainer_jo.datasets import label_sheet
    from chainer_jo.training import saved_net

    net = saved_net.load(given.net, given.device, given.backend)
    rows = _predictions(net, [image for place in given.images for image in _images(place)])
    unread = sum(bool(row['reason']) for row in rows)
    if unread == len(rows):
        raise DataError(
            'none of the images can be read',
            seen=f'{excerpt(rows[0]["path"])}: {excerpt(rows[0]["reason"])}',
            fix='name image files that exist',
        )
    if unread:
        say(f'{unread:,} of {len(rows):,} images cannot be read; the column reason says why')
    if given.json:
        show_json(rows)
        return 0
    columns = ('path', 'predicted_label', 'probability', 'reason')
    named = {name: f'class {name}' if name in columns else name for name in net.classes}
    flat = [row | {named[c]: f'{p:.4f}' for c, p in row['probabilities'].items()} for row in rows]
    sheet = label_sheet.written([*columns, *named.values()], flat)
    show(sheet.decode('utf-8', 'replace').rstrip('\n'))
    return 0


def _images(place):
    from chainer_jo.datasets import image_folder

    # Not Path.is_dir, which raises an error for a name that is too long.
    if not os.path.isdir(place):
        return [place]
    try:
        return [place / row.path for row in image_folder.find(place).rows]
    except ConfigError as error:
        error.fix = 'name image files, or a folder that contains some'
        raise


def _predictions(net, paths):
    """Returns a dict for each image: ``path``, ``predicted_label``, ``probabilities``..."""
    import numpy as np

    from chainer_jo.datasets.decode import decode

    channels, *size = net.mean.shape
    rows = []
    for path in map(Path, paths):
        row = {'path': str(path), 'predicted_label': '', 'probability': '', 'reason': ''}
        rows.append(row | {'probabilities': {}})
        try:
            image = decode(path, channels, size, upright=True)
        except DataError as error:
            rows[-1]['reason'] = error.seen
            continue
        # One at a time, so that any number of images fits in memory.
        f = net.probabilities(np.ascontiguousarray(image[None]))[0]
        best = int(f.argmax())
        rows[-1] |= {
            'predicted_label': net.classes[best],
            'probability': round(float(f[best]), 4),
            'probabilities': dict(
                zip(net.classes, np.round(f.astype(float), 4).tolist(), strict=True)
            ),
        }
    return rows
