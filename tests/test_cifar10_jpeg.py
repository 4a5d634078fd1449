"""The script that makes a JPEG variant of CIFAR-10, on a small archive."""

import dataclasses
import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainer_jo.datasets import cifar10

SCRIPT = Path(__file__).parents[1] / 'reproduce/cifar10_jpeg.py'
BATCH = 20


@pytest.fixture
def script(monkeypatch):
    """The script as a module; CIFAR-10 has 20 images a batch while the test runs."""
    binary = dataclasses.replace(cifar10.BINARY, sizes=range(BATCH * 3073, BATCH * 3073 + 1))
    monkeypatch.setattr(cifar10, 'BATCH', BATCH)
    monkeypatch.setattr(cifar10, 'BINARY', binary)
    monkeypatch.setattr(cifar10, 'VERSIONS', (binary, cifar10.PYTHON))
    spec = importlib.util.spec_from_file_location('cifar10_jpeg', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def archive(tmp_path):
    """An archive of smooth images, and its records: ``(120, 3073)``, label first."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (6 * BATCH, 3, 4, 4), np.uint8)
    pixels = small.repeat(8, axis=2).repeat(8, axis=3).reshape(6 * BATCH, 3072)
    records = np.hstack([random.integers(0, 10, (6 * BATCH, 1), np.uint8), pixels])
    path = tmp_path / 'cifar-10-binary.tar.gz'
    with tarfile.open(path, 'w:gz') as file:
        for number, name in enumerate(cifar10.BINARY.batches):
            content = records[number * BATCH :][:BATCH].tobytes()
            member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path, records


def test_labels_and_order_stay_and_pixels_go_through_jpeg(
    script, archive, tmp_path, monkeypatch, capsys
):
    path, records = archive
    out = tmp_path / 'out'
    monkeypatch.setattr(sys, 'argv', ['cifar10_jpeg.py', str(path), str(out)])

    script.main()

    files = [out / 'cifar-10-batches-bin' / name for name in cifar10.BINARY.batches]
    made = np.frombuffer(b''.join(file.read_bytes() for file in files), np.uint8)
    made = made.reshape(records.shape)
    assert (made[:, 0] == records[:, 0]).all()
    difference = np.abs(made[:, 1:].astype(int) - records[:, 1:]).mean(axis=1)
    assert (difference > 0).all()
    assert difference.max() < 30
    assert 'not that of committed results' in capsys.readouterr().out


def test_an_image_has_quality_75_and_colour_at_half_resolution(script, monkeypatch):
    kept = []
    save = Image.Image.save

    def spy(image, file, *words, **options):
        save(image, file, *words, **options)
        kept.append(Image.open(io.BytesIO(file.getvalue())))

    monkeypatch.setattr(Image.Image, 'save', spy)
    image = np.random.default_rng(1).integers(0, 256, (3, 32, 32), np.uint8)
    decoded = script.through_jpeg(image)

    file = io.BytesIO()
    save(Image.new('RGB', (8, 8)), file, 'JPEG', quality=75)
    assert kept[0].quantization == Image.open(file).quantization
    assert [(h, v) for _, h, v, _ in kept[0].layer] == [(2, 2), (1, 1), (1, 1)]
    assert decoded.shape == (3, 32, 32)
    assert decoded.dtype == np.uint8
