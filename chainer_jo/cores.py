"""The processor cores of this process, and binding OpenMP's threads to one core each."""

import contextlib
import ctypes
import os

# If one of them is set, the user has decided about binding.
BINDING_VARIABLES = ('OMP_PROC_BIND', 'OMP_PLACES', 'GOMP_CPU_AFFINITY')
_PARALLEL_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# All cores that this process may use, while its threads are bound; otherwise None.
_unbound = None


def allowed():
    """Returns the numbers of the cores that this process may use, sorted."""
    if _unbound is not None:
        return _unbound
    if hasattr(os, 'sched_getaffinity'):
        # In a container or under taskset, these can be fewer than the machine has.
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def leave_core():
    """Lets the calling thread run on all cores: it inherits the binding of its creator."""
    if _unbound is not None:
        _run_on(_unbound)


@contextlib.contextmanager
def one_each(library, count):
    """Binds ``count`` threads to one core each while the block runs, if they use all cores.

    The threads of an operation wait for the slowest one. Linux moves unbound threads, and if
    another program is busy, two of them often share a core; ``benchmark --neighbour`` measures
    what that costs. Fewer threads than cores are not bound: Linux can use the cores that are free.

    Args:
        library (ctypes.CDLL): A library that is linked to GNU OpenMP.
        count (int): Number of threads in each of its operations.
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

    # Compilers turn `#pragma omp parallel` into this call. The same threads run later operations.
    library.GOMP_parallel(bind, None, count, 0)


def _run_on(cores):
    # Some containers forbid it, and macOS does not have it.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(0, cores)
