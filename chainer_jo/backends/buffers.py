"""Memory for activations that is reused instead of being mapped again.

The kernel clears a page at its first touch, which costs several percent of a training step when
every activation is a new mapping.
"""

import contextlib
import math
import mmap
import threading
from collections import OrderedDict

import numpy as np

# A step of ResNet-50 needs 1.22 times its peak, as arrays of different sizes live at different
# times. Were the limit below that, every step would unmap what the next one asks for.
LIMIT = 1.5


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

    What is in use and what is kept for reuse is together at most :data:`LIMIT` times the most
    that was in use at one time. Beyond that, the sizes that have not been asked for longest go.
    """

    def __init__(self):
        # Free mappings by size, the size given back last at the end.
        self._free = OrderedDict()
        self._used_bytes = self._mapped_bytes = self._most_used_bytes = 0
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
            free = self._free.setdefault(size, [])
            memory = free.pop() if free else self._map(size)
            self._used_bytes += size
            self._most_used_bytes = max(self._most_used_bytes, self._used_bytes)
            return memory

    def _map(self, size):
        most = LIMIT * max(self._most_used_bytes, self._used_bytes + size)
        for kept, free in list(self._free.items()):
            # The sizes may have changed for good, for example with the batch size.
            while free and self._mapped_bytes + size > most:
                free.pop()
                self._mapped_bytes -= kept
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._mapped_bytes += size
        return memory

    def give_back(self, memory):
        """Keeps the mapping ``memory`` for the next array of its size."""
        with self._lock:
            self._used_bytes -= len(memory)
            self._free.setdefault(len(memory), []).append(memory)
            self._free.move_to_end(len(memory))
