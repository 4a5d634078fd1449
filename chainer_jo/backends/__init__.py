"""What computes: oneDNN on a CPU, cuDNN on a GPU, or Chainer's own functions where neither can.

This is the one door: :func:`op` returns a backend's function for some arrays, or None, and then
the caller computes with Chainer or NumPy. Nothing above this package asks which backend it was.
What a function takes and returns, in which layout, is written in
:mod:`~chainer_jo.backends.contract`.
"""

import contextlib
import functools

import chainer
import threadpoolctl

from chainer_jo import cores
from chainer_jo.backends import cudnn, cudnn_plans, onednn, onednn_api
from chainer_jo.backends.cuda_graph import CudaGraph
from chainer_jo.backends.shapes import output_shape
from chainer_jo.errors import ConfigError
from chainer_jo.precision import PRECISIONS

__all__ = ['output_shape']  # and all that is defined here

NAMES = ('auto', 'chainer', 'onednn', 'cudnn')
#: Packages that the backends come from, for listing versions.
PACKAGES = (
    'onednn-cpu-gomp', 'cupy-cuda12x', 'cupy-cuda13x', 'nvidia-cudnn-cu12', 'nvidia-cudnn-cu13',
    'nvidia-cudnn-frontend',
)  # fmt: skip
#: The types of 16 bits, by the precision's name.
DTYPES = {'bfloat16': onednn.BFLOAT16, 'float16': cudnn.FLOAT16}
FLOAT32 = onednn.FLOAT32
_MODULES = {'onednn': onednn, 'cudnn': cudnn}
_WHEELS = {'onednn': onednn_api.WHEEL, 'cudnn': cudnn_plans.WHEEL}
_wanted = 'auto'


def use(name):
    """Chooses the backend of every function from now on, in the whole process.

    Args:
        name (str): ``'onednn'``, for NumPy arrays; ``'cudnn'``, for CuPy arrays; ``'chainer'``,
            the reference; or ``'auto'``, for each array the backend that takes it.

    Raises:
        ConfigError: No backend has this name, or it cannot be loaded.
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
    """Returns the function ``name`` of the backend of these arrays, or None if it has none.

    Args:
        name (str): A function of :class:`~chainer_jo.backends.contract.Backend`, which every
            backend has, or of :class:`~chainer_jo.backends.contract.GPUBackend`.
        arrays (array or Variable): All that the function will compute on. One array of another
            type or device is enough for None.

    >>> import numpy as np
    >>> from chainer_jo import backends
    >>> x = np.ones((1, 2, 4, 4), np.float64)
    >>> backends.op('average', x) is None  # No backend computes in float64.
    True
    """
    return getattr(of(*arrays), name, None)


def of(*arrays):
    """Returns the backend of these arrays, a module in which :func:`op` looks, or None.

    For a function that has gradients: they are computed by the same backend as the result,
    whatever :func:`use` says by then. All others call :func:`op`.
    """
    return _MODULES.get(name_for(*arrays))


def name_for(*arrays):
    """Returns the name of the backend of these arrays, for people.

    oneDNN takes float32 and bfloat16 arrays of NumPy, cuDNN float32 and float16 arrays of CuPy, or
    Variables over them; all others are Chainer's. Without arrays: the backend of NumPy arrays
    that oneDNN could take.
    """
    # Variables, and Activations of a tape, have their array in `array`.
    arrays = [getattr(array, 'array', array) for array in arrays]
    for name, module in _MODULES.items():
        if _wanted in ('auto', name) and all(map(module.takes, arrays)):
            return 'chainer' if _why_not(name) else name
    return 'chainer'


def name_on(device):
    """Returns the name of the backend of float32 arrays on a device, for people.

    Args:
        device (str): As Chainer names it, ``@numpy`` or ``@cupy:0``.
    """
    name = _fast_name(device)
    return 'chainer' if _wanted not in ('auto', name) or _why_not(name) else name


def _fast_name(device):
    return 'cudnn' if device.startswith('@cupy') else 'onednn'


def is_fast(device):
    """Says whether a backend of this package computes on a device, and not Chainer's functions."""
    return name_on(device) == _fast_name(device)


def capturer(device):
    """Returns what captures training steps on a device, or None where they cannot be captured.

    Chainer's own functions call cuBLAS, which CuPy refuses to capture.

    Returns:
        callable: :class:`~chainer_jo.backends.cuda_graph.CudaGraph`, which takes a step and a
        function that returns the arrays that it changes.
    """
    return CudaGraph if name_on(device) == 'cudnn' else None


def tensor_cores():
    """Says when products of float32 may be rounded to TF32 now: ``'auto'`` or ``'never'``."""
    return chainer.config.use_cudnn_tensor_core


def using_tensor_cores(when):
    """Returns a context manager within which :func:`tensor_cores` is ``when``."""
    # Chainer's own switch, so that Chainer's functions follow it too.
    return chainer.using_config('use_cudnn_tensor_core', when)


def check_precision(precision, backend=None):
    """Checks that a precision can be computed.

    Args:
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.
        backend (str): The name of the backend that will compute; None for any of this machine.

    Raises:
        ConfigError: It cannot; the message says why.
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
        return f'the backend is {name}, and only onednn has it'
    if not onednn.has_bfloat16():
        return 'this processor, or the limit ONEDNN_MAX_CPU_ISA, has neither AVX-512-BF16 nor AMX'
    return None


def _why_no_float16(backend):
    if (name := backend or name_on('@cupy:0')) != 'cudnn':
        return f'the backend is {name}, and only cudnn, on a GPU, has it'
    return None


def describe(device='@numpy'):
    """Returns in one line which backend a device gets, and why if it is the slow one."""
    if (name := name_on(device)) in _MODULES:
        return f'{name} ({_MODULES[name].describe()})'
    if _wanted == 'chainer':
        return "chainer (Chainer's own functions, as asked)"
    reason = _why_not(_fast_name(device))
    return f"chainer (Chainer's own functions; {reason or f'only {_wanted} was asked for'})"


def threads():
    """Returns how many threads oneDNN computes with, or ``None`` where it does not."""
    return onednn.threads() if name_on('@numpy') == 'onednn' else None


def check_threads(count):
    """Checks that ``count`` threads can be had. Raises :class:`ConfigError` where they cannot."""
    reason = None if _why_not('onednn') else onednn.why_fewer_threads(count)
    if reason:
        raise ConfigError(
            f'{count} threads cannot be had, and training would wait for them for ever',
            seen=reason,
            fix='take that variable out of the environment, or choose {setting}',
            setting=('threads', 1),
        )


@contextlib.contextmanager
def using_threads(count):
    """Lets oneDNN and NumPy's products compute with ``count`` threads while the block runs.

    The bits are those of a process that was started with ``OMP_NUM_THREADS`` set to it.

    Raises:
        ConfigError: As :func:`check_threads`.
    """
    check_threads(count)  # And loads the library, which would not be told otherwise.
    changes = threads() not in (None, count)
    with threadpoolctl.threadpool_limits(count):
        if changes:
            onednn.forget_primitives()
        yield
    if changes:
        onednn.forget_primitives()


@contextlib.contextmanager
def binding_threads(device, count):
    """Binds a device's threads to a core each while the block runs, where they take all cores.

    Args:
        device (str): Chainer's name of it; a GPU has none.
        count (int): As for :func:`using_threads`.
    """
    if name_on(device) != 'onednn':
        yield
        return
    with cores.one_each(onednn.load().library, count):
        yield


def instruction_set():
    """Returns the name of oneDNN's instruction set, or ``None`` where it does not compute."""
    return onednn.instruction_set() if name_on('@numpy') == 'onednn' else None


@functools.cache
def _why_not(name):
    # Cached: every function of every step asks, and trying to load a missing library is slow.
    try:
        _MODULES[name].load()
    except OSError as error:
        return str(error)
    return None
