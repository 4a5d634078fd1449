"""The choice of what computes: oneDNN where it can, Chainer's own functions everywhere else."""

import functools

import numpy as np

from chainer_jo.backends import onednn, onednn_api
from chainer_jo.errors import ConfigError

NAMES = ('auto', 'chainer', 'onednn')
_wanted = 'auto'


def use(name):
    """Chooses the backend of every function from now on.

    Args:
        name (str): ``'onednn'``; ``'chainer'``, the reference; or ``'auto'``, the first of these
            that works here.

    Raises:
        ConfigError: No backend has this name, or oneDNN cannot be loaded.
    """
    global _wanted
    if name not in NAMES:
        raise ConfigError(
            f'there is no backend {name!r}', seen=name, fix=f'choose one of {", ".join(NAMES)}'
        )
    if name == 'onednn' and (reason := _why_not_onednn()):
        raise ConfigError(
            'the backend onednn cannot be used',
            seen=reason,
            fix=f'pip install {onednn_api.WHEEL}, or use --backend auto',
        )
    _wanted = name


def name_for(*arrays):
    """Returns the backend that computes on these arrays: ``'onednn'`` or ``'chainer'``.

    oneDNN takes float32 and ``BFLOAT16`` arrays of NumPy, or Variables over them; all others are
    Chainer's. Without arrays: the backend of those that oneDNN could take.
    """
    if _wanted == 'chainer' or _why_not_onednn():
        return 'chainer'
    return 'onednn' if all(map(_is_for_onednn, arrays)) else 'chainer'


def _is_for_onednn(array):
    array = getattr(array, 'array', array)
    return isinstance(array, np.ndarray) and array.dtype in onednn.DATA_TYPES


def check_precision(precision, *arrays):
    """Checks that this machine, its backend and the device of ``arrays`` have a precision.

    Raises:
        ConfigError: They do not; the message says why.
    """
    if precision == 'float32':
        return
    if reason := _why_no_bfloat16(arrays):
        raise ConfigError(
            'bfloat16 cannot be used here', seen=reason, fix='choose --precision float32'
        )


def _why_no_bfloat16(arrays):
    if (name := name_for(*arrays)) != 'onednn':
        return f'the backend is {name}, and only onednn has it'
    if not onednn.has_bfloat16():
        return 'this processor, or the limit ONEDNN_MAX_CPU_ISA, has neither AVX-512-BF16 nor AMX'
    return None


def describe():
    """Returns in one line which backend NumPy arrays get, and why if it is the slow one."""
    if _wanted == 'chainer':
        return "chainer (Chainer's own functions, as asked)"
    if reason := _why_not_onednn():
        return f"chainer (Chainer's own functions; {reason})"
    return f'onednn ({onednn.describe()})'


@functools.cache
def _why_not_onednn():
    try:
        onednn.load()
    except OSError as error:
        return str(error)
    return None
