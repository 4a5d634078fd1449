import numpy as np

from chainer_jo.backends.buffers import Pool


def address(array):
    return array.__array_interface__['data'][0]


def test_memory_of_a_dead_array_is_used_again():
    pool = Pool()
    first = pool.empty((16, 3))
    where = address(first)
    del first
    assert address(pool.empty((3, 16))) == where


def test_memory_is_not_used_again_while_a_view_lives():
    pool = Pool()
    first = pool.empty((4, 4))
    view, where = first.T[1:], address(first)
    del first
    second = pool.empty((4, 4))
    second[...] = 1
    view[...] = 2
    assert address(second) != where
    assert (second == 1).all()


def test_arrays_are_writable_aligned_and_of_the_asked_shape_and_type():
    pool = Pool()
    for shape, dtype in [((2, 3), np.float32), ((5,), np.uint8), ((0, 4), np.float32)]:
        array = pool.empty(shape, dtype)
        array[...] = 1
        assert (array.shape, array.dtype) == (shape, dtype)
        assert address(array) % 64 == 0


def test_memory_kept_is_at_most_what_was_in_use_at_once():
    pool = Pool()
    held = [pool.empty((1024, 1024)) for _ in range(3)]
    del held
    for pages in range(1, 50):
        pool.empty((pages, 1024))
    assert pool._free_bytes <= 3 * 1024 * 1024 * 4
