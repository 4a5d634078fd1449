import json

import pytest
from PIL import Image

from chainer_jo import cli
from chainer_jo.benchmark import decoding
from chainer_jo.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'files' / 'deep').mkdir(parents=True)
    for i in range(40):
        name = ('a.JPG', 'deep/b.jpeg')[i % 2].replace('.', f'{i}.')
        image = Image.effect_noise((300 + i, 280), 50).convert('RGB')
        image.save(tmp_path / 'files' / name, format='JPEG')
    (tmp_path / 'files' / 'damaged.jpg').write_bytes(b'no image')
    (tmp_path / 'files' / 'list.txt').write_text('no image either')
    return tmp_path / 'files'


def test_both_ways_read_the_files_that_can_be_read_and_are_compared(folder, tmp_path, capsys):
    out = tmp_path / 'out'
    words = ['benchmark', '--decoding', str(folder), '--steps', '2', '--out', str(out)]
    with pytest.raises(SystemExit) as exited:
        cli.main(words)
    assert exited.value.code == 0
    report = json.loads((out / 'decoding.json').read_text())
    assert report['files'] == 40
    assert report['mean_sides'] == [319.5, 280.0]
    bare, read = report['rows']
    assert bare['share'] == 1
    assert read['share'] == pytest.approx(read['images_per_second'] / bare['images_per_second'])
    text = (out / 'decoding.md').read_text()
    assert text.strip() in capsys.readouterr().out
    assert '40 JPEG files of 320 x 280 pixels' in text


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
    assert sorted(loaded) == [(300 + i, 280) for i in range(40)]
    decoding._read(paths)()
    assert sum(len(batch) for batch in read) == len(paths)
    assert {batch.shape[1:] for batch in read} == {(3, 224, 224)}


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='no .jpg file'):
        decoding.run(tmp_path, 1, tmp_path / 'out', print)
