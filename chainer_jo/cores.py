"""The processor cores of this process, and OpenMP's threads on one each."""

import contextlib
import ctypes
import os

# What a user has said of this is left alone.
BINDING_VARIABLES = ('OMP_PROC_BIND', 'OMP_PLACES', 'GOMP_CPU_AFFINITY')
_PARALLEL_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# The cores that this process may use, while its threads are bound.
_unbound = None


def allowed():
    """Returns the cores that this process may use: a sorted list of numbers."""
    if _unbound is not None:
        return _unbound
    if hasattr(os, 'sched_getaffinity'):
        # May be fewer than the machine has, in a container or under taskset.
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def leave_core():
    """Lets the calling thread run on all cores; a thread begins on those of the one before it."""
    if _unbound is not None:
        _run_on(_unbound)


@contextlib.contextmanager
def one_each(library, count):
    """Binds ``count`` threads to one core each while the block runs, where that takes all cores.

    The threads of one operation wait for the slowest. Linux moves them about, and where another
    program is busy two of them often share a core: a step of two threads then took 3.3 times as
    long as alone, bound ones 2 times. With fewer threads than cores, Linux chooses better.

    Args:
        library (ctypes.CDLL): Linked to GNU OpenMP.
        count (int): Threads of its operations that the calling thread starts.
    """
    global _unbound
    here = allowed()
    told = any(name in os.environ for name in BINDING_VARIABLES)
    if count == 1 or count != len(here) or told or _unbound is not None:
        yield
        return
    _in_each(library, count, lambda i: [here[i]])
    _unbound = here
    try:
        yield
    finally:
        _unbound = None
        _in_each(library, count, lambda i: here)


def _in_each(library, count, places):
    @_PARALLEL_REGION
    def bind(_):
        _run_on(places(library.omp_get_thread_num()))

    # What a compiler makes of `#pragma omp parallel`. The same threads run all later operations.
    library.GOMP_parallel(bind, None, count, 0)


def _run_on(cores):
    # Some containers forbid it.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(0, cores)
