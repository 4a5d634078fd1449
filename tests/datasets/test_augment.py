import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.datasets import augment
from chainer_jo.datasets.streams import rng


def batch(seed, shape=(3, 6, 5), n=9, size=4, pad=2):
    draw = rng(seed, 'test')
    return {
        'images': draw.integers(0, 256, (n, *shape), dtype=np.uint8),
        'mean': draw.random(shape, dtype=np.float32),
        'index': draw.integers(0, n, size),
        'offsets': augment.crops(draw, (size,), 2 * pad),
        'flips': augment.flips(draw, (size,)),
        'pad': pad,
    }


def slow_augment(images, mean, index, offsets, flips, pad):
    """One image at a time."""
    done = []
    for i, (top, left), flip in zip(index, offsets, flips, strict=True):
        x = images[i].astype(np.float64) / 255 - mean
        C, H, W = x.shape
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        x = padded[:, top : top + H, left : left + W]
        done.append(x[:, :, ::-1] if flip else x)
    return np.stack(done)


@given(seed=st.integers(0, 1000), pad=st.integers(0, 4))
def test_a_batch_equals_its_images_done_one_by_one(seed, pad):
    arguments = batch(seed, pad=pad)
    x = augment.augment(**arguments)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, slow_augment(**arguments), atol=1e-6)


def test_the_border_has_the_mean_colour_and_not_black():
    arguments = batch(0, size=1, pad=2) | {
        'offsets': np.array([[0, 0]]),
        'flips': np.array([False]),
    }
    x = augment.augment(**arguments)
    assert not x[0, :, :2].any()
    assert not x[0, :, :, :2].any()


def test_an_evaluation_batch_is_the_augmented_one_without_crop_and_flip():
    arguments = batch(1) | {'offsets': np.full((4, 2), 2), 'flips': np.zeros(4, bool)}
    x = augment.evaluation_batch(arguments['images'], arguments['mean'], arguments['index'])
    np.testing.assert_array_equal(x, augment.augment(**arguments))


def test_an_evaluation_batch_takes_a_slice():
    images, mean = batch(2)['images'], batch(2)['mean']
    np.testing.assert_array_equal(
        augment.evaluation_batch(images, mean, slice(3, 6)),
        augment.evaluation_batch(images, mean, np.array([3, 4, 5])),
    )


def test_the_images_are_not_modified():
    arguments = batch(3)
    before = arguments['images'].copy()
    augment.augment(**arguments)
    np.testing.assert_array_equal(arguments['images'], before)


def test_crops_reach_every_corner_and_flips_are_even():
    corners = augment.crops(rng(0, 'crop'), (50, 100), 8)
    assert corners.shape == (50, 100, 2)
    counts = np.bincount((corners[..., 0] * 9 + corners[..., 1]).ravel(), minlength=81)
    assert len(counts) == 81
    assert counts.min() > 0
    flips = augment.flips(rng(0, 'flip'), (100, 100))
    assert flips.mean() == pytest.approx(0.5, abs=0.015)  # 3 sigma of 10,000


def test_crops_of_a_margin_reach_all_of_it_in_both_directions():
    corners = augment.crops(rng(0, 'crop'), (500,), (3, 0))
    assert corners.dtype == np.int32
    assert {tuple(corner) for corner in corners.tolist()} == {(row, 0) for row in range(4)}


def test_partners_are_permutations_inside_each_batch():
    lam, partner = augment.mixing(rng(0, 'mix'), 30, 16, 0.5)
    assert lam.shape == (30,)
    assert lam.dtype == np.float32
    assert partner.dtype == np.int32
    assert (np.sort(partner, axis=1) == np.arange(16)).all()
    assert len({tuple(row) for row in partner}) == 30


@pytest.mark.parametrize('a', [0.05, 1.6, 8.0])
def test_weights_have_the_moments_of_the_beta_distribution(a):
    lam, _ = augment.mixing(rng(0, 'mix'), 200, 100, a, per='sample')
    assert lam.shape == (200, 100)
    assert lam.min() >= 0
    assert lam.max() <= 1
    variance = 1 / (4 * (2 * a + 1))
    assert lam.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / lam.size))
    assert lam.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.gpu
def test_the_gpu_makes_the_batch_that_the_cpu_makes():
    cupy = pytest.importorskip('cupy')
    arguments = batch(5)
    on_gpu = {k: cupy.asarray(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    x = augment.augment(**on_gpu)
    np.testing.assert_allclose(x.get(), augment.augment(**arguments), atol=1e-6)
