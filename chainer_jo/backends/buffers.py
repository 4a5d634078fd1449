"""Memory for activations that is reused instead of being mapped again.

The kernel clears a page at its first touch, which costs several percent of a training step when
every activation is a new mapping.
"""

import contextlib
import math
import mmap
import threading
from collections import defaultdict

import numpy as np


class _Lease:
    """Holds a mapping while any array or view refers to it."""

    def __init__(self, pool, memory):
        self._pool, self._memory = pool, memory
        # NumPy keeps this object as the base of the array, and of every view of it: when the last
        # one dies, so does the lease.
        self.__array_interface__ = np.frombuffer(memory, np.uint8).__array_interface__

    def __del__(self):
        self._pool.give_back(self._memory)


class Pool:
    """Hands out arrays over page-aligned memory and takes the memory back when they die.

    The memory kept for reuse is never more than was in use at the same time.
    """

    def __init__(self):
        self._free = defaultdict(list)
        self._free_bytes = self._used_bytes = 0
        # Re-entrant: the garbage collector may delete an array, and so call `give_back`, at any
        # point.
        self._lock = threading.RLock()

    def empty(self, shape, dtype=np.float32):
        """Returns a C-ordered array of arbitrary content."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        # Whole pages, so that arrays of nearly one size share their memory.
        pages = max(1, -(-size // mmap.PAGESIZE))
        lease = _Lease(self, self._take(pages * mmap.PAGESIZE))
        return np.asarray(lease)[:size].view(dtype).reshape(shape)

    def _take(self, size):
        with self._lock:
            if self._free[size]:
                memory = self._free[size].pop()
                self._free_bytes -= size
            else:
                # The sizes have changed, for example the batch size: what is kept would never be
                # used again.
                if self._free_bytes > self._used_bytes:
                    self._free.clear()
                    self._free_bytes = 0
                memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                with contextlib.suppress(OSError):  # a kernel without huge pages
                    memory.madvise(mmap.MADV_HUGEPAGE)
            self._used_bytes += size
            return memory

    def give_back(self, memory):
        """Keeps the mapping ``memory`` for the next array of its size."""
        with self._lock:
            self._used_bytes -= len(memory)
            self._free_bytes += len(memory)
            self._free[len(memory)].append(memory)
