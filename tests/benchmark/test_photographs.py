"""The photographs on which reading is measured."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / 'reproduce/photographs.py'


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location('photographs', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(script, tmp_path, monkeypatch):
    """A package with the names of scikit-image's photographs, one of them too small to be cut."""
    data = tmp_path / 'packages/skimage/data'
    data.mkdir(parents=True)
    (data.parent / '__init__.py').touch()
    for i, name in enumerate(script.NAMES):
        Image.effect_noise((200 + 150 * i, 640), 50).convert('RGB').save(data / name)
    monkeypatch.syspath_prepend(data.parents[1])
    monkeypatch.setattr(script, 'FILES', 12)


def make(script, out, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['photographs.py', str(out)])
    script.main()
    return sorted(out.iterdir())


def size(path):
    with Image.open(path) as image:
        return image.size


def test_the_files_are_parts_of_the_package_and_the_same_in_every_call(
    script, package, tmp_path, monkeypatch, capsys
):
    first, again = (make(script, tmp_path / name, monkeypatch) for name in ('a', 'b'))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    sizes = [size(path) for path in first]
    assert len(set(sizes)) == len(first) == 12
    assert all(script.SIDES[0] <= side <= script.SIDES[1] for sides in sizes for side in sides)
    width, height = np.mean(sizes, axis=0)
    assert f'12 files of {width:.0f} x {height:.0f} pixels' in capsys.readouterr().out


def test_without_the_package_it_says_how_to_get_it(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit) as exited:
        make(script, tmp_path / 'a', monkeypatch)
    assert exited.value.code == 2
    assert 'pip install scikit-image' in capsys.readouterr().err
    assert not (tmp_path / 'a').exists()
