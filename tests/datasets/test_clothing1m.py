"""Clothing1M in every layout, with every kind of file that a million images may hold."""

import io
import json
import os
import shutil
import struct
import zlib

import clothing_files
import numpy as np
import pytest
from PIL import Image

from chainer_jo.datasets import clothing1m, clothing1m_layouts, examine
from chainer_jo.datasets.clothing1m_layouts import CLASS_FOLDERS, KEY_LISTS, LABEL_LISTS
from chainer_jo.datasets.image_files import PackedPaths
from chainer_jo.datasets.source import centre
from chainer_jo.errors import ConfigError, DataError, WriteError

LISTS = (*KEY_LISTS.values(), *LABEL_LISTS.values())
USED = {'train': 600 + 8 - 4, 'validation': 60, 'test': 90}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A stand-in that tests only read."""
    folder = tmp_path_factory.mktemp('made') / 'clothing'
    clothing_files.make(folder)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A stand-in that a test may change."""
    return shutil.copytree(made, tmp_path / 'copy', symlinks=True)


def load(folder, tmp_path, warn=None, **options):
    facts = clothing_files.verify(folder, tmp_path / 'index', **options)
    return clothing1m.load(facts['index'], warn=warn), facts


def lines(path):
    return path.read_text().splitlines()


def slow_parts(folder):
    """Keys and labels of each part, read the obvious way: ``{part: [(key, label)]}``."""
    labels = {
        name: dict(line.rsplit(' ', 1) for line in lines(folder / file))
        for name, file in LABEL_LISTS.items()
    }
    return {
        part: [
            (key, int(labels['noisy' if part == 'train' else 'clean'][key]))
            for key in lines(folder / file)
        ]
        for part, file in KEY_LISTS.items()
    }


def listed(source):
    return [(source.paths.relative(i), int(label)) for i, label in enumerate(source.labels)]


def test_the_official_tree_is_read_part_by_part_with_the_labels_of_its_lists(made, tmp_path):
    dataset, facts = load(made, tmp_path)
    assert facts['layout'] == 'official tree'
    for part, expected in slow_parts(made).items():
        source = getattr(dataset, part)
        usable = [
            (key.removeprefix('images/'), label)
            for key, label in expected
            if examine.examine(str(made), key).reason == 0
        ]
        # An image of two parts has its place where it is first named.
        order = list if part == 'train' else sorted
        assert order(listed(source)) == order(usable)
        assert len(source) == USED[part]
        assert (source.shape, source.margin) == ((3, 32, 32), (4, 4))
        assert source.true_labels is None
        assert source.resident() is None
    assert all(',' in key for key, _ in listed(dataset.train))
    assert len(dataset.classes) == 14


def arrange(kind, folder):
    """Turns the official tree into a layout found in the wild; returns what its title names."""
    parts = slow_parts(folder)
    if kind == 'beside':
        for inner in sorted((folder / 'images').iterdir()):
            inner.rename(folder / inner.name)
        (folder / 'images').rmdir()
        return 'numbered folders without images/'
    if kind == 'annotations':
        (folder / 'annotations').mkdir()
        for name in LISTS:
            (folder / name).rename(folder / 'annotations' / name)
        return 'lists in annotations/'
    if kind == 'merged':
        (folder / 'annotations').mkdir()
        for part, rows in parts.items():
            text = ''.join(f'/{key} {label}\n' for key, label in rows)
            name = clothing1m_layouts.MERGED_LISTS[part]
            (folder / 'annotations' / name).write_text(text)
    else:
        scheme = {'folders': '{}', 'q folders': 'q{:04d}'}[kind]
        for part, rows in parts.items():
            for key, label in rows:
                name = CLASS_FOLDERS[part][-1 if kind == 'q folders' else 0]
                target = folder / name / scheme.format(label)
                target.mkdir(parents=True, exist_ok=True)
                if (folder / key).exists():
                    shutil.copy(folder / key, target)
        shutil.rmtree(folder / 'images')
    for name in LISTS:
        (folder / name).unlink()
    return 'merged lists' if kind == 'merged' else 'one folder per class'


@pytest.mark.parametrize('kind', ['beside', 'annotations', 'merged', 'folders', 'q folders'])
def test_every_layout_found_in_the_wild_is_named_and_gives_the_same_images(
    kind, made, copy, tmp_path
):
    title = arrange(kind, copy)
    said = []
    dataset, facts = load(copy, tmp_path, say=said.append)
    assert title in facts['layout']
    assert title in said[0]
    (tmp_path / 'official').mkdir()
    official, _ = load(made, tmp_path / 'official')
    for part in clothing1m.PARTS:
        rows = [
            sorted((os.path.basename(key), label) for key, label in listed(getattr(d, part)))
            for d in (dataset, official)
        ]
        assert rows[0] == rows[1]


def test_two_sets_of_lists_are_refused_and_unused_folders_are_said(copy, tmp_path):
    (copy / '3').mkdir()
    said = []
    load(copy, tmp_path, say=said.append)
    assert 'unused   3/ next to images/' in said
    (copy / 'annotations').mkdir()
    for name in LISTS:
        shutil.copy(copy / name, copy / 'annotations')
    with pytest.raises(DataError, match='two sets of lists'):
        load(copy, tmp_path)


@pytest.mark.parametrize('name', LISTS)
def test_a_list_that_is_missing_is_named(name, copy, tmp_path):
    (copy / name).unlink()
    with pytest.raises(DataError) as error:
        load(copy, tmp_path)
    assert f'no {name}' in error.value.seen


def test_what_is_no_clothing1m_says_what_it_is(made, tmp_path):
    with pytest.raises(DataError, match='no folder'):
        load(tmp_path / 'absent', tmp_path)
    archive = tmp_path / 'clothing.tar'
    archive.write_bytes(b'x')
    with pytest.raises(DataError) as error:
        load(archive, tmp_path)
    assert (error.value.seen, 'unpack it' in error.value.fix) == ('an archive', True)
    with pytest.raises(DataError, match='no Clothing1M in') as error:
        load(made.parent, tmp_path)
    assert error.value.fix == f'name {made} with --data'


def test_images_that_are_still_packed_are_said(copy, tmp_path):
    shutil.rmtree(copy / 'images')
    (copy / 'images').mkdir()
    (copy / 'images' / '0.tar').write_bytes(b'')
    with pytest.raises(DataError) as error:
        load(copy, tmp_path)
    assert '0.tar' in error.value.seen
    assert error.value.fix == 'unpack 0.tar to 9.tar there'


def test_test_images_in_the_noisy_list_are_counted_and_can_be_left_out(copy, tmp_path):
    parts = slow_parts(copy)
    # One is the same image under another name.
    usable = [key for key, _ in parts['train'] if examine.examine(str(copy), key).reason == 0]
    shutil.copy(copy / parts['test'][0][0], copy / usable[0])
    said = []
    dataset, facts = load(copy, tmp_path, said.append)
    assert facts['in_test'] == 8 + 1
    assert facts['kinds']['duplicate'] == 1
    assert any('9 training images are also in the clean test set' in line for line in said)
    less, _ = load(copy, tmp_path, leave_out_test=True)
    assert len(less.train) == len(dataset.train) - 9
    test_keys = {key for key, _ in listed(less.test)}
    assert not test_keys & {key for key, _ in listed(less.train)}
    assert less.digest != dataset.digest


def png(width, height):
    """A PNG file that claims any size in a few bytes."""

    def chunk(name, body):
        return (
            struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))
        )

    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return (
        b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(bytes(99))) + chunk(b'IEND', b'')
    )


def encoded(mode='RGB', kind='JPEG', **options):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(256, size=(40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def rotated():
    exif = Image.Exif()
    exif[examine.ORIENTATION] = 6
    return encoded(exif=exif)


def deep():
    file = io.BytesIO()
    Image.fromarray(np.full((9, 9), 0x80FF, np.uint16)).save(file, 'PNG')
    return file.getvalue()


BAD = {
    'empty': (b'', 'empty'),
    # Pillow would run Ghostscript on it.
    'program': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n', 'no image'),
    'text': (b'<html>404</html>', 'no image'),
    'truncated': (encoded()[:900], 'damaged'),
    'truncated header': (encoded()[:20], 'no image'),
    'bomb': (png(60000, 60000), 'too large'),
    'lesser bomb': (png(10000, 10000), 'too large'),
    'broken PNG': (png(40, 40), 'damaged'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_file_that_cannot_be_used_is_found_with_its_reason(name, tmp_path):
    content, expected = BAD[name]
    (tmp_path / 'x.jpg').write_bytes(content)
    facts = examine.examine(str(tmp_path), 'x.jpg')
    assert examine.REASONS[facts.reason] == expected
    assert facts.seen


ODD = {
    'grey': (encoded('L'), ['grey']),
    'CMYK': (encoded('CMYK'), ['CMYK']),
    'palette': (encoded('P', 'PNG'), ['palette', 'not JPEG']),
    'transparent palette': (
        encoded('P', 'PNG', transparency=bytes(range(256))),
        ['palette', 'not JPEG'],
    ),
    'PNG': (encoded(kind='PNG'), ['not JPEG']),
    '16 bit': (deep(), ['grey', '16 bit', 'not JPEG']),
    'rotated': (rotated(), ['rotated by EXIF']),
    'plain': (encoded(), []),
}


@pytest.mark.parametrize('name', ODD)
def test_an_odd_file_is_counted_and_used(name, tmp_path):
    content, expected = ODD[name]
    (tmp_path / 'x.jpg').write_bytes(content)
    facts = examine.examine(str(tmp_path), 'x.jpg')
    names = [kind for bit, kind in enumerate(examine.KINDS) if facts.kinds >> bit & 1]
    assert (facts.reason, names, facts.length) == (0, expected, len(content))
    with Image.open(io.BytesIO(content)) as image:
        assert facts.size == (image.height, image.width)


def test_of_16_bits_the_upper_8_count(tmp_path):
    (tmp_path / 'x.jpg').write_bytes(deep())
    np.testing.assert_allclose(examine.examine(str(tmp_path), 'x.jpg').colour, [0x80 / 255] * 3)


@pytest.mark.parametrize(
    'name', ['a b.jpg', 'a,b.jpg', 'ä–猫.jpg', '-x.jpg', 'a\tb.jpg', '\udcff.jpg']
)
def test_any_name_is_read(name, tmp_path):
    (tmp_path / name).write_bytes(encoded())
    assert examine.examine(str(tmp_path), name).reason == 0


def test_what_lies_outside_or_is_no_file_is_refused(tmp_path):
    folder, outside = tmp_path / 'in', tmp_path / 'out'
    for place in (folder, outside):
        place.mkdir()
        (place / 'x.jpg').write_bytes(encoded())
    (folder / 'link.jpg').symlink_to(outside / 'x.jpg')
    (folder / 'near.jpg').symlink_to('x.jpg')
    (folder / 'lost.jpg').symlink_to(folder / 'absent')
    (folder / 'sub').symlink_to(outside)
    (folder / 'folder.jpg').mkdir()
    os.mkfifo(folder / 'pipe.jpg')
    expected = {
        'link.jpg': 'leads out of the folder',
        'sub/x.jpg': 'leads out of the folder',
        '../out/x.jpg': 'leads out of the folder',
        'a/../x.jpg': 'leads out of the folder',
        'near.jpg': 'usable',
        'lost.jpg': 'missing',
        'absent.jpg': 'missing',
        'x.jpg/y.jpg': 'missing',
        'folder.jpg': 'not a file',
        'pipe.jpg': 'not a file',
        'nul\0.jpg': 'cannot be opened',
        'n' * 300: 'cannot be opened',
    }
    found = {name: examine.REASONS[examine.examine(str(folder), name).reason] for name in expected}
    assert found == expected
    (tmp_path / 'linked').symlink_to(folder)
    assert examine.examine(str(tmp_path / 'linked'), 'x.jpg').reason == 0


def test_bad_lines_of_the_lists_are_listed_with_file_and_line(copy, tmp_path):
    parts, noisy = slow_parts(copy), copy / LABEL_LISTS['noisy']
    rows = lines(noisy)
    rows[3] = rows[3].rsplit(' ', 1)[0]
    rows[5] = rows[5].rsplit(' ', 1)[0] + ' 14'
    rows[7] = rows[7].rsplit(' ', 1)[0] + ' -1'
    noisy.write_bytes(b'\xef\xbb\xbf' + '\r\n'.join(rows).encode() + b'\r\n\r\n')
    keys = copy / KEY_LISTS['validation']
    keys.write_text(keys.read_text() + lines(keys)[0] + '\nimages/0/00/unknown 1.jpg\n')
    dataset, facts = load(copy, tmp_path, limit=0.05)
    listed_ = [json.loads(line) for line in lines(tmp_path / 'index.problems.jsonl')]
    found = {(row['list'], row['line']): row['reason'] for row in listed_ if 'list' in row}
    assert found == {
        (noisy.name, 4): f'{rows[3]} has no label',
        (noisy.name, 6): 'label 14 is not in 0 to 13',
        (noisy.name, 8): 'label -1 is not in 0 to 13',
        (keys.name, 61): f'{parts["validation"][0][0].removeprefix("images/")} is listed twice',
        (keys.name, 62): '0/00/unknown 1.jpg has no label',
    }
    assert facts['parts']['train']['unlabelled'] == 3
    assert facts['parts']['validation']['unlabelled'] == 1
    assert len(dataset.validation) == 60


def test_every_bad_file_is_listed_with_its_reason(made, tmp_path):
    _, facts = load(made, tmp_path)
    rows = [json.loads(line) for line in lines(tmp_path / 'index.problems.jsonl')]
    reasons = sorted(row['reason'] for row in rows if 'reason' in row)
    assert reasons == ['damaged', 'empty', 'missing', 'no image']
    kinds = sorted(kind for row in rows for kind in row.get('kinds', ()))
    expected = ['CMYK', 'grey', 'not JPEG', 'not JPEG', 'palette', 'rotated by EXIF']
    assert kinds == expected
    assert {name: n for name, n in facts['reasons'].items() if n} == {
        'usable': 746, 'missing': 1, 'empty': 1, 'no image': 1, 'damaged': 1,
    }  # fmt: skip


def test_training_starts_only_below_the_limit(copy, tmp_path):
    key = slow_parts(copy)['test'][0][0]
    (copy / key).write_bytes(b'')
    with pytest.raises(DataError, match='too many test images') as error:
        load(copy, tmp_path)
    assert '1 of 90' in error.value.seen
    dataset, _ = load(copy, tmp_path, limit=0.02)
    assert len(dataset.test) == 89


def test_a_folder_that_was_not_verified_or_has_changed_says_what_to_run(
    copy, tmp_path, monkeypatch
):
    monkeypatch.setattr(clothing1m, 'index_path', lambda folder: tmp_path / 'cache/x.index')
    with pytest.raises(DataError, match='is not verified yet') as error:
        clothing1m.load(copy)
    assert error.value.fix == f'python -m chainer_jo data verify clothing1m --data {copy}'
    clothing_files.verify(copy, None)
    before = clothing1m.load(copy).digest
    again = clothing_files.verify(copy, None)
    assert again['digest'] == before
    labels = copy / LABEL_LISTS['noisy']
    labels.write_text(labels.read_text().replace(' 1\n', ' 2\n', 1))
    with pytest.raises(DataError, match='are not those that were verified'):
        clothing1m.load(copy)


@pytest.mark.parametrize('change', ['moved', 'added', 'renamed', 'gone'])
def test_class_folders_whose_files_have_changed_are_verified_again(change, copy, tmp_path):
    arrange('folders', copy)
    _, facts = load(copy, tmp_path)
    clothing1m.load(facts['index'])
    folder = next(iter((copy / CLASS_FOLDERS['test'][0]).iterdir()))
    image = next(iter(folder.iterdir()))
    if change == 'moved':
        image.rename(next(f for f in folder.parent.iterdir() if f != folder) / image.name)
    elif change == 'added':
        shutil.copy(image, folder / 'another.jpg')
    elif change == 'renamed':
        image.rename(folder / 'another.jpg')
    else:
        image.unlink()
    with pytest.raises(DataError, match='are not those that were verified') as refused:
        clothing1m.load(facts['index'])
    assert refused.value.fix == f'{clothing1m.VERIFY} {copy}'


def test_files_that_desktops_leave_in_class_folders_are_no_images(copy, tmp_path):
    arrange('folders', copy)
    dataset, facts = load(copy, tmp_path)
    for folder in (copy / CLASS_FOLDERS['train'][0]).iterdir():
        for name in ('.DS_Store', '._photo.jpg', 'Thumbs.db', 'desktop.ini'):
            (folder / name).write_text('left behind')

    assert clothing1m.load(facts['index']).digest == dataset.digest
    (tmp_path / 'again').mkdir()
    again, found = load(copy, tmp_path / 'again')
    assert again.digest == dataset.digest
    assert found['parts'] == facts['parts']


def test_a_few_unusable_images_leave_the_official_data_official(copy, tmp_path, monkeypatch):
    _, facts = load(copy, tmp_path)
    counts = {part: found['images'] for part, found in facts['parts'].items()}
    monkeypatch.setattr(clothing1m, 'COUNTS', counts)
    monkeypatch.setattr(clothing1m, 'SIZE', facts['size'])
    monkeypatch.setattr(clothing1m, 'CROP', facts['crop'])

    assert load(copy, tmp_path)[0].variant == 'official without 4 images'
    whole = {
        part: counts | {'unusable': 0, 'used': counts['images']}
        for part, counts in facts['parts'].items()
    }
    assert clothing1m._variant(facts | {'parts': whole}) == 'official'
    less = load(copy, tmp_path, leave_out_test=True)[0]
    assert less.variant == f'variant {less.digest[:8]}'


def test_a_damaged_index_is_made_again_by_verifying(copy, tmp_path):
    _, facts = load(copy, tmp_path)
    index = tmp_path / 'index'
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(DataError, match='is damaged') as refused:
        clothing1m.load(index)
    assert refused.value.fix == f'{clothing1m.VERIFY} DIR'


@pytest.mark.parametrize('part', ['validation', 'test'])
def test_an_image_to_measure_by_that_is_lost_later_ends_the_run(part, copy, tmp_path):
    dataset, _ = load(copy, tmp_path)
    source = getattr(dataset, part)
    os.remove(source.paths[0])
    with pytest.raises(DataError) as lost:
        source.read(np.array([0, 1]), np.zeros((2, 2), int))
    assert lost.value.fix.startswith('restore the file and run the same command again')


def test_the_decoder_is_part_of_the_data_set_and_read_from_its_index(made, tmp_path, monkeypatch):
    by_pillow, facts = load(made, tmp_path)
    assert facts['decoder'] == 'pillow'
    (tmp_path / 'fast').mkdir()
    fast, facts = load(made, tmp_path / 'fast', decoder='turbojpeg')
    assert 'decoder  turbojpeg' in clothing1m.summary(facts)
    assert (fast.digest != by_pillow.digest, fast.variant) == (True, f'variant {fast.digest[:8]}')
    index = np.arange(len(fast.test))
    images = [d.test.read(index, centre(d.test, len(index))).astype(int) for d in (fast, by_pillow)]
    assert 1 <= np.abs(images[0] - images[1]).max() <= 2
    monkeypatch.setattr(clothing1m.fast_decode, 'missing', lambda: ['simplejpeg'])
    with pytest.raises(ConfigError, match='turbojpeg is not installed'):
        clothing1m.load(facts['index'])
    with pytest.raises(ConfigError, match='turbojpeg is not installed'):
        load(made, tmp_path, decoder='turbojpeg')


def test_nothing_is_written_among_the_data(made, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in made.rglob('*')}
    load(made, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in made.rglob('*')} == before
    with pytest.raises(WriteError, match='into the data'):
        clothing_files.verify(made, made / 'index')


def test_no_other_file_is_overwritten_by_an_index(made, tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(ConfigError, match='would be overwritten'):
        clothing_files.verify(made, tmp_path / 'mine.txt')
    assert (tmp_path / 'mine.txt').read_text() == 'mine'


def test_a_crop_larger_than_the_image_is_refused(made, tmp_path):
    with pytest.raises(ConfigError):
        clothing_files.verify(made, tmp_path / 'index', size=20)


def test_the_mean_is_that_of_the_training_images_as_they_are_stored(made, tmp_path):
    dataset, _ = load(made, tmp_path)
    means = []
    for i in range(len(dataset.train)):
        with Image.open(dataset.train.paths[i]) as image:
            means.append(np.asarray(image.convert('RGB')).mean(axis=(0, 1)) / 255)
    assert dataset.mean.shape == (3, 1, 1)
    np.testing.assert_allclose(dataset.mean[:, 0, 0], np.mean(means, axis=0), rtol=1e-5)


def test_an_image_that_is_lost_later_is_said_once_and_many_end_the_run(copy, tmp_path):
    said = []
    dataset, _ = load(copy, tmp_path, said.append)
    source, before = dataset.train, len(said)
    index = np.arange(4)
    images = source.read(index, centre(source, 4))
    os.unlink(source.paths[2])
    for _ in range(2):
        again = source.read(index, centre(source, 4))
    np.testing.assert_array_equal(again[[0, 1, 3]], images[[0, 1, 3]])
    colour = np.round(255 * dataset.mean)
    assert (again[2] == colour).all()
    assert [source.paths[2] in line for line in said[before:]] == [True]
    os.unlink(source.paths[3])
    with pytest.raises(DataError, match='2 images have become unreadable'):
        source.read(index, centre(source, 4))


def test_the_index_of_a_million_images_needs_at_most_100_bytes_each():
    """The published form of the keys, at a hundredth of their number."""
    listing = clothing1m_layouts.Listing()
    for i in range(10_000):
        key = f'{i % 10}/{i % 97:02d}/{3_000_000_000 + i},{900_000_000 + i}.jpg'.encode()
        listing.add('train', key, i % 14, ('x', i))
    text, ends = listing.packed()
    paths = PackedPaths('/data', text, ends)
    stored, _ = examine.examine_all(paths, map)
    total = text.nbytes + ends.nbytes + paths.index.nbytes
    total += sum(array.nbytes for name, array in stored.items() if name != 'colour')
    total += len(paths) * np.dtype('i').itemsize  # Labels.
    assert total <= 100 * len(paths)
    assert paths[9_999] == '/data/9/08/3000009999,900009999.jpg'


def test_the_stand_in_has_the_noise_it_says_and_is_made_again_to_the_byte(made, tmp_path):
    script = clothing_files.script()
    labels = np.random.default_rng(0).integers(14, size=20_000)
    T = script.confusion(labels)
    np.testing.assert_allclose(T.sum(axis=1), 1)
    assert (T >= 0).all()
    assert (np.diag(T) > T.max(axis=1, where=~np.eye(14, dtype=bool), initial=0)).all()
    assert np.abs(T - T.T).max() > 0.1
    given = script.noisy(labels, T, np.random.default_rng(1))
    counted = np.zeros((14, 14))
    np.add.at(counted, (labels, given), 1)
    np.testing.assert_allclose(counted / counted.sum(1, keepdims=True), T, atol=0.05)
    assert abs((given != labels).mean() - 0.385) < 0.015
    clothing_files.make(tmp_path / 'again')
    for path in made.rglob('*'):
        if path.is_file():
            assert (tmp_path / 'again' / path.relative_to(made)).read_bytes() == path.read_bytes()
