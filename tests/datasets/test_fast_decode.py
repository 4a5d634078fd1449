"""The faster decoder beside Pillow, on photographs, on noise, and on what it leaves to Pillow."""

import concurrent.futures
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_image_files import smooth

from chainer_jo.datasets import decode, fast_decode
from chainer_jo.errors import ConfigError, DataError

LEVELS = 2  # As D-55 says.


@pytest.fixture
def by_pillow(monkeypatch):
    """The paths that were left to Pillow."""
    seen, real = [], decode.decode
    monkeypatch.setattr(
        decode, 'decode', lambda path, *arguments: seen.append(path) or real(path, *arguments)
    )
    return seen


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_part_of_any_jpeg_is_that_of_pillow_to_two_levels(data, tmp_path_factory):
    draw, path = data.draw, tmp_path_factory.getbasetemp() / 'fast.jpg'
    height, width = draw(st.integers(16, 500)), draw(st.integers(16, 500))
    pixels = smooth(height, width, draw(st.sampled_from([0, 12, 200])))
    kind = {'quality': draw(st.integers(30, 95)), 'subsampling': draw(st.integers(0, 2))}
    Image.fromarray(pixels).convert(draw(st.sampled_from(['RGB', 'L']))).save(
        path, progressive=draw(st.booleans()), **kind
    )
    size = draw(st.sampled_from([(256, 256), (36, 36), (48, 31)]))
    crop = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
    corner = draw(st.integers(0, size[0] - crop[0])), draw(st.integers(0, size[1] - crop[1]))
    exact = decode.decode(path, 3, size, crop, corner).astype(int)
    fast = fast_decode.decode(path, 3, size, crop, corner)
    assert (fast.shape, fast.dtype) == (exact.shape, np.uint8)
    assert np.abs(fast - exact).max() <= LEVELS
    whole = np.asarray(Image.open(path).convert('RGB'))
    mine = fast_decode._pixels(path, (256, 256))
    np.testing.assert_array_equal(mine, whole)


def test_a_jpeg_of_the_wanted_size_has_the_very_pixels_of_pillow(tmp_path, by_pillow):
    Image.fromarray(smooth(64, 48)).save(tmp_path / 'x.jpg')
    arguments = tmp_path / 'x.jpg', 3, (64, 48), (40, 30), (7, 11)
    fast = fast_decode.decode(*arguments)
    assert by_pillow == []
    np.testing.assert_array_equal(fast, decode.decode(*arguments))


@pytest.mark.parametrize('size', [(64, 48), (40, 30)])
def test_an_image_stays_as_it_is_when_the_next_one_is_decoded(size, tmp_path):
    Image.fromarray(smooth(64, 48)).save(tmp_path / 'one.jpg')
    Image.fromarray(smooth(64, 48)[::-1].copy()).save(tmp_path / 'two.jpg')
    one = fast_decode.decode(tmp_path / 'one.jpg', 3, size)
    before = one.copy()
    two = fast_decode.decode(tmp_path / 'two.jpg', 3, size)
    np.testing.assert_array_equal(one, before)
    assert (one != two).any()


def save(kind, path):
    image = Image.fromarray(smooth(300, 280))
    if kind == 'CMYK':
        image.convert('CMYK').save(path, 'JPEG')
    elif kind == 'four times the size':
        Image.fromarray(smooth(1030, 1060)).save(path)
    elif kind in ('PNG', 'WEBP'):
        image.save(path, kind)
    elif kind == '16 bit':
        Image.fromarray(np.full((9, 9), 0x80FF, np.uint16)).save(path, 'PNG')
    else:
        image.save(path)


@pytest.mark.parametrize('kind', ['CMYK', 'four times the size', 'PNG', 'WEBP', '16 bit', 'grey'])
def test_what_is_no_plain_colour_jpeg_is_read_by_pillow(kind, tmp_path, by_pillow):
    path, channels = tmp_path / 'x.jpg', 1 if kind == 'grey' else 3
    save(kind, path)
    arguments = path, channels, (256, 256), (224, 224), (3, 30)
    fast = fast_decode.decode(*arguments)
    assert by_pillow == [path]
    np.testing.assert_array_equal(fast, decode.decode(*arguments))


@pytest.mark.parametrize('kind', ['missing', 'folder', 'empty', 'text', 'truncated', 'bomb'])
def test_a_bad_file_has_the_reason_that_pillow_gives(kind, tmp_path, monkeypatch):
    path = tmp_path / 'x.jpg'
    Image.fromarray(smooth(300, 280)).save(path)
    whole = path.read_bytes()
    if kind == 'folder':
        path.unlink()
        path.mkdir()
    elif kind == 'missing':
        path.unlink()
    elif kind == 'bomb':
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    else:
        path.write_bytes({'empty': b'', 'text': b'no', 'truncated': whole[: len(whole) // 2]}[kind])
    errors = []
    for function in (decode.decode, fast_decode.decode):
        with pytest.raises(DataError) as error:
            function(path, 3, (256, 256))
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_many_threads_read_what_one_reads(tmp_path):
    paths = [tmp_path / f'{i}.jpg' for i in range(8)]
    for i, path in enumerate(paths):
        Image.fromarray(smooth(90 + 10 * i, 150 - 10 * i)).save(path)

    def read(path):
        return fast_decode.decode(path, 3, (64, 64), (56, 56), (2, 5))

    expected = [read(path) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for one, other in zip(expected * 10, pool.map(read, paths * 10), strict=True):
            np.testing.assert_array_equal(one, other)


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    fast_decode.check()
    monkeypatch.setattr(fast_decode, 'PACKAGES', ('simplejpeg', 'absent_package'))
    with pytest.raises(ConfigError) as error:
        fast_decode.check()
    assert error.value.seen == 'no absent_package'
    assert 'pip install ".[turbojpeg]"' in error.value.fix


def test_whoever_does_not_ask_for_it_needs_none_of_its_packages():
    assert not {'simplejpeg', 'cykooz_resizer'} & set(vars(sys.modules[fast_decode.__name__]))
