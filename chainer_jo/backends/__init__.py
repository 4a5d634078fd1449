"""Compute backends: oneDNN on a CPU, cuDNN on a GPU, otherwise Chainer's own functions.

This is the only entry point. :func:`op` returns a backend's function for the given arrays, or None
if the caller has to compute with Chainer or NumPy. No code outside this package asks which backend
it was. :mod:`~chainer_jo.backends.contract` documents the functions and their memory layout.
"""

import contextlib
import functools

import chainer
import threadpoolctl

from chainer_jo import cores
from chainer_jo.backends import cudnn, cudnn_plans, onednn, onednn_api
from chainer_jo.backends.cuda_graph import CudaGraph
from chainer_jo.backends.shapes import output_shape as output_shape
from chainer_jo.errors import ConfigError
from chainer_jo.precision import PRECISIONS

NAMES = ('auto', 'chainer', 'onednn', 'cudnn')
#: Packages that provide the backends, for listing their versions.
PACKAGES = (
    'onednn-cpu-gomp', 'cupy-cuda12x', 'cupy-cuda13x', 'nvidia-cudnn-cu12', 'nvidia-cudnn-cu13',
    'nvidia-cudnn-frontend',
)  # fmt: skip
#: The 16-bit dtypes, by name of the precision.
DTYPES = {'bfloat16': onednn.BFLOAT16, 'float16': cudnn.FLOAT16}
FLOAT32 = onednn.FLOAT32
_MODULES = {'onednn': onednn, 'cudnn': cudnn}
_WHEELS = {'onednn': onednn_api.WHEEL, 'cudnn': cudnn_plans.WHEEL}
_wanted = 'auto'


def use(name):
    """Selects the backend for the whole process from now on.

    Args:
        name (str): ``'onednn'`` for NumPy arrays, ``'cudnn'`` for CuPy arrays, ``'chainer'`` for
            the reference, or ``'auto'`` for whichever backend supports an array.

    Raises:
        ConfigError: There is no backend of this name, or it cannot be loaded.
    """
    global _wanted
    if name not in NAMES:
        raise ConfigError(
            f'there is no backend {name!r}', seen=name, fix=f'choose one of {", ".join(NAMES)}'
        )
    if name in _MODULES and (reason := _why_not(name)):
        raise ConfigError(
            f'the backend {name} cannot be used',
            seen=reason,
            fix=f'pip install {_WHEELS[name]}, or choose {{setting}}',
            setting=('backend', 'auto'),
        )
    _wanted = name


def op(name, *arrays):
    """Returns the function ``name`` of the backend for these arrays, or None if there is none.

    Args:
        name (str): A function of :class:`~chainer_jo.backends.contract.Backend`, which every
            backend has, or of :class:`~chainer_jo.backends.contract.GPUBackend`.
        arrays (array or Variable): All arrays that the function will compute on. The result is
            None if any of them has another type or device.

    >>> import numpy as np
    >>> from chainer_jo import backends
    >>> x = np.ones((1, 2, 4, 4), np.float64)
    >>> backends.op('average', x) is None  # No backend computes in float64.
    True
    """
    return getattr(of(*arrays), name, None)


def of(*arrays):
    """Returns the backend module for these arrays, or None.

    For differentiable functions only: gradients must come from the same backend as the result,
    even if :func:`use` was called in between. All others call :func:`op`.
    """
    return _MODULES.get(name_for(*arrays))


def name_for(*arrays):
    """Returns the name of the backend for these arrays, for messages.

    oneDNN takes float32 and bfloat16 NumPy arrays, cuDNN takes float32 and float16 CuPy arrays, and
    both take Variables of them; Chainer takes all others. Without arrays: the backend for NumPy
    arrays that oneDNN could take.
    """
    # Variables, and Activations of a tape, hold their array in `array`.
    arrays = [getattr(array, 'array', array) for array in arrays]
    for name, module in _MODULES.items():
        if _wanted in ('auto', name) and all(map(module.takes, arrays)):
            return 'chainer' if _why_not(name) else name
    return 'chainer'


def name_on(device):
    """Returns the name of the backend for float32 arrays on a device, for messages.

    Args:
        device (str): Chainer's name of the device, ``@numpy`` or ``@cupy:0``.
    """
    name = _fast_name(device)
    return 'chainer' if _wanted not in ('auto', name) or _why_not(name) else name


def _fast_name(device):
    return 'cudnn' if device.startswith('@cupy') else 'onednn'


def is_fast(device):
    """Returns whether oneDNN or cuDNN computes on a device, instead of Chainer's functions."""
    return name_on(device) == _fast_name(device)


def capturer(device):
    """Returns the class that captures training steps on a device, or None if it cannot be done.

    With Chainer's own functions it cannot: they call cuBLAS, which CuPy refuses to capture.

    Returns:
        type: :class:`~chainer_jo.backends.cuda_graph.CudaGraph`, which takes a step and a function
        that returns the arrays that the step changes.
    """
    return CudaGraph if name_on(device) == 'cudnn' else None


def tensor_cores():
    """Returns whether float32 products may be rounded to TF32: ``'auto'`` or ``'never'``."""
    return chainer.config.use_cudnn_tensor_core


def using_tensor_cores(when):
    """Returns a context manager within which :func:`tensor_cores` is ``when``."""
    # Chainer's own configuration entry, so that Chainer's functions follow it too.
    return chainer.using_config('use_cudnn_tensor_core', when)


def check_precision(precision, backend=None):
    """Checks that a precision is supported.

    Args:
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.
        backend (str): The name of the backend that will compute; None for any on this machine.

    Raises:
        ConfigError: It is not supported; the message says why.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f'there is no precision {precision!r}',
            seen=str(precision),
            fix=f'choose one of {", ".join(PRECISIONS)}',
        )
    reasons = {'bfloat16': _why_no_bfloat16, 'float16': _why_no_float16}
    if precision in reasons and (reason := reasons[precision](backend)):
        raise ConfigError(
            f'{precision} cannot be used here',
            seen=reason,
            fix='choose {setting}',
            setting=('precision', 'float32'),
        )


def _why_no_bfloat16(backend):
    name = backend or name_on('@numpy')
    if name != 'onednn':
        return f'the backend is {name}, and only onednn supports it'
    if not onednn.has_bfloat16():
        return 'this processor, or the limit ONEDNN_MAX_CPU_ISA, has neither AVX-512-BF16 nor AMX'
    return None


def _why_no_float16(backend):
    if (name := backend or name_on('@cupy:0')) != 'cudnn':
        return f'the backend is {name}, and only cudnn, on a GPU, supports it'
    return None


def describe(device='@numpy'):
    """Returns a line that names the backend of a device, and the reason if it is the slow one."""
    if (name := name_on(device)) in _MODULES:
        return f'{name} ({_MODULES[name].describe()})'
    if _wanted == 'chainer':
        return "chainer (Chainer's own functions, as requested)"
    reason = _why_not(_fast_name(device))
    return f"chainer (Chainer's own functions; {reason or f'only {_wanted} was requested'})"


def threads():
    """Returns the number of threads that oneDNN uses, or ``None`` if it is not in use."""
    return onednn.threads() if name_on('@numpy') == 'onednn' else None


def check_threads(count):
    """Checks that ``count`` threads are available, and raises :class:`ConfigError` if not."""
    reason = None if _why_not('onednn') else onednn.why_fewer_threads(count)
    if reason:
        raise ConfigError(
            f'{count} threads are not available, and training would wait for them for ever',
            seen=reason,
            fix='unset that environment variable, or choose {setting}',
            setting=('threads', 1),
        )


@contextlib.contextmanager
def using_threads(count):
    """Makes oneDNN and NumPy's matrix products use ``count`` threads while the block runs.

    Results are bit for bit those of a process that was started with ``OMP_NUM_THREADS=count``.

    Raises:
        ConfigError: As :func:`check_threads`.
    """
    # Also loads oneDNN: threadpoolctl sets the limit only in libraries that are loaded already.
    check_threads(count)
    with threadpoolctl.threadpool_limits(count):
        yield


@contextlib.contextmanager
def binding_threads(device, count):
    """Binds each computing thread to its own core while the block runs, if they use all cores.

    Args:
        device (str): Chainer's name of the device; on a GPU nothing is bound.
        count (int): Number of threads, as for :func:`using_threads`.
    """
    if name_on(device) != 'onednn':
        yield
        return
    with cores.one_each(onednn.load().library, count):
        yield


def instruction_set():
    """Returns the name of oneDNN's instruction set, or ``None`` if oneDNN is not in use."""
    return onednn.instruction_set() if name_on('@numpy') == 'onednn' else None


@functools.cache
def _why_not(name):
    # Cached: every function of every step asks, and trying to load a missing library is slow.
    try:
        _MODULES[name].load()
    except OSError as error:
        return str(error)
    return None
