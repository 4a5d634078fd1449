"""Work that threads do ahead of the one who needs it, handed over in order."""

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from chainer_jo.cores import leave_core
from chainer_jo.training.machine import cores


def read_ahead(function, arguments, threads=None):
    """Yields ``function(argument)`` for each argument, in order, worked out by threads.

    Which thread does what changes nothing, so long as the function is one of its argument alone.
    At most one result more than there are threads is worked on or waits. Closing the generator ends
    the threads.

    Args:
        function (callable): Safe to call from several threads.
        arguments (iterable): May be endless.
        threads (int): One per core by default.
    """
    threads, arguments = threads or cores(), iter(arguments)
    # Threads, not processes as Chainer's MultiprocessIterator: decoding releases the GIL, and
    # nothing has to be copied between them.
    pool = ThreadPoolExecutor(threads, 'read', initializer=leave_core)
    try:
        ahead = deque(pool.submit(function, a) for a in itertools.islice(arguments, threads + 1))
        while ahead:
            # The oldest first, ready or not: order is what makes a batch the same for any number of
            # threads.
            result = ahead.popleft().result()
            ahead.extend(pool.submit(function, a) for a in itertools.islice(arguments, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
