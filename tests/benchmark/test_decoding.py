import json
import time

import numpy as np
import pytest
import tiny
from PIL import Image

from chainer_jo import cli
from chainer_jo.benchmark import decoding, overlap
from chainer_jo.datasets import fast_decode
from chainer_jo.datasets.source import ArrayImages
from chainer_jo.errors import ConfigError

N = 70


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'files' / 'deep').mkdir(parents=True)
    for i in range(N):
        name = ('a.JPG', 'deep/b.jpeg')[i % 2].replace('.', f'{i}.')
        image = Image.effect_noise((300 + i, 280), 50).convert('RGB')
        image.save(tmp_path / 'files' / name, format='JPEG')
    (tmp_path / 'files' / 'damaged.jpg').write_bytes(b'no image')
    (tmp_path / 'files' / 'list.txt').write_text('no image either')
    return tmp_path / 'files'


@pytest.fixture
def small_net(monkeypatch):
    """In place of ResNet-50."""
    changes = [*tiny.overrides('cross_entropy', 'clothing1m'), 'common.train_images="all"']
    settings = {'preset': 'quick', 'overrides': [*changes, f'common.batch_size={overlap.BATCH}']}
    monkeypatch.setattr(overlap, 'SETTINGS', settings)


def test_all_ways_read_the_files_that_can_be_read_and_are_compared(
    folder, small_net, tmp_path, capsys
):
    out = tmp_path / 'out'
    words = f'benchmark --decoding {folder} --steps 2 --out {out} --device cpu'
    with pytest.raises(SystemExit) as exited:
        cli.main(words.split())
    assert exited.value.code == 0
    report = json.loads((out / 'decoding.json').read_text())
    assert report['files'] == N
    assert report['mean_sides'] == [300 + (N - 1) / 2, 280.0]
    rows = {row['what']: row for row in report['rows']}
    bare = rows[decoding.BARE]
    assert bare['share'] == 1
    for row in rows.values():
        rate = row['images_per_second']
        assert row['share'] == pytest.approx(rate / bare['images_per_second'])
    by_pillow = rows[decoding.READ['pillow']]['images_per_second']
    resizing = rows[decoding.RESIZE]['images_per_second']
    assert report['resize_share'] == pytest.approx(by_pillow / resizing)
    assert 0 < report['difference']['mean'] < report['difference']['largest'] <= 2
    assert [row['step'] for row in report['epochs']] == ['ResNet-50', 'waiting for a device']
    for row in report['epochs']:
        longer = max(row['resident'], row['reading'])
        assert row['ratio'] == pytest.approx(row['streamed'] / longer)
    text = (out / 'decoding.md').read_text()
    assert text.strip() in capsys.readouterr().out
    assert f'{N} JPEG files of 334 x 280 pixels' in text


def test_without_the_faster_decoder_the_page_says_how_to_get_it(
    folder, small_net, tmp_path, monkeypatch
):
    monkeypatch.setattr(fast_decode, 'missing', lambda: ['simplejpeg'])
    report = decoding.run(folder, 'cpu', 1, tmp_path, print)
    assert [report['difference'], report['epochs_by']] == [None, 'pillow']
    assert 'pip install ".[turbojpeg]"' in (tmp_path / 'decoding.md').read_text()


class SlowImages(ArrayImages):
    """Read as from files, which takes time and no processor."""

    def read(self, index, offset):
        time.sleep(0.04)
        return super().read(index, offset)

    def resident(self):
        return None


def test_an_epoch_that_reads_while_it_computes_is_shorter_than_both_after_one_another(small_net):
    images = np.zeros((20 * overlap.BATCH, 3, 8, 8), np.uint8)
    source = SlowImages(images, np.zeros(len(images), 'i'))
    _, waiting = overlap.measure(source, 'cpu', 1, print)
    step, reading, streamed = (
        sum(getattr(waiting, name)) for name in ('resident', 'reading', 'streamed')
    )
    assert 0.9 * max(step, reading) < streamed < 0.8 * (step + reading)
    assert waiting.ratio == pytest.approx(streamed / max(step, reading))


def test_the_bare_way_decodes_every_pixel_of_every_file_and_the_other_one_crops(
    folder, monkeypatch
):
    loaded, read = [], []
    real = decoding.ImageFiles.read
    monkeypatch.setattr(
        'PIL.JpegImagePlugin.JpegImageFile.load_end',
        lambda image: loaded.append(image.size), raising=False,
    )  # fmt: skip
    monkeypatch.setattr(
        decoding.ImageFiles, 'read',
        lambda self, index, offset: read.append(real(self, index, offset)) or read[-1],
    )  # fmt: skip
    paths = sorted(path for path in folder.rglob('*.*') if path.suffix.lower() != '.txt')
    paths = [path for path in paths if 'damaged' not in path.name]
    decoding._bare(paths)()
    assert sorted(loaded) == [(300 + i, 280) for i in range(N)]
    decoding._read(decoding._source(paths, 'pillow'))()
    assert sum(len(batch) for batch in read) == len(paths)
    assert {batch.shape[1:] for batch in read} == {(3, 224, 224)}


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='0 readable .jpg files'):
        decoding.run(tmp_path, 'cpu', 1, tmp_path / 'out', print)
