"""Data-parallel training of one trial by several processes with ChainerMN: ``mpiexec -n K``.

Each rank takes its columns of the same epoch tables. It has its own copy of the net, and shares the
labels and past outputs with the other ranks of its machine, of which one writes. Each step
exchanges gradients, the mean output if L_p is part of the loss, and outputs if labels are computed
from them (D-54).
"""

import os
import re
import shutil
import socket
import time
from collections import Counter

import chainer
import numpy as np

from chainer_jo.cores import allowed
from chainer_jo.errors import ChainerJoError, ConfigError, OutOfMemoryError
from chainer_jo.training import mpiexec, processes, state

#: Values that differ between ranks within an epoch, by the last part of their names.
SUMS, STATISTICS = ('sums',), ('avg_mean', 'avg_var')
#: The names of such values in a snapshot.
OWN = re.compile('rank([0-9]+)/(.*)')
#: Seconds that a failing rank waits for the others, which fail too if the settings are wrong.
SECONDS_TO_FAIL = 2.0
#: Seconds for mpiexec to pass on the message of a rank that ends all others.
SECONDS_TO_TELL = 0.5

SHARED_MEMORY = '/dev/shm'

_CPU = chainer.get_device('@numpy')


class Ranks(processes.Alone):
    """The ``K`` processes of an ``mpiexec``, of which this is one; made by :func:`join`.

    Args:
        MPI (module): ``mpi4py.MPI``, which starts MPI when it is imported.

    Attributes:
        rank, size (int): The number of this process, from 0, and ``K``.
        local_rank, local_size (int): Its number among the processes of its machine, from 0, and
            their number.
    """

    def __init__(self, MPI):
        self._MPI, self._world = MPI, MPI.COMM_WORLD
        # A separate communicator: messages of training cannot be mistaken for those of a failure.
        self._at_the_end = self._world.Dup()
        self._local = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        self.size = self._world.size
        self.local_rank, self.local_size = self._local.rank, self._local.size
        # One rank of each machine holds the labels of that machine.
        colour = MPI.UNDEFINED if self.local_rank else 0
        self._holders = self._world.Split(colour, self._world.rank)
        self._windows = []
        # The union, because mpiexec may have bound each rank to different cores.
        cores = set().union(*self._local.allgather(allowed()))
        self._share = max(1, len(cores) // self._local.size)
        super().__init__(self._world.rank)

    def share_of_cores(self):
        return self._share

    def lead(self, function):
        value = error = None
        if self.rank == 0:
            try:
                value = function()
            except ChainerJoError as raised:
                error = raised
        value, error = self._world.bcast((value, error))
        if error:
            raise error
        return value

    def rank_0_first(self, function):
        found = []
        # What is found is not sent: a data set is large, and one of files cannot be pickled.
        self.lead(lambda: found.append(function()))
        return found[0] if found else function()

    def connect(self, device):
        import chainermn

        _check_gpus(self._world.allgather((socket.gethostname(), _bus(device))))
        name = 'naive' if device.xp is np else 'pure_nccl'
        try:
            self._communicator = chainermn.create_communicator(name, self._world)
        except RuntimeError as error:
            raise _unusable(error) from error
        # The kernels that pack many arrays do not compile with CuPy 14; here is one array only.
        with self._communicator.config_scope():
            self._communicator.batched_copy = False

    def share_labels(self, make):
        # One rank after the other, so that at most one has a private copy of the labels.
        for turn in range(self._local.size):
            if turn == self.local_rank:
                method = make()
                if turn and method.xp is np:
                    state.replace(method.labels, np.empty_like)
            self._local.Barrier()
        # Labels on a GPU take no host memory, and no two ranks use the same GPU.
        if method.xp is np and self._local.size > 1:
            state.replace(method.labels, self._shared)
            method.labels.change = self._change
            self._local.Barrier()
        return method

    def _shared(self, array):
        """Returns an array in memory shared by this machine's ranks, with the values of rank 0."""
        nbytes = array.nbytes if self.local_rank == 0 else 0
        _check_shared_memory(nbytes)
        window = self._MPI.Win.Allocate_shared(nbytes, 1, comm=self._local)
        # Kept, because the memory is freed with the last reference to the window.
        self._windows.append(window)
        memory, _ = window.Shared_query(0)
        shared = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
        if self.local_rank == 0:
            shared[...] = array
        return shared

    def _change(self, function):
        # The barriers keep other ranks from reading while this one writes.
        self._local.Barrier()
        if self.local_rank == 0:
            function()
        self._local.Barrier()

    def total(self, *numbers):
        mine = np.array(numbers, 'l')
        found = np.empty_like(mine)
        self._world.Allreduce(mine, found)
        return found.tolist()

    def begin(self, updater):
        try:
            self._communicator.bcast_data(updater.method)
        # NCCL, which is first used here, may not reach the other GPUs.
        except RuntimeError as error:
            if updater.method.xp is np:
                raise
            raise _unusable(error) from error

    def mean_gradients(self, method):
        # Not ChainerMN's optimizer: its first call only broadcasts parameters, and skips the step.
        gradients = [p.grad for _, p in sorted(method.namedparams()) if p.grad is not None]
        flat = chainer.Parameter(method.xp.concatenate([g.ravel() for g in gradients]))
        flat.grad = flat.array
        message = chainer.Link()
        with message.init_scope():
            message.flat = flat
        # In one message: the communicator "naive" sends one per parameter, and each waits for all
        # ranks.
        self._communicator.multi_node_mean_grad(message)
        for gradient, mean in zip(gradients, _split(flat.grad, gradients), strict=True):
            gradient[...] = mean

    def gather(self, array):
        # Through the host: MPI from a wheel cannot read GPU memory.
        own = np.ascontiguousarray(_CPU.send(array))
        whole = np.empty((self.size, *own.shape), own.dtype)
        self._world.Allgather(own, whole)
        return chainer.backend.get_device_from_array(array).send(whole.reshape(-1, *own.shape[1:]))

    def join(self, array):
        own = np.ascontiguousarray(_CPU.send(array))
        counts = self._world.allgather(own.size)
        whole = np.empty(sum(counts), own.dtype)
        self._world.Allgatherv(own, [whole, counts])
        return chainer.backend.get_device_from_array(array).send(whole.reshape(-1, *own.shape[1:]))

    def mean(self, array):
        total = np.empty(array.shape, array.dtype)
        self._world.Allreduce(_CPU.send(array), total)
        return chainer.backend.get_device_from_array(array).send(total / self.size)

    def end_epoch(self, updater):
        images = updater.iterator.dataset
        for lost in self._world.allgather(images.lost):
            if lost:
                images.add_lost(lost)
        arrays = _own(state.arrays(updater, 'f'))
        mine = np.concatenate([_CPU.send(array).ravel() for array in arrays.values()], dtype='d')
        total = np.empty_like(mine)
        self._world.Allreduce(mine, total)
        for (name, array), whole in zip(
            arrays.items(), _split(total, arrays.values()), strict=True
        ):
            mean = whole if _is(name, SUMS) else whole / self.size
            chainer.backend.copyto(array, mean.astype(array.dtype))

    def agree(self, *numbers):
        mine = np.array(numbers, 'l')
        largest = np.empty_like(mine)
        self._world.Allreduce(mine, largest, self._MPI.MAX)
        return largest.tolist()

    def pack(self, on_host):
        # Only rank 0 copies labels and net from its GPU; the others have the same.
        arrays = on_host(None if self.rank == 0 else _is_own)
        for rank, own in enumerate(self._world.gather(_own(arrays)) or ()):
            arrays |= {f'rank{rank}/{name}': array for name, array in own.items() if rank}
        return arrays

    def hand_out(self, arrays, updater):
        # Array by array: a second copy of all of them in every rank might not fit in memory.
        shared = _shared_labels(updater) if updater.method.xp is np else {}
        common, mine = self._world.bcast(_common(arrays)), self._world.scatter(self._own(arrays))
        found = {}
        for name, (shape, dtype) in common.items():
            if name in shared:
                # Written in place, by one rank of each machine.
                found[name] = self._receive(shared[name], arrays and arrays[name], self._holders)
            else:
                empty = np.empty(shape, dtype)
                found[name] = self._receive(empty, arrays and arrays[name], self._world)
        # No rank continues before the shared labels are complete.
        self._local.Barrier()
        return found | mine

    def _own(self, arrays):
        """Returns a list of each rank's own values in packed arrays; ``None`` unless rank 0."""
        if arrays is None:
            return None
        parts = [{} for _ in range(self.size)]
        for name, array in arrays.items():
            if match := OWN.fullmatch(name):
                parts[int(match[1])][match[2]] = array
        return parts

    def _receive(self, array, sent, group):
        """Fills and returns an array: rank 0 broadcasts it to a group of ranks."""
        if sent is not None:
            array[...] = sent
        if group != self._MPI.COMM_NULL:
            group.Bcast(array.reshape(-1).view('u1'))
        return array

    def all_fail(self, text):
        request, end = self._at_the_end.Ibarrier(), time.monotonic() + SECONDS_TO_FAIL
        while not request.Test():
            if time.monotonic() > end:
                return None
            time.sleep(0.01)
        return self._at_the_end.allgather(text)

    def abort(self, exit_code):
        # mpiexec drops the output that it has not passed on when it stops.
        time.sleep(SECONDS_TO_TELL)
        # Otherwise the other ranks would wait forever for this one.
        self._world.Abort(exit_code)


def _bus(device):
    """Returns the address of a GPU on its machine's bus, or ``None`` for the CPU."""
    return None if device.xp is np else device.device.pci_bus_id


def _check_gpus(found):
    """Raises ConfigError unless all ranks train on CPUs, or each has a GPU of its own.

    Args:
        found (list of tuple): Host and :func:`_bus` of each rank.
    """
    gpus = [place for place in found if place[1] is not None]
    if gpus and len(gpus) < len(found):
        raise ConfigError(
            f'{len(gpus)} of {len(found)} processes found a GPU',
            seen=f'none on {", ".join(sorted({host for host, bus in found if bus is None}))}',
            fix='start them on machines with GPUs only, or with --device cpu',
        )
    shared = sorted(place for place, count in Counter(gpus).items() if count > 1)
    if shared:
        raise ConfigError(
            f'{len(found)} processes found {len(set(gpus))} GPU(s)',
            seen=f'several use the GPU {shared[0][1]} of {shared[0][0]}',
            fix=f'mpiexec -n {len(set(gpus))}, or --device cpu',
        )


def _unusable(error):
    return ConfigError(
        'ChainerMN cannot use the GPUs of this machine',
        seen=str(error),
        fix='pip install nvidia-nccl-cu13 (nvidia-nccl-cu12 for CUDA 12); in a container enlarge '
        'the shared memory (docker run --shm-size=1g); NCCL_DEBUG=INFO tells more; or --device cpu',
    )


def _check_shared_memory(nbytes):
    """Raises OutOfMemoryError if shared memory is too small; a write past it raises SIGBUS."""
    if os.path.isdir(SHARED_MEMORY):
        free = shutil.disk_usage(SHARED_MEMORY).free
        if nbytes > free:
            raise OutOfMemoryError(
                'the labels do not fit in the shared memory of this machine',
                seen=f'{nbytes:,} bytes, {free:,} free in {SHARED_MEMORY}',
                fix='enlarge it (docker run --shm-size=1g), or train with one process',
            )


def _common(arrays):
    """Returns the shape and dtype, by name, of the packed arrays that all ranks have in common."""
    if arrays is None:
        return None
    return {
        name: (array.shape, array.dtype)
        for name, array in arrays.items()
        if not OWN.fullmatch(name)
    }


def _shared_labels(updater):
    return {name: array for name, array in state.arrays(updater).items() if '/labels/' in name}


def _split(flat, arrays):
    """Yields the parts of a flat array, in the shapes of ``arrays``."""
    start = 0
    for array in arrays:
        yield flat[start : start + array.size].reshape(array.shape)
        start += array.size


def _is(name, kinds):
    return name.rpartition('/')[2] in kinds


def _own(arrays):
    # Sorted: Chainer serializes a link's values in the order of a set, which differs by process.
    return {name: arrays[name] for name in sorted(arrays) if _is_own(name)}


def _is_own(name):
    return _is(name, SUMS + STATISTICS)


def join():
    """Joins the processes that ``mpiexec`` has started, and returns the :class:`Ranks`.

    Raises:
        ConfigError: mpi4py cannot be used, or the processes do not find each other.
    """
    size, rank = mpiexec.launched()
    # An error before the ranks are connected is printed by rank 0 only.
    processes.become(processes.Alone(rank))
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f'mpiexec has started {size} processes, but mpi4py cannot be used',
            seen=str(error),
            fix='pip install ".[mpi]", or leave out mpiexec',
        ) from error
    if MPI.COMM_WORLD.size != size:
        raise ConfigError(
            f'mpiexec has started {size} processes that do not find each other',
            seen=f'mpi4py uses {MPI.Get_library_version().strip().splitlines()[0]}',
            fix='use the mpiexec of that MPI; the one that pip install ".[mpi]" brings is in '
            '.venv/bin',
        )
    return processes.become(Ranks(MPI))
