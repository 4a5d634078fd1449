"""Computes results ahead in threads and yields them in order."""

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from chainer_jo.cores import leave_core
from chainer_jo.training import processes


def read_ahead(function, arguments, threads=None):
    """Yields ``function(argument)`` for each argument, in order, computed by threads.

    The results do not depend on the threads if the function depends only on its argument. At most
    ``threads + 1`` results are computed ahead. Closing the generator ends the threads.

    Args:
        function (callable): A thread-safe function.
        arguments (iterable): The arguments; may be endless.
        threads (int): Number of threads; by default one per core of this process's share.
    """
    threads, arguments = threads or processes.present().share_of_cores(), iter(arguments)
    # Threads, not processes as Chainer's MultiprocessIterator: decoding releases the GIL, and
    # nothing has to be copied between them.
    pool = ThreadPoolExecutor(threads, 'read', initializer=leave_core)
    try:
        ahead = deque(pool.submit(function, a) for a in itertools.islice(arguments, threads + 1))
        while ahead:
            # The oldest first, even if others are ready: order makes the batches independent of the
            # number of threads.
            result = ahead.popleft().result()
            ahead.extend(pool.submit(function, a) for a in itertools.islice(arguments, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
