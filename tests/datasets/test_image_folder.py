"""A folder of images of any kind: what is found, what is left out and why, and what is the same."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from chainer_jo.datasets import decode, image_folder
from chainer_jo.errors import ConfigError, DataError


def save(path, colour=(10, 20, 30), size=(12, 9), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new('RGB', size, colour)
    image.putpixel((0, 0), (255, 255, 255))
    image.save(path, **options)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'images'
    for i in range(3):
        save(root / 'cat' / f'{i}.png', (i, 0, 0))
        save(root / 'dog' / 'deep' / f'{i}.png', (0, i + 1, 0))
    return root


def examined(folder, labels=None, **options):
    found = image_folder.find(folder, labels)
    return found, image_folder.examine(found, map, **options)


def test_sub_folders_are_classes_and_every_image_has_a_row(folder):
    save(folder / 'loose.png')
    (folder / 'cat' / 'notes.txt').write_text('no image')
    (folder / 'cat' / '.hidden.png').write_text('')
    (folder / 'cat' / 'broken.jpg').write_bytes(b'\xff\xd8\xff')
    (folder / 'dog' / 'empty.png').write_bytes(b'')
    found, dataset = examined(folder)
    assert {row.path: row.reason for row in found.rows if row.reason} == {
        'loose.png': 'not in a class folder',
        'cat/broken.jpg': 'not an image of a known format',
        'dog/empty.png': 'empty',
    }
    assert found.others == 1
    assert [row.path for row in found.rows] == sorted(row.path for row in found.rows)
    assert dataset.classes == ('cat', 'dog')
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.train.shape == (3, 12, 12)


def test_images_that_differ_in_what_the_net_does_not_see_are_not_the_same(folder):
    pixels = np.arange(108).reshape(9, 12)
    icon = Image.new('RGBA', (12, 9))
    for i in range(2):
        # Eight bits of content in sixteen, and black shapes on nothing.
        Image.fromarray((pixels + i).astype('u2')).save(folder / 'cat' / f'deep{i}.png')
        icon.putpixel((i, i), (0, 0, 0, 255))
        icon.save(folder / 'cat' / f'icon{i}.png')
    opaque = Image.new('RGB', (12, 9), (1, 2, 3))
    opaque.save(folder / 'cat' / 'opaque.png')
    opaque.convert('RGBA').save(folder / 'dog' / 'opaque.png')
    found, _ = examined(folder)
    groups = image_folder.same([found.rows[i].digest for i in found.usable])
    same = {found.rows[i].path for i, group in zip(found.usable, groups, strict=True) if group}
    assert same == {'cat/opaque.png', 'dog/opaque.png'}


def test_a_link_does_not_take_the_images_of_a_real_folder(folder):
    (folder / 'zebra').mkdir()
    (folder / 'zebra' / 'more').symlink_to('../cat')
    (folder / 'felines').symlink_to('cat')
    _, dataset = examined(folder)
    assert dataset.classes == ('cat', 'dog')
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_an_answer_during_training_is_kept_and_used_only_by_the_next(folder):
    save(folder / 'loose.png')
    found, dataset = examined(folder)
    image_folder.answer(found, {'loose.png': 'cat', 'a gone one.png': 'dog'})
    assert len(found.usable) == len(dataset.train) == 6
    assert [row.final for row in found.rows if row.final] == ['dog', 'cat']
    found = image_folder.find(folder)
    image_folder.answer(found, {'loose.png': 'cat'})
    assert image_folder.examine(found, map).train.labels.tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert found.known.tolist() == [False] * 6 + [True]


def test_an_answer_that_is_taken_back_during_training_is_gone(folder):
    found = image_folder.find(folder)
    image_folder.answer(found, {'cat/0.png': 'dog', 'cat/1.png': 'dog', 'a gone one.png': 'dog'})
    dataset = image_folder.examine(found, map)
    image_folder.answer(found, {'cat/1.png': 'dog', 'cat/2.png': 'dog'})
    assert {row.path: row.final for row in found.rows if row.final} == {
        'cat/1.png': 'dog', 'cat/2.png': 'dog',
    }  # fmt: skip
    assert len(found.rows) == 6
    labels, known = image_folder.reviewed(found, dataset.classes, dataset.train.labels)
    assert dataset.train.labels.tolist() == [1, 1, 0, 1, 1, 1]
    assert labels.tolist() == [0, 1, 1, 1, 1, 1]
    assert known.tolist() == [False, True, True, False, False, False]


def test_a_label_of_a_class_that_was_not_trained_changes_nothing(folder):
    save(folder / 'bird' / '0.png')
    found = image_folder.find(folder)
    image_folder.answer(found, {'bird/0.png': 'cat'})
    dataset = image_folder.examine(found, map)
    for finals in ({}, {'bird/0.png': 'bird'}):
        image_folder.answer(found, finals)
        labels, known = image_folder.reviewed(found, dataset.classes, dataset.train.labels)
        assert labels.tolist() == dataset.train.labels.tolist()
        assert not known.any()


def test_a_class_whose_name_ends_with_a_space_can_be_answered(folder):
    (folder / 'cat').rename(folder / 'cat ')
    found = image_folder.find(folder)
    for written in ('cat ', 'cat', ' cat'):
        image_folder.answer(found, {'dog/deep/0.png': written})
        assert [row.final for row in found.rows if row.final] == ['cat ']


def test_a_table_saved_in_another_encoding_is_refused(folder, tmp_path):
    (folder / 'dog').rename(folder / 'zoë')
    found = image_folder.find(folder)
    damaged = 'zoë'.encode('cp1252').decode('utf-8', 'surrogateescape')
    for finals in ({f'{damaged}/deep/0.png': 'cat'}, {'cat/0.png': damaged}):
        with pytest.raises(DataError, match='is not UTF-8'):
            image_folder.answer(found, finals)
    rows = ['path,label', 'cat/0.png,a', 'cat/1.png,b', 'zoë/deep/0.png,a']
    (tmp_path / 'l.csv').write_text('\n'.join(rows), encoding='cp1252')
    with pytest.raises(DataError, match='l.csv is not UTF-8'):
        image_folder.find(folder, tmp_path / 'l.csv')
    # The names of files need not be UTF-8; these are the same in both.
    name = os.fsdecode(b'caf\xe9.png')
    save(folder / 'cat' / name)
    found = image_folder.find(folder)
    image_folder.answer(found, {f'cat/{name}': 'cat'})
    assert sum(bool(row.final) for row in found.rows) == 1


def test_a_csv_gives_labels_and_what_it_names_beside_the_images_has_a_reason(folder, tmp_path):
    rows = [f'{place},x' for place in ('cat/0.png', 'cat/1.png', '../out.png', 'gone.png')]
    rows += [f'dog/deep/{i}.png,"y, z"' for i in range(3)]
    (tmp_path / 'l.csv').write_text('\n'.join(['path,label', *rows]))
    found, dataset = examined(folder, tmp_path / 'l.csv')
    assert dataset.classes == ('x', 'y, z')
    assert {row.path: row.reason for row in found.rows if row.reason} == {
        '../out.png': 'leads out of the folder',
        'cat/2.png': 'no label given',
        'gone.png': 'missing',
    }


@pytest.mark.parametrize('forms', [('NFD', 'NFC'), ('NFC', 'NFD')])
def test_accents_in_a_csv_may_be_written_as_one_character_or_as_two(forms, tmp_path):
    names = ['café.png', 'cafe.png', 'naïve.png', 'über.png']
    on_disk, listed = ([unicodedata.normalize(form, name) for name in names] for form in forms)
    for name in on_disk:
        save(tmp_path / 'images' / name, (90, 90, 90), (8, 8))
    lines = [f'{name},{label}' for name, label in zip(listed, 'abab', strict=True)]
    (tmp_path / 'l.csv').write_text('\n'.join(['path,label', *lines]))
    found = image_folder.find(tmp_path / 'images', tmp_path / 'l.csv')
    assert {row.path: row.label for row in found.rows} == dict(zip(on_disk, 'abab', strict=True))


def test_an_image_is_turned_as_exif_says_and_clothing1m_s_is_not(folder):
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 6
    save(folder / 'cat' / 'turned.jpg', (90, 90, 90), (8, 16), exif=exif, quality=95)
    stored = decode.decode(folder / 'cat' / 'turned.jpg', 3, (16, 8))
    upright = decode.decode(folder / 'cat' / 'turned.jpg', 3, (8, 16), upright=True)
    assert (upright == np.rot90(stored, -1, axes=(1, 2))).all()
    found, _ = examined(folder)
    whole = Image.open(folder / 'cat' / 'turned.jpg')
    Image.fromarray(np.rot90(np.asarray(whole), -1)).save(folder / 'dog' / 'upright.png')
    found, _ = examined(folder)
    group = image_folder.same([row.digest for row in found.rows])
    assert [row.path for row, g in zip(found.rows, group, strict=True) if g] == [
        'cat/turned.jpg', 'dog/upright.png',
    ]  # fmt: skip


def test_all_eight_orientations_are_those_of_pillow():
    from PIL import ImageOps

    pixels = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for way in range(1, 9):
        exif = Image.Exif()
        exif[decode.ORIENTATION] = way
        image = pixels.copy()
        image.info['exif'] = exif.tobytes()
        expected = ImageOps.exif_transpose(image)
        assert (np.asarray(decode.turned(pixels, image)) == np.asarray(expected)).all(), way


def test_images_of_all_modes_are_read_and_grey_ones_alone_have_one_channel(folder, tmp_path):
    grey = tmp_path / 'grey'
    for name, mode in enumerate(['L', 'I;16', '1', 'LA']):
        for kind in ('a', 'b'):
            (grey / kind).mkdir(parents=True, exist_ok=True)
            Image.new(mode, (8, 8)).save(grey / kind / f'{name}.png')
    assert examined(grey)[1].train.shape == (1, 8, 8)
    frames = [Image.new('P', (8, 8), i) for i in range(3)]
    frames[0].save(folder / 'cat' / 'a.gif', save_all=True, append_images=frames[1:])
    for mode, name in (('CMYK', 'c.jpg'), ('RGBA', 'r.webp'), ('LA', 'l.png')):
        Image.new(mode, (8, 8)).save(folder / 'cat' / name)
    found, dataset = examined(folder)
    assert [row.reason for row in found.rows] == [''] * 10
    assert dataset.train.shape[0] == 3


def test_floating_point_pixels_are_refused_because_white_may_be_1_or_255(folder):
    Image.new('F', (8, 8), 0.9).save(folder / 'cat' / 'f.tiff')
    found, _ = examined(folder)
    assert {row.path: row.reason for row in found.rows if row.reason} == {
        'cat/f.tiff': decode.FLOATS
    }
    with pytest.raises(DataError) as raised:
        decode.decode(folder / 'cat' / 'f.tiff', 1, (8, 8))
    assert raised.value.seen == decode.FLOATS


def test_a_set_that_is_too_large_is_read_while_it_is_needed(folder, monkeypatch):
    resident = examined(folder)[1].train
    monkeypatch.setattr(image_folder, 'RESIDENT_BYTES', 100)
    streamed = examined(folder)[1].train
    index, offset = np.array([4, 0]), np.zeros((2, 2), int)
    assert streamed.resident() is None
    assert (streamed.read(index, offset) == resident.read(index, offset)).all()


def test_an_enormous_image_and_a_fifo_are_rows_with_a_reason(folder):
    Image.new('1', (10_000, 9_000)).save(folder / 'cat' / 'huge.png')
    os.mkfifo(folder / 'cat' / 'pipe.png')
    found, _ = examined(folder)
    reasons = {row.path: row.reason for row in found.rows if row.reason}
    assert reasons == {'cat/huge.png': 'too large', 'cat/pipe.png': 'not a file'}


def test_neither_a_pipe_without_an_ending_nor_a_link_to_itself_stops_the_search(folder):
    os.mkfifo(folder / 'cat' / 'pipe')
    before = [row.path for row in image_folder.find(folder).rows]
    (folder / 'cat' / '0self.png').symlink_to('0self.png')
    found, _ = examined(folder)
    assert [row.path for row in found.rows] == sorted(['cat/0self.png', *before])
    assert [row.path for row in found.rows if row.reason] == ['cat/0self.png']
    with pytest.raises(DataError, match='pipe'):
        decode.decode(folder / 'cat' / 'pipe', 3, (8, 8))


def test_a_folder_that_may_not_be_listed_is_named_and_not_left_out(folder, monkeypatch):
    listed = os.scandir

    def refuse(path):
        if str(path).endswith('dog'):
            raise PermissionError(13, 'Permission denied', path)
        return listed(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(DataError) as raised:
        image_folder.find(folder)
    assert str(folder / 'dog') in raised.value.problem
    assert raised.value.seen == 'Permission denied'


def test_links_are_followed_and_a_circle_of_them_ends(folder, tmp_path):
    (tmp_path / 'links').mkdir()
    for kind in ('cat', 'dog'):
        (tmp_path / 'links' / kind).symlink_to(folder / kind)
    (folder / 'cat' / 'up').symlink_to(folder / 'cat')
    assert len(image_folder.find(tmp_path / 'links').rows) == 6


@pytest.mark.parametrize(
    'name', ['=1+1.png', 'a\nb.png', 'ü "q".png', "'.png", os.fsdecode(b'caf\xe9.png')]
)
def test_a_name_of_any_kind_is_read(folder, name):
    save(folder / 'cat' / name)
    found, _ = examined(folder)
    assert f'cat/{name}' in [row.path for row in found.rows if not row.reason]


def test_the_side_is_the_median_within_limits():
    assert image_folder.side([(28, 28)] * 3) == 28
    assert image_folder.side([(300, 200)] * 3) == 64
    assert image_folder.side([(3, 2)]) == 8


@pytest.mark.parametrize(
    ('make', 'seen'),
    [
        (lambda f: f / 'nowhere', 'nothing of that name'),
        (lambda f: f / 'cat' / '0.png', 'a file'),
        (lambda f: f / 'cat', '0 images that can be used; 0.png: not in a class folder'),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(folder, make, seen):
    with pytest.raises(ConfigError) as raised:
        examined(make(folder))
    assert seen in raised.value.seen


def test_an_empty_folder_one_class_and_too_many_are_refused(folder, tmp_path, monkeypatch):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ConfigError, match='no images'):
        examined(tmp_path / 'empty')
    monkeypatch.setattr(image_folder, 'MOST_CLASSES', 1)
    with pytest.raises(ConfigError) as raised:
        examined(folder)
    assert '2 classes' in raised.value.seen
    for i in range(3):
        (folder / 'dog' / 'deep' / f'{i}.png').rename(folder / 'cat' / f'd{i}.png')
    with pytest.raises(ConfigError) as raised:
        examined(folder)
    assert 'one class, cat' in raised.value.seen


def test_a_csv_of_other_paths_is_refused(folder, tmp_path):
    (tmp_path / 'l.csv').write_text('path,label\n/abs/0.png,x\n')
    with pytest.raises(DataError) as raised:
        image_folder.find(folder, tmp_path / 'l.csv')
    assert '/abs/0.png' in raised.value.seen


def test_the_same_images_under_other_class_names_are_other_data(tmp_path):
    digests = []
    for names in (('cat', 'dog'), ('hen', 'owl')):
        root = tmp_path / names[0]
        for c, name in enumerate(names):
            for i in range(3):
                save(root / name / f'{i}.png', (i, 10 * c, 0))
        digests.append(examined(root)[1].digest)
    assert digests[0] != digests[1]
