"""What machine a benchmark ran on."""

import os
import platform
from pathlib import Path

from chainer_jo.sweep.local import cores
from chainer_jo.training import device as devices

# Those that decide how fast a matrix is multiplied.
INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16')


def describe(device='cpu'):
    """Returns processor, cores, memory, system and, if it is the device, GPU as JSON values.

    What is unknown is ``None``.

    Args:
        device (str): ``cpu`` or ``cuda:N``.
    """
    processor = _fields('/proc/cpuinfo')
    flags = processor.get('flags', '').split()
    memory = _fields('/proc/meminfo').get('MemTotal')
    return {
        'processor': processor.get('model name') or platform.processor() or platform.machine(),
        'instructions': [name for name in INSTRUCTIONS if name in flags],
        'cores': cores(),
        'memory_bytes': int(memory.split()[0]) * 1024 if memory else None,
        'system': f'{platform.system()} {platform.release()}',
        'gpu': None if device == 'cpu' else devices.describe(),
        'load_before': round(os.getloadavg()[0], 2),
    }


def _fields(path):
    """The first value of each name in a file of ``name: value`` lines."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split(':', 1) for line in lines if ':' in line]
    return {name.strip(): value.strip() for name, value in reversed(pairs)}
