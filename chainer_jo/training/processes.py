"""The processes that train a trial together: the interface of a single one, and who is present."""

import contextlib

from chainer_jo.errors import ConfigError
from chainer_jo.training.machine import cores


class Alone:
    """A single process, with the methods of ``parallel.Ranks``."""

    size, local_rank, local_size = 1, 0, 1

    def __init__(self, rank=0):
        self.rank = rank

    def share_of_cores(self):
        """Returns this rank's share of its machine's processor cores, at least 1."""
        return cores()

    def lead(self, function):
        """Calls ``function`` on rank 0 only; all ranks return its value, or raise its error."""
        return function()

    def rank_0_first(self, function):
        """Calls ``function`` on rank 0, then on the others; all raise if it fails on rank 0."""
        return function()

    @contextlib.contextmanager
    def led(self, manager):
        """Returns a context manager that only rank 0 enters; if that fails, all ranks raise."""
        with contextlib.ExitStack() as stack:

            def enter():
                stack.enter_context(manager)

            self.lead(enter)
            yield

    def connect(self, device):
        """Sets up the exchange of gradients on a ``chainer.Device``, before the first step."""

    def share_labels(self, make):
        """Returns the method that ``make`` makes; the ranks of a machine share its labels."""
        return make()

    def total(self, *numbers):
        """Returns the sum of each integer over the ranks."""
        return numbers

    def begin(self, updater):
        """Copies the parameters of rank 0 to all ranks; called before a stage's first step."""

    def mean_gradients(self, method):
        """Replaces each gradient by its mean over the ranks."""

    def gather(self, array):
        """Returns the arrays ``(B / K, ...)`` of all ranks as one ``(B, ...)``, in rank order."""
        return array

    def share(self, n):
        """Returns this rank's share of ``n`` images, a slice."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def join(self, array):
        """Returns the arrays ``(n_k, ...)`` of all ranks, whose lengths may differ, as one."""
        return array

    def mean(self, array):
        """Returns the mean of an array over the ranks."""
        return array

    def end_epoch(self, updater):
        """Adds the sums of the ranks, averages their statistics, and merges their lost images."""

    def agree(self, *numbers):
        """Returns the maximum of each integer over the ranks."""
        return numbers

    def pack(self, on_host):
        """Returns the arrays that rank 0 saves, by name, with the other ranks' own values.

        Args:
            on_host (callable): Returns the state of this rank, or the part whose names a function
                accepts; see :func:`chainer_jo.training.state.on_host`.
        """
        return on_host()

    def hand_out(self, arrays, updater):
        """Returns the saved arrays from which this rank restores ``updater``.

        Args:
            arrays (dict): What :meth:`pack` returned, on rank 0; ``None`` on other ranks.
            updater (StageUpdater): A new updater of the stage in which the arrays were saved.
        """
        return arrays

    def all_fail(self, text):
        """Returns the messages of the ranks if all of them fail; ``None`` if only some do."""
        return [text]

    def abort(self, exit_code):
        """Ends all ranks with an exit code; does nothing in a single process."""


ALONE = Alone()
_present = ALONE


def become(ranks):
    """Sets the :class:`Alone` or ``Ranks`` of this process, and returns it."""
    global _present
    _present = ranks
    return ranks


def present():
    """Returns the ranks of this process: :data:`ALONE`, unless :func:`become` changed it."""
    return _present


def check_batch(batch_size, size):
    """Raises ConfigError unless a batch can be divided equally among ``size`` processes."""
    if batch_size % size:
        raise ConfigError(
            f'a batch of {batch_size} cannot be divided among {size} processes',
            seen=f'common.batch_size={batch_size}',
            fix=f'choose a number of processes that divides {batch_size}, or another batch size',
        )


def check_size(folder, begun, ranks):
    """Raises ConfigError unless a trial was begun by the same number of processes."""
    if begun != ranks.size:
        raise ConfigError(
            f'{folder} was begun by {begun} process{"es" if begun > 1 else ""}',
            seen=f'{ranks.size} now; another number changes the batch statistics',
            fix=f'continue with mpiexec -n {begun}, or choose another folder with --out',
        )
