"""A memory pool for activations, which reuses memory instead of mapping it again.

The kernel zeroes a page when it is first touched. If every activation were a new mapping, that
would cost several percent of a training step.
"""

import contextlib
import math
import mmap
import threading
from collections import OrderedDict

import numpy as np

# A step maps more than its peak, because arrays of different sizes live at different times. With a
# limit of 1, every step of ResNet-50 would unmap what the next one needs.
LIMIT = 1.5


class _Lease:
    """Keeps a mapping in use while any array or view refers to it."""

    def __init__(self, pool, memory):
        self._pool, self._memory = pool, memory
        # NumPy keeps this object as the base of the array and of every view of it, so it is deleted
        # together with the last of them.
        self.__array_interface__ = np.frombuffer(memory, np.uint8).__array_interface__

    def __del__(self):
        self._pool.give_back(self._memory)


class Pool:
    """Allocates arrays in page-aligned memory, and reuses the memory when they are deleted.

    Memory in use and memory kept for reuse are together at most :data:`LIMIT` times the peak of
    memory in use. Above that, the sizes that were not requested for the longest time are freed.
    """

    def __init__(self):
        # Free mappings by size, the size given back last at the end.
        self._free = OrderedDict()
        self._used_bytes = self._mapped_bytes = self._most_used_bytes = 0
        # Re-entrant: the garbage collector may delete an array, and so call `give_back`, at any
        # point.
        self._lock = threading.RLock()

    def empty(self, shape, dtype=np.float32):
        """Returns an uninitialised C-ordered array."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        # Whole pages, so that arrays of nearly the same size can reuse each other's memory.
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
        with contextlib.suppress(OSError):  # The kernel may lack huge pages.
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._mapped_bytes += size
        return memory

    def give_back(self, memory):
        """Keeps the mapping ``memory`` for the next array of the same size."""
        with self._lock:
            self._used_bytes -= len(memory)
            self._free.setdefault(len(memory), []).append(memory)
            self._free.move_to_end(len(memory))
