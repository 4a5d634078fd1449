import concurrent.futures

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chainer_jo.datasets.decode import decode
from chainer_jo.datasets.image_files import ImageFiles
from chainer_jo.datasets.source import ArrayImages, centre
from chainer_jo.errors import DataError

N, H, W = 12, 20, 16


def draw(channels):
    shape = (N, H, W, 3) if channels == 3 else (N, H, W)
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


@pytest.fixture(params=[1, 3])
def files(request, tmp_path):
    """Images as files, and what must come out of them: ``(N, channels, H, W)``."""
    pixels = draw(request.param)
    paths = [tmp_path / f'{i}.png' for i in range(N)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    expected = pixels.transpose(0, 3, 1, 2) if request.param == 3 else pixels[:, None]
    return paths, expected


def test_files_of_the_wanted_size_are_read_to_the_bit(files):
    paths, expected = files
    source = ImageFiles(paths, np.zeros(N, 'i'), (H, W), channels=expected.shape[1])
    assert (len(source), source.shape, source.margin) == (N, expected.shape[1:], (0, 0))
    assert source.resident() is None
    index = np.array([3, 0, 3, 11])
    images = source.read(index, np.zeros((4, 2), int))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, expected[index])


def test_a_crop_is_the_part_of_the_image_at_its_offset(files):
    paths, expected = files
    source = ImageFiles(paths, np.zeros(N, 'i'), (H, W), (15, 12), expected.shape[1])
    assert source.margin == (5, 4)
    index, offset = np.array([1, 2, 1]), np.array([[0, 0], [5, 4], [2, 3]])
    images = source.read(index, offset)
    for image, i, (top, left) in zip(images, index, offset, strict=True):
        np.testing.assert_array_equal(image, expected[i, :, top : top + 15, left : left + 12])
    assert centre(source, 2).tolist() == [[2, 2], [2, 2]]


def test_another_size_and_other_colours_are_converted(tmp_path):
    path = tmp_path / 'x.png'
    Image.new('RGBA', (31, 57), (200, 100, 50, 255)).save(path)
    image = decode(path, 3, (H, W))
    assert image.shape == (3, H, W)
    assert (image == np.array([200, 100, 50])[:, None, None]).all()
    grey = decode(path, 1, (H, W))
    assert grey.shape == (1, H, W)
    assert set(grey.ravel()) == {round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)}


def smooth(height, width, noise=12):
    """An image with the fine structure of a photograph, ``(height, width, 3)``, uint8."""
    random = np.random.default_rng(0)
    coarse = random.integers(256, size=(height // 16, width // 16, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.integers(-noise, noise + 1, (height, width, 3))
    return (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('size', [(300, 410), (900, 1100), (1100, 1030), (2500, 1900)])
def test_a_large_jpeg_is_scaled_while_it_is_decoded_without_a_visible_change(size, tmp_path):
    path = tmp_path / 'x.jpg'
    Image.fromarray(smooth(*size)).save(path, quality=85)
    with Image.open(path) as image:
        exact = image.resize((256, 256), Image.Resampling.BILINEAR)
    difference = np.abs(
        decode(path, 3, (256, 256)).astype(int) - np.asarray(exact).transpose(2, 0, 1)
    )
    assert difference.mean() <= 1
    assert difference.max() <= 8
    assert (difference.max() == 0) == (min(size) < 1024)


@settings(max_examples=60)
@given(data=st.data())
def test_a_part_of_a_scaled_image_is_that_of_the_whole_to_one_level(data, tmp_path_factory):
    """Rounding alone: Pillow's weights are computed from another corner."""
    path = tmp_path_factory.getbasetemp() / 'part.png'
    width, height = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    Image.fromarray(random.integers(256, size=(height, width, 3), dtype=np.uint8)).save(path)
    crop = data.draw(st.integers(1, 36)), data.draw(st.integers(1, 32))
    top, left = data.draw(st.integers(0, 36 - crop[0])), data.draw(st.integers(0, 32 - crop[1]))
    whole = decode(path, 3, (36, 32)).astype(int)
    part = decode(path, 3, (36, 32), crop, (top, left))
    expected = whole[:, top : top + crop[0], left : left + crop[1]]
    assert part.shape == (3, *crop)
    assert np.abs(part - expected).max() <= 1


def test_many_threads_read_what_one_reads(files):
    paths, expected = files
    source = ImageFiles(paths, np.zeros(N, 'i'), (H, W), channels=expected.shape[1])
    groups = [np.random.default_rng(i).integers(N, size=5) for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda group: source.read(group, np.zeros((5, 2), int)), groups))
    for group, images in zip(groups, read, strict=True):
        np.testing.assert_array_equal(images, expected[group])


@pytest.mark.parametrize('kind', ['missing', 'folder', 'empty', 'text', 'short', 'broken PNG'])
def test_what_is_no_image_is_named_in_three_lines(kind, tmp_path):
    path = tmp_path / 'x.png'
    Image.fromarray(draw(3)[0]).save(path)
    whole = path.read_bytes()
    path.unlink()
    if kind == 'folder':
        path.mkdir()
    elif kind != 'missing':
        content = {
            'empty': b'',
            'text': b'an image',
            'short': whole[:200],
            'broken PNG': whole[:60] + b'????' + whole[64:],
        }
        path.write_bytes(content[kind])
    with pytest.raises(DataError) as error:
        decode(path, 3, (H, W))
    assert str(path) in error.value.problem
    assert len(str(error.value).splitlines()) == 3


def test_arrays_in_memory_are_a_source_too_and_become_read_only():
    images, labels = draw(3).transpose(0, 3, 1, 2), np.arange(N, dtype='i')
    source = ArrayImages(images, labels)
    assert (len(source), source.shape, source.margin) == (N, (3, H, W), (0, 0))
    assert source.true_labels is None
    index = np.array([5, 5, 0])
    np.testing.assert_array_equal(source.read(index, centre(source, 3)), images[index])
    assert source.resident() is images
    with pytest.raises(ValueError, match='read-only'):
        source.labels[0] = 1
