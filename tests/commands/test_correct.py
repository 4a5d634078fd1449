"""correct and predict: from a folder of images to labels, a report, a net and a cleaned tree."""

import csv
import html.parser
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from narrow import ROOT, THREE_LINES, command
from PIL import Image

from chainer_jo import store
from chainer_jo.datasets import image_folder, label_sheet
from chainer_jo.report import label_table
from chainer_jo.training import trial

TINY = (
    '--device cpu --set net.filters=[4,4,4,4] --set net.stem_stride=4 --set ours.correct.epochs=2 '
    '--set ours.correct.begin=1 --set ours.fine_tune.epochs=1'
)
WRONG = 'dark/3.png'


def fill(folder, count=12):
    """Dark and bright images; one bright one lies among the dark ones."""
    rng = np.random.default_rng(0)
    for kind, level in (('dark', 20), ('bright', 220)):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            shade = 220 if f'{kind}/{i}.png' == WRONG else level
            pixels = rng.integers(-20, 20, (9, 9)) + shade
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f'{i}.png')


def content(folder):
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def corrected(tmp_path_factory):
    """Images, what the command wrote of them, and what it said."""
    root = tmp_path_factory.mktemp('corrected')
    fill(root / 'images')
    (root / 'images' / 'dark' / 'torn.png').write_bytes(b'\x89PNG torn')
    Image.new('L', (9, 9), 20).save(root / 'images' / 'loose.png')
    same = (root / 'images' / 'dark' / '1.png').read_bytes()
    (root / 'images' / 'bright' / 'as dark 1.png').write_bytes(same)
    (root / 'images' / 'bright' / '=cmd|1!A1 <b>.png').write_bytes(
        (root / 'images' / 'bright' / '2.png').read_bytes()
    )
    before = content(root / 'images')
    words = f'correct images --out out --apply clean {TINY}'
    done = command(words, root)
    assert done.returncode == 0, done.stderr
    assert content(root / 'images') == before
    return root, done, words


def rows(place):
    with open(place / 'labels.csv', newline='', encoding='utf-8-sig') as file:
        return {row['path']: row for row in csv.DictReader(file)}


def test_every_image_has_one_row_with_all_that_is_known(corrected):
    root, done, _ = corrected
    table = rows(root / 'out')
    assert len(table) == 28
    assert table['loose.png']['reason'] == 'not in a class folder'
    assert table['loose.png']['predicted_label'] in ('dark', 'bright')
    assert set(table) == {
        str(path.relative_to(root / 'images')) for path in (root / 'images').rglob('*.png')
    }
    assert table['dark/torn.png']['reason'].startswith('not an image')
    assert table['dark/torn.png']['label_score'] == ''
    judged = [row for row in table.values() if row['label_score']]
    assert {name for name, row in table.items() if not row['label_score']} == {
        'dark/torn.png', 'loose.png',
    }  # fmt: skip
    assert all(0 <= float(row['label_score']) <= 1 for row in judged)
    assert {row['split'] for row in judged} == {'train', 'held out'}
    assert all((row['is_label_issue'] == 'True') == (row['corrected_label'] != row['given_label'])
               for row in judged)  # fmt: skip
    assert re.match(r'\d+ of 26 labels \(.*\) in 2 classes are doubtful', done.stdout)
    assert 'images   26 of 2 classes (bright, dark), as 9 x 9 pixels; 2 left out' in done.stderr
    assert 'few      all classes have fewer than 100 images, such as dark with 12: ' in done.stderr
    assert re.search(r'time +about 0:00:\d\d of training', done.stderr)


def test_the_same_image_under_two_labels_is_an_error_of_one_of_them(corrected):
    table = rows(corrected[0] / 'out')
    pair = [table['dark/1.png'], table['bright/as dark 1.png']]
    assert len({row['duplicate_group'] for row in pair}) == 1
    assert pair[0]['reason'] == 'the same image as bright/as dark 1.png, which is bright'
    assert sorted(row['is_label_issue'] for row in pair) == ['False', 'True']
    assert len({row['corrected_label'] for row in pair}) == 1
    # The same twice with one label is a group without an error.
    assert table['bright/2.png']['duplicate_group']
    assert table['bright/2.png']['reason'] == ''


def test_the_commands_of_the_readme_do_what_they_say(corrected, call, tmp_path):
    section = (ROOT / 'README.md').read_text().partition('\n## Your own images')[2]
    lines = section.partition('```\n')[2].partition('```')[0].splitlines()
    commands = [line.partition('#')[0].partition('-m chainer_jo ')[2].strip() for line in lines]
    (tmp_path / 'FOLDER').symlink_to(corrected[0] / 'images')
    (tmp_path / 'IMAGE...').symlink_to(corrected[0] / 'images' / 'dark' / '0.png')
    # The first line makes .venv, in which this runs.
    for words in filter(None, commands):
        more = TINY if words.startswith('correct') else '--device cpu'
        code, out, said = call(f'{words} {more}')
        assert (code, bool(out)) == (0, True), said
    assert {path.name for path in tmp_path.iterdir()} >= {'DIR', 'CLEAN'}
    assert len(commands) == 4


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ('src', 'href', 'srcset', 'action')]


def test_the_report_is_one_file_that_asks_nothing_of_others(corrected):
    text = (corrected[0] / 'out' / 'report.html').read_text()
    page = Page(text)
    assert not {'script', 'link', 'iframe', 'object', 'form'} & set(page.tags)
    assert all(address.startswith(('data:image/', '#')) for address in page.addresses)
    assert 'url(' not in text
    assert '@import' not in text
    assert '<b>' not in text
    assert 'dark/torn.png' in text
    assert 'python -m chainer_jo correct images --out out --set' in text
    assert {'svg', 'table', 'img', 'h2'} <= set(page.tags)


def test_the_tree_has_every_judged_image_in_the_folder_of_its_label(corrected):
    root, _, _ = corrected
    found = {path.resolve(): path for path in (root / 'clean').rglob('*.png')}
    for name, row in rows(root / 'out').items():
        image = (root / 'images' / name).resolve()
        if row['label_score']:
            assert found[image].relative_to(root / 'clean').parts[0] == row['corrected_label']
            assert found[image].is_symlink()
        else:
            assert image not in found


def test_new_images_are_labelled_as_csv_and_as_json(corrected, call):
    root, _, _ = corrected
    words = 'predict out images/dark/0.png images/bright/0.png nowhere.png --device cpu'
    code, out, said = call(words, root)
    assert code == 0
    assert '1 of 3 images cannot be read' in said
    table = list(csv.DictReader(out.splitlines()))
    code, out, _ = call(f'{words} --json', root)
    assert [row['path'] for row in json.loads(out)] == [row['path'] for row in table]
    for row, text in zip(json.loads(out)[:2], table[:2], strict=True):
        assert abs(sum(row['probabilities'].values()) - 1) < 0.001
        assert row['predicted_label'] == max(row['probabilities'], key=row['probabilities'].get)
        assert float(text['dark']) == row['probabilities']['dark']
    assert table[2]['reason']
    code, out, _ = call('predict out images/dark --device cpu', root)
    names = [row['path'] for row in csv.DictReader(out.splitlines())]
    assert (code, names) == (
        0,
        [str(p.relative_to(root)) for p in sorted((root / 'images/dark').iterdir())],
    )
    code, _, said = call('predict out nowhere.png --device cpu', root)
    assert code == 3
    assert re.fullmatch(THREE_LINES, said)
    assert call('predict images images/dark/0.png --device cpu', root)[0] == 2


def test_a_human_s_answer_overrides_stays_and_is_trained_on(corrected, call, tmp_path):
    root, _, words = corrected
    words = words.replace(' --apply clean', ' --json').replace('--out out', f'--out {tmp_path}/out')
    assert call(words, root)[0] == 0
    place = tmp_path / 'out' / 'labels.csv'
    lines = place.read_text('utf-8-sig').splitlines()
    header = lines[0].split(',')
    # As a spreadsheet would save it: marks, semicolons, CRLF.
    table = list(csv.reader(lines))
    for row in table[1:]:
        if row[0] in (WRONG, 'dark/1.png'):
            row[header.index('final_label')] = 'bright'
    place.write_bytes(('\ufeff' + '\r\n'.join(';'.join(row) for row in table) + '\r\n').encode())
    code, out, said = call(words, root)
    assert code == 0
    assert '2 with a final_label' in said
    found = rows(tmp_path / 'out')
    for name in (WRONG, 'dark/1.png'):
        assert found[name]['corrected_label'] == found[name]['final_label'] == 'bright'
        assert found[name]['given_label'] == 'dark'
    assert found['bright/as dark 1.png']['is_label_issue'] == 'False'
    assert json.loads(out)['answered'] == 2
    # Other labels are another trial.
    runs = tmp_path / 'out' / 'runs'
    assert len(list(runs.iterdir())) == 2
    # Correction has left them alone, and no others.
    y = store.read_arrays(runs / json.loads(out)['trial'] / 'labels.arrays')['y']
    trained = [found[name]['split'] == 'train' for name in (WRONG, 'dark/1.png')]
    assert (y.max(axis=1) == 1).sum() == sum(trained) > 0
    answered = 'dark/1.png,dark,bright,bright,'
    text = place.read_text().replace(f'{answered}bright', f'{answered}BRIGHT')
    place.write_text(text)
    before = place.read_bytes()
    code, _, said = call(words, root)
    assert code == 3
    assert 'such as bright' in said
    assert place.read_bytes() == before


def test_what_was_stopped_goes_on_to_the_same_labels(corrected, call, tmp_path, monkeypatch):
    root, _, words = corrected
    words = words.replace(' --apply clean', '').replace('--out out', f'--out {tmp_path}/out')
    real = trial.Observer

    def stopping(start, epoch, *rest):
        def stop(row):
            epoch(row)
            if row['epoch'] == 2:
                signal.raise_signal(signal.SIGTERM)

        return real(start, stop, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trial, 'Observer', stopping)
        code, _, said = call(words, root)
    assert code == 128 + signal.SIGTERM
    assert not (tmp_path / 'out' / 'labels.csv').exists()
    code, _, said = call(words, root)
    assert code == 0
    assert 'resumes after epoch 2 of 3' in said
    assert 'of training, from' not in said
    assert rows(tmp_path / 'out') == rows(root / 'out')


def test_colour_photographs_of_a_table_are_streamed_to_the_same_labels(call, tmp_path, monkeypatch):
    rng, lines = np.random.default_rng(1), ['path;label']
    (tmp_path / 'photos' / 'deep').mkdir(parents=True)
    for i in range(24):
        pixels = rng.integers(0, 40, (14 + i % 3, 12, 3)) + [0, 200 * (i % 2), 100]
        name = f'deep/{i}.jpg' if i % 4 else f'{i}.webp'
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / 'photos' / name)
        lines.append(f'{name};{("a/b", "é")[i % 2]}')
    (tmp_path / 'photos.csv').write_bytes('\r\n'.join(lines).encode('utf-8-sig'))
    words = f'correct photos --labels photos.csv --apply tree{{0}} --out out{{0}} {TINY}'
    assert call(words.format(1))[0] == 0
    monkeypatch.setattr(image_folder, 'RESIDENT_BYTES', 0)
    assert call(words.format(2))[0] == 0
    assert rows(tmp_path / 'out1') == rows(tmp_path / 'out2')
    assert {path.name for path in (tmp_path / 'tree2').iterdir()} == {'a%2Fb', 'é'}


def test_copies_are_files_of_their_own_and_a_tree_in_the_way_is_kept(corrected, call, tmp_path):
    root, _, words = corrected
    words = words.replace('--apply clean', f'--apply {tmp_path}/tree --copies')
    assert call(words, root)[0] == 0
    copies = [path for path in (tmp_path / 'tree').rglob('*.png') if not path.is_symlink()]
    assert len(copies) == 26
    assert os.listdir(tmp_path) == ['tree']
    code, _, said = call(words, root)
    assert code == 2
    assert 'not empty' in said


def test_only_classes_below_a_hundred_images_are_called_small(call, tmp_path):
    fill(tmp_path / 'images', 100)
    words = f'correct images --out out {TINY}'
    assert '\nfew ' not in call(words)[2]
    (tmp_path / 'images' / 'bright' / '7.png').unlink()
    warning = 'few      1 of 2 classes have fewer than 100 images, such as bright with 99: '
    assert warning in call(words)[2]


@pytest.mark.parametrize(('largest', 'warned'), [(4095, True), (65535, False)])
def test_images_of_12_bits_in_files_of_16_are_called_flat(largest, warned, call, tmp_path):
    rng = np.random.default_rng(0)
    for kind in ('a', 'b'):
        (tmp_path / 'images' / kind).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, largest, (9, 9), endpoint=True).astype(np.uint16)
            pixels[0, 0], pixels[0, 1] = 0, largest
            Image.fromarray(pixels).save(tmp_path / 'images' / kind / f'{i}.png')
    said = call(f'correct images --out out {TINY}')[2]
    assert ('the pixels of all images lie from 0 to 15 of 255' in said) == warned
    assert ('\nflat ' in said) == warned


def test_a_tree_that_cannot_be_written_is_refused_before_training(call, tmp_path):
    fill(tmp_path / 'images', 4)
    (tmp_path / 'file').write_bytes(b'')
    for place in ('/proc/clean', 'file/clean', 'x' * 256):
        code, _, err = call(f'correct images --out out --apply {place} {TINY}')
        assert code == 6
        assert f'cannot write {place}' in err
    assert not (tmp_path / 'out').exists()


def test_columns_of_the_users_own_stay_in_the_table(call, tmp_path):
    fill(tmp_path / 'images', 4)
    words = f'correct images --out out {TINY}'
    assert call(words)[0] == 0
    place = tmp_path / 'out' / 'labels.csv'
    table = label_sheet.read(place, own=True)
    table[3] |= {'comment': '=looks odd', 'seen by': 'Ann'}
    place.write_bytes(label_table.written(table))
    assert call(words)[0] == 0
    again = label_sheet.read(place, own=True)
    assert list(again[0]) == [*label_table.COLUMNS, 'comment', 'seen by']
    assert [
        (row['comment'], row['seen by']) for row in again if row['path'] == table[3]['path']
    ] == [('=looks odd', 'Ann')]
    assert {row['comment'] for row in again} == {'', '=looks odd'}


def test_a_file_in_the_place_of_the_tree_is_refused_before_training(call, tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'clean').write_bytes(b'kept')
    code, _, err = call(f'correct images --out out --apply clean {TINY}')
    assert code == 2
    assert 'clean exists already' in err
    assert (tmp_path / 'clean').read_bytes() == b'kept'


def test_names_that_are_no_plain_words_come_back_from_the_table_as_they_were(call, tmp_path):
    fill(tmp_path / 'images', 4)
    kinds = {'dark': '=dark\n"1"', 'bright': '-bright; é,'}
    names = ['=1+1.png', 'a\nb,"c".png', " 'd\r.png", os.fsdecode(b'caf\xe9;.png')]
    for old, kind in kinds.items():
        (tmp_path / 'images' / old).rename(tmp_path / 'images' / kind)
        for i, name in enumerate(names):
            (tmp_path / 'images' / kind / f'{i}.png').rename(tmp_path / 'images' / kind / name)
    before, words = content(tmp_path / 'images'), f'correct images --out out --apply clean {TINY}'
    assert call(words)[0] == 0
    place = tmp_path / 'out' / 'labels.csv'
    table = label_sheet.read(place, own=True)
    paths = [f'{kind}/{name}' for kind in kinds.values() for name in names]
    assert sorted(row['path'] for row in table) == sorted(paths)
    assert {row['given_label'] for row in table} == set(kinds.values())
    for row in table:
        assert (tmp_path / 'clean' / row['corrected_label']).is_dir()
        row['final_label'] = row['given_label']
    place.write_bytes(label_table.written(table))
    assert call(words.replace('--apply clean', '--apply true --copies'))[0] == 0
    written = content(tmp_path / 'true')
    assert {str(path): data for path, (data, _) in written.items()} == {
        str(path): data for path, (data, _) in before.items()
    }
    assert content(tmp_path / 'images') == before


def test_a_disk_that_is_really_full_loses_nothing(call, tmp_path):
    fill(tmp_path / 'images')
    before, words = content(tmp_path / 'images'), f'correct images --out out {TINY}'

    def full_after(size, more=''):
        done = subprocess.run(
            [sys.executable, '-m', 'chainer_jo', *shlex.split(words + more)],
            cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True,
            text=True, check=False,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size)),
        )  # fmt: skip
        assert done.returncode == 6, done.stderr
        assert re.search(THREE_LINES, done.stderr)
        assert not list(tmp_path.rglob('.*.tmp'))

    full_after(1000)
    assert call(words)[0] == 0
    whole = content(tmp_path / 'out')
    # The report, which is larger than all that comes before it.
    full_after((tmp_path / 'out' / 'report.html').stat().st_size - 1000, ' --apply clean')
    assert {path: data for path, (data, _) in content(tmp_path / 'out').items()} == {
        path: data for path, (data, _) in whole.items()
    }
    assert not (tmp_path / 'clean').exists()
    assert content(tmp_path / 'images') == before


@pytest.mark.parametrize(
    ('words', 'code', 'hint'),
    [
        ('correct nowhere --out out', 2, 'nothing of that name'),
        ('correct images --out images/out', 2, '--out is inside'),
        ('correct images --out images', 2, '--out is inside'),
        ('correct images --out out --apply images/dark/new', 2, '--apply is inside'),
        ('correct link --out images/out', 2, '--out is inside'),
        ('correct images --out out --apply ./out', 2, '--out is the folder'),
        ('correct images --out new/out --apply new', 2, '--out is the folder'),
        ('correct images --out out --copies', 2, 'add --apply'),
        ('correct empty --out out', 2, 'an empty folder'),
        ('correct images/dark --out out', 2, 'of each class into a separate folder'),
        ('correct images images --out out', 2, 'chainer_jo correct --help'),
        ('correct one --out out', 2, 'one class, dark; bright/0.heic: not an image of a known'),
        ('correct images --out out --size 4', 2, '8 to 512'),
        ('correct images --out out --threshold 80', 2, 'fraction'),
        ('correct images --out out --threshold high', 2, 'high is not a fraction'),
        ('correct images --out out --labels nowhere.csv', 3, 'No such file'),
        ('correct images --out out --labels other.csv', 3, 'no column of paths'),
        ('correct images --out out --labels twice.csv', 3, 'dark/1.png has the labels a and b'),
        ('correct images --out out --labels absent.csv', 3, 'such as dark/0.png'),
        ('correct images --out out --set net.width=3', 2, 'unknown setting'),
        ('correct images --out out --labels one.csv', 2, '1 images that can be used'),
    ],
)  # fmt: skip
def test_what_cannot_be_corrected_is_said_in_three_lines_and_writes_nothing(
    refused, tmp_path, words, code, hint
):
    fill(tmp_path / 'images', 5)
    fill(tmp_path / 'one', 5)
    for path in (tmp_path / 'one' / 'bright').iterdir():
        path.write_bytes(b'....ftypheic')
        path.rename(path.with_suffix('.heic'))
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'images')
    (tmp_path / 'other.csv').write_text('foto,kind\na,b\n')
    (tmp_path / 'twice.csv').write_text('path,label\ndark/1.png,a\ndark/1.png,b\n')
    (tmp_path / 'absent.csv').write_text('path,label\n/x/1.png,a\n')
    (tmp_path / 'one.csv').write_text('path,label\ndark/1.png,a\n')
    found, said = refused(words)
    assert (found, hint in said) == (code, True), said
