"""Recognises the layouts in which people keep Clothing1M, and reads each as one list of images."""

import hashlib
import os
import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chainer_jo.errors import DataError, excerpt

N_CLASS = 14
PARTS = ('train', 'validation', 'test')
KEY_LISTS = {
    'train': 'noisy_train_key_list.txt',
    'validation': 'clean_val_key_list.txt',
    'test': 'clean_test_key_list.txt',
}
LABEL_LISTS = {'noisy': 'noisy_label_kv.txt', 'clean': 'clean_label_kv.txt'}
MERGED_LISTS = {
    'train': 'noisy_train.txt',
    'validation': 'clean_val.txt',
    'test': 'clean_test.txt',
}
CLASS_FOLDERS = {
    'train': ('noisy_train',),
    'validation': ('clean_val', 'clean_valid', 'val', 'valid'),
    'test': ('clean_test', 'test'),
}
NUMBERED = re.compile('[0-9]')
WHOLE_NUMBER = re.compile(rb'-?[0-9]{1,9}')
CLASS_FOLDER = re.compile(r'q?0*([0-9]|1[0-3])')
ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.zip')
# Longer lines are reported, not read: such a file is not a list.
LONGEST_LINE = 4096


@dataclass(frozen=True)
class Layout:
    """Where the lists and the images of a copy are.

    Attributes:
        title: A description for the user.
        kind: ``'keys'``, ``'merged'`` or ``'folders'``.
        lists: The file of each list by name (``'train'``, ..., ``'noisy'``, ``'clean'``); for
            ``'folders'``, the folder of each part.
        images: The folder to which all keys are relative.
        unused: Other folders and lists that look like Clothing1M and are not read.
    """

    title: str
    kind: str
    lists: dict
    images: Path
    unused: tuple = ()

    def digest(self):
        """Returns the SHA-256 of the lists; for ``'folders'``, of the names of all files."""
        sha = hashlib.sha256()
        for name in sorted(self.lists):
            if self.kind == 'folders':
                for folder, key in _keys_in(self.lists[name]):
                    sha.update(b'%s/%s\0' % (os.fsencode(folder.name), key))
            else:
                with open(self.lists[name], 'rb') as file:
                    sha.update(hashlib.file_digest(file, 'sha256').digest())
        return sha.hexdigest()


def recognise(folder):
    """Returns the :class:`Layout` of a copy of Clothing1M.

    Raises:
        DataError: The folder has no copy, part of it is missing, or it has two sets of lists.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise _no_folder(folder)
    found = [layout for layout in (*_by_lists(folder), _by_folders(folder)) if layout]
    if not found:
        raise _nothing(folder)
    _refuse_two_sets(folder, found)
    chosen, *others = found
    # Class folders were recognised by the folders of images themselves.
    if chosen.kind != 'folders':
        _refuse_packed_images(chosen)
    unused = (*chosen.unused, *(other.title for other in others))
    return Layout(chosen.title, chosen.kind, chosen.lists, chosen.images, unused)


def _by_lists(folder):
    """Yields the layout of each set of lists in the folder or in ``annotations/``."""
    images, beside, unused = _images(folder)
    for place, where in ((folder, ''), (folder / 'annotations', ', lists in annotations/')):
        for kind, names in (('keys', KEY_LISTS | LABEL_LISTS), ('merged', MERGED_LISTS)):
            lists = {name: place / file for name, file in names.items()}
            there = [path for path in lists.values() if path.is_file()]
            # clean_val.txt alone may belong to anything. If half of the lists are there, it is this
            # layout, and the others are missing.
            if len(there) * 2 < len(lists):
                continue
            if missing := sorted({p.name for p in lists.values()} - {p.name for p in there}):
                raise DataError(
                    f'lists of Clothing1M are missing in {place}',
                    seen=f'no {", no ".join(missing)}',
                    fix='unpack all of annotations.zip there and run the same command again',
                )
            name = {'keys': 'official tree', 'merged': 'merged lists of paths and labels'}[kind]
            yield Layout(name + where + beside, kind, lists, images, unused)


def _images(folder):
    """Returns the image folder, how it differs from the official one, and what is not read."""
    numbered = sorted(p.name for p in folder.iterdir() if NUMBERED.fullmatch(p.name) and p.is_dir())
    if (folder / 'images').is_dir():
        return folder / 'images', '', tuple(f'{name}/ next to images/' for name in numbered)
    if numbered:
        return folder, ', numbered folders without images/', ()
    return folder / 'images', '', ()


def _by_folders(folder):
    chosen = {}
    for part, names in CLASS_FOLDERS.items():
        there = [name for name in names if (folder / name).is_dir()]
        if len(there) > 1:
            raise DataError(
                f'two folders of {part} images in {folder}',
                seen=' and '.join(f'{name}/' for name in there),
                fix='keep only one of them there',
            )
        if there:
            chosen[part] = folder / there[0]
    if not {'train', 'test'} <= chosen.keys():
        return None
    if 'validation' not in chosen:
        raise DataError(
            f'no folder of validation images in {folder}',
            seen=', '.join(path.name + '/' for path in chosen.values()),
            fix=f'add one of {", ".join(CLASS_FOLDERS["validation"])}',
        )
    return Layout('one folder per class', 'folders', chosen, folder)


def _refuse_two_sets(folder, found):
    places = {layout.lists['train'].parent for layout in found if layout.kind != 'folders'}
    if len(places) > 1:
        raise DataError(
            f'two sets of lists in {folder}',
            seen=' and '.join(layout.title for layout in found),
            fix='keep only one of them there',
        )


def _refuse_packed_images(layout):
    if layout.images.is_dir() and any(NUMBERED.fullmatch(p.name) for p in layout.images.iterdir()):
        return
    places = {layout.images, layout.images.parent}
    packed = [p for place in places if place.is_dir() for p in place.iterdir() if _is_archive(p)]
    seen = ', '.join(sorted(path.name for path in packed)[:4])
    raise DataError(
        f'no images in {layout.images}',
        seen=f'no folder 0 to 9; {seen or "no archives either"}',
        fix='unpack 0.tar to 9.tar there' if packed else 'put the folders 0 to 9 there',
    )


def _is_archive(path):
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def _no_folder(folder):
    if folder.exists():
        seen = 'an archive' if _is_archive(folder) else 'a file'
        return DataError(
            f'{folder} is not a folder',
            seen=seen,
            fix='unpack it and name the folder with --data',
        )
    return DataError(
        f'no folder {folder}', seen='nothing of that name', fix='name the folder with --data'
    )


def _nothing(folder):
    entries = sorted(entry.name for entry in folder.iterdir())
    inside = [
        name
        for name in entries
        if any((folder / name / list_).is_file() for list_ in KEY_LISTS.values())
    ]
    fix = f'put {", ".join((*KEY_LISTS.values(), *LABEL_LISTS.values()))} and images/ there'
    return DataError(
        f'no Clothing1M in {folder}',
        seen=excerpt(', '.join(entries[:8]) or 'an empty folder', 200),
        fix=f'name {folder / inside[0]} with --data' if inside else fix,
    )


@dataclass
class Listing:
    """All images in the lists, each once, in the order of first appearance.

    Attributes:
        places: Dict from an image's path below the image folder, as bytes, to its index.
        labels: For each part, an ``array('b')`` with the label of every image: -1 if it is not in
            the part, -2 if it has no usable label.
        problems: ``(file, line, what)`` for each line with a problem.
    """

    places: dict = field(default_factory=dict)
    labels: dict = field(default_factory=lambda: {part: array('b') for part in PARTS})
    problems: list = field(default_factory=list)

    def add(self, part, key, label, where):
        """Adds an image to a part; ``label`` is -2 if it has none."""
        place = self.places.setdefault(key, len(self.places))
        # A new image: it gets a place in the labels of every part.
        if place == len(self.labels[part]):
            for labels in self.labels.values():
                labels.append(-1)
        if self.labels[part][place] == -1:
            self.labels[part][place] = label
        elif self.labels[part][place] == label:
            self.problems.append((*where, f'{os.fsdecode(key)} is listed twice'))
        else:
            # Neither label is known to be the right one, so the image is not used.
            self.labels[part][place] = -2
            self.problems.append((*where, f'{os.fsdecode(key)} has two labels'))

    def packed(self):
        """Returns the joined paths, uint8, and the end of each path, ``(N,)``, uint32."""
        lengths = np.fromiter(map(len, self.places), 'u4', len(self.places))
        return np.frombuffer(b''.join(self.places), 'u1'), lengths.cumsum(dtype='u4')


def read(layout):
    """Returns the :class:`Listing` of a copy."""
    listing = Listing()
    if layout.kind == 'keys':
        labels = {name: _read_labels(layout.lists[name], listing) for name in LABEL_LISTS}
    for part in PARTS:
        path = layout.lists[part]
        if layout.kind == 'folders':
            _add_folders(listing, part, layout)
            continue
        # Some images have both labels; training uses the noisy one (D-28).
        known = labels['noisy' if part == 'train' else 'clean'] if layout.kind == 'keys' else None
        for number, line in _lines(path, listing):
            where = path.name, number
            if known is None:
                key, label = _key_and_label(line, where, listing)
            else:
                key = _below_images(line)
                label = known.get(key, -2)
                if key not in known:
                    listing.problems.append((*where, f'{os.fsdecode(key)} has no label'))
            listing.add(part, key, label, where)
    return listing


def _lines(path, listing):
    """Yields the number and content of each line of a list that is not empty."""
    with open(path, 'rb') as file:
        for number, line in enumerate(iter(lambda: _line(file), b''), 1):
            # Editors on Windows add a byte order mark and CRLF.
            line = line.removeprefix(b'\xef\xbb\xbf').strip(b' \t\r\n')
            if len(line) > LONGEST_LINE:
                listing.problems.append((path.name, number, f'a line of {len(line):,} bytes'))
            elif line:
                yield number, line


def _line(file):
    """Returns a line, cut off shortly after ``LONGEST_LINE`` bytes."""
    # Room for the line end and one byte more, which shows the caller that the line is too long.
    line = rest = file.readline(LONGEST_LINE + 3)
    while rest and not rest.endswith(b'\n'):
        rest = file.readline(1 << 20)
    return line


def _read_labels(path, listing):
    """Returns a dict from key to label; the label is -2 if two lines disagree."""
    labels = {}
    for number, line in _lines(path, listing):
        where = path.name, number
        key, label = _key_and_label(line, where, listing)
        if labels.setdefault(key, label) != label:
            labels[key] = -2
            listing.problems.append((*where, f'{os.fsdecode(key)} has two labels'))
    return labels


def _key_and_label(line, where, listing):
    """Splits a line at its last space or tab; the label is -2 if missing or not in 0 to 13."""
    key, _, word = line.replace(b'\t', b' ').rpartition(b' ')
    if not key or not WHOLE_NUMBER.fullmatch(word):
        # The last word is part of a file name with spaces, and no label follows it.
        listing.problems.append((*where, f'{os.fsdecode(line)} has no label'))
        return _below_images(line), -2
    label = int(word)
    if not 0 <= label < N_CLASS:
        listing.problems.append((*where, f'label {label} is not in 0 to {N_CLASS - 1}'))
        label = -2
    return _below_images(key.strip()), label


def _below_images(key):
    """Returns a key relative to the image folder, without ``images/``, ``./`` or ``//``."""
    steps = [step for step in key.split(b'/') if step not in (b'', b'.')]
    return b'/'.join(steps[1:] if steps[:1] == [b'images'] else steps)


def _add_folders(listing, part, layout):
    folder = layout.lists[part]
    for inner in sorted(folder.iterdir()):
        if not _is_class(inner):
            listing.problems.append(
                (f'{folder.name}/', 0, f'{inner.name} is not a class from 0 to 13')
            )
    below = os.fsencode(folder.relative_to(layout.images))
    for inner, name in _keys_in(folder):
        key = b'/'.join((below, os.fsencode(inner.name), name))
        label = int(CLASS_FOLDER.fullmatch(inner.name)[1])
        listing.add(part, key, label, (f'{folder.name}/{inner.name}/', 0))


#: Names that file managers leave in folders; others begin with a dot.
LEFT_BEHIND = (b'Thumbs.db', b'desktop.ini')


def _is_class(folder):
    return CLASS_FOLDER.fullmatch(folder.name) and folder.is_dir()


def _keys_in(folder):
    """Yields the folder of each class and, for each of its files, the name as bytes, sorted."""
    for inner in sorted(filter(_is_class, folder.iterdir())):
        for name in sorted(os.listdir(os.fsencode(inner))):
            # Desktops and network drives leave files of their own, also after the verification.
            if not name.startswith(b'.') and name not in LEFT_BEHIND:
                yield inner, name
