"""Chooses the device that trains: the CPU, or a GPU that works."""

from chainer.backends import cuda

from chainer_jo import backends
from chainer_jo.errors import ConfigError


def choose(device, backend):
    """Sets the backend and returns Chainer's name of the device.

    Args:
        device (str): ``auto`` (a GPU if one works, else the CPU), ``cpu``, or ``cuda:N``.
        backend (str): As for :func:`chainer_jo.backends.use`.

    Raises:
        ConfigError: There is no such device, or it cannot be used. A requested GPU is never
            replaced by the CPU.
    """
    backends.use(backend)
    if device == 'cpu' or (device == 'auto' and _why_no_gpu()):
        return '@numpy'
    if device == 'auto':
        return '@cupy:0'
    kind, _, number = device.partition(':')
    if kind != 'cuda' or not number.isdecimal():
        raise ConfigError(
            f'unknown device {device!r}', seen=device, fix='choose auto, cpu or cuda:N'
        )
    reason = _why_no_gpu(int(number))
    if reason:
        raise ConfigError(
            f'the device {device} cannot be used',
            seen=reason,
            fix='see python -m chainer_jo doctor, or choose --device cpu',
        )
    return f'@cupy:{number}'


def check_shared(device, size):
    """Raises ConfigError if several processes would share one GPU, named by ``--device``."""
    if size > 1 and device.startswith('cuda'):
        raise ConfigError(
            f'{size} processes cannot share one GPU',
            seen=f'--device {device}',
            fix='leave out --device: each process then takes a separate GPU',
        )


def of_rank(number, size):
    """Returns Chainer's name of the GPU of one of ``size`` processes on a machine.

    Args:
        number (int): The process's number on its machine, from 0.

    Raises:
        ConfigError: There are fewer GPUs than processes.
    """
    gpus = count_gpus()
    # A scheduler such as Slurm may show each process its own GPU only, as number 0.
    if gpus == 1:
        return '@cupy:0'
    check_count(gpus, size, f'mpiexec -n {gpus}')
    return f'@cupy:{number}'


def check_count(gpus, size, fix):
    """Raises ConfigError if there are fewer GPUs than processes; ``fix`` is what to type."""
    if gpus < size:
        raise ConfigError(
            f'{size} processes on a machine with {gpus} GPU(s)',
            seen='each process needs a GPU of its own',
            fix=f'{fix}, or --device cpu',
        )


def count_gpus():
    """Returns the number of usable GPUs of this machine."""
    if _why_no_gpu():
        return 0
    import cupy

    return cupy.cuda.runtime.getDeviceCount()


def _why_no_gpu(number=0):
    """Returns why GPU ``number`` cannot be used, or ``None`` if it can."""
    try:
        import cupy
    except ImportError as error:
        return f'CuPy is not installed ({error})'
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return str(error)
    if number >= count:
        return f'this machine has {count} GPU(s), numbered from 0'
    if not cuda.available:
        # Chainer needs libcublas at import, and says nothing if it is missing.
        return f'Chainer cannot use CuPy: {cuda._resolution_error}'
    return None


def facts(device):
    """Returns model, CuPy and CUDA of a GPU (a ``chainer.Device``); ``{}`` for the CPU.

    They are recorded because another model uses other plans and kernels, which changes the last
    digits of a result. CUDA is the version of NVRTC, which compiles the kernels.
    """
    if not device.name.startswith('@cupy'):
        return {}
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(device.device.id)
    return {
        'gpu': properties['name'].decode(),
        'cupy': cupy.__version__,
        # Not that of the runtime, which is part of CuPy.
        'cuda': '.'.join(map(str, cupy.cuda.nvrtc.getVersion())),
    }


def describe():
    """Returns one line about the GPU: its name, or why it cannot be used."""
    reason = _why_no_gpu()
    if reason:
        return f'none: {reason}'
    import cupy

    properties, count = cupy.cuda.runtime.getDeviceProperties(0), count_gpus()
    name = properties['name'].decode()
    return f'{f"{count} x {name}" if count > 1 else name}, CuPy {cupy.__version__}'
