"""The choice of what computes: oneDNN or cuDNN where they can, else Chainer's own functions."""

import functools

from chainer_jo.backends import cudnn, cudnn_plans, onednn, onednn_api
from chainer_jo.config import PRECISIONS
from chainer_jo.errors import ConfigError

NAMES = ('auto', 'chainer', 'onednn', 'cudnn')
_MODULES = {'onednn': onednn, 'cudnn': cudnn}
_WHEELS = {'onednn': onednn_api.WHEEL, 'cudnn': cudnn_plans.WHEEL}
_wanted = 'auto'


def use(name):
    """Chooses the backend of every function from now on.

    Args:
        name (str): ``'onednn'``, of NumPy arrays; ``'cudnn'``, of CuPy arrays; ``'chainer'``, the
            reference; or ``'auto'``, for all arrays the first of these that works.

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
            fix=f'pip install {_WHEELS[name]}, or use --backend auto',
        )
    _wanted = name


def name_for(*arrays):
    """Returns the backend of these arrays: ``'onednn'``, ``'cudnn'`` or ``'chainer'``.

    oneDNN takes float32 and ``BFLOAT16`` arrays of NumPy, cuDNN float32 and float16 arrays of CuPy,
    or Variables over them; all others are Chainer's. Without arrays: the backend of NumPy arrays
    that oneDNN could take.
    """
    arrays = [getattr(array, 'array', array) for array in arrays]
    for name, module in _MODULES.items():
        if _wanted in ('auto', name) and all(map(module.takes, arrays)):
            return 'chainer' if _why_not(name) else name
    return 'chainer'


def of(*arrays):
    """Returns the module that computes on these arrays, or None for Chainer's own functions.

    The modules have the same functions, on images that lie channel-last in memory.
    """
    return _MODULES.get(name_for(*arrays))


def name_on(device):
    """Returns the backend of float32 arrays on a device, named as Chainer does (``@cupy:0``)."""
    name = 'cudnn' if device.startswith('@cupy') else 'onednn'
    return 'chainer' if _wanted not in ('auto', name) or _why_not(name) else name


def check_precision(precision, backend=None):
    """Checks that a precision can be computed.

    Args:
        precision (str): One of ``config.PRECISIONS``.
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
            f'{precision} cannot be used here', seen=reason, fix='choose --precision float32'
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
    reason = _why_not('cudnn' if device.startswith('@cupy') else 'onednn')
    return f"chainer (Chainer's own functions; {reason or f'only {_wanted} was asked for'})"


def threads():
    """Returns how many threads oneDNN computes with, or ``None`` where it does not."""
    return onednn.threads() if name_on('@numpy') == 'onednn' else None


def instruction_set():
    """Returns the name of oneDNN's instruction set, or ``None`` where it does not compute."""
    return onednn.instruction_set() if name_on('@numpy') == 'onednn' else None


@functools.cache
def _why_not(name):
    try:
        _MODULES[name].load()
    except OSError as error:
        return str(error)
    return None
