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


def kept(pool):
    return sum(size * len(free) for size, free in pool._free.items())


def test_memory_is_at_most_one_and_a_half_times_what_was_in_use_at_once():
    pool = Pool()
    held = [pool.empty((1024, 1024)) for _ in range(3)]
    most = sum(array.nbytes for array in held)
    del held
    for pages in range(1, 50):
        array = pool.empty((pages, 1024))
        assert array.nbytes + kept(pool) <= 1.5 * most
    assert pool._mapped_bytes == array.nbytes + kept(pool)


class Counting(Pool):
    mapped = 0

    def _map(self, size):
        self.mapped += 1
        return super()._map(size)


def test_a_step_that_repeats_maps_nothing_new():
    pool = Counting()

    def step():
        held = [pool.empty((pages, 1024)) for pages in (40, 30, 20)]
        found = [*map(address, held)]
        while held:
            # Of a size that no other array has, while less and less is in use.
            short = pool.empty((len(held), 1024))
            found.append(address(short))
            del short
            held.pop()
        return found

    step()
    pool.empty((60, 1024))  # another phase, for example evaluation
    step()
    mapped = pool.mapped
    assert step() == step()
    assert pool.mapped == mapped


def test_of_what_is_kept_goes_what_was_not_used_longest():
    pool = Pool()
    old, new, third = (pool.empty((10 + i, 1024)) for i in range(3))
    where = address(new)
    del old, third, new
    grown = pool.empty((25, 1024))
    assert address(pool.empty((11, 1024))) == where
    assert kept(pool) == (11 + 12) * 4096
    del grown
