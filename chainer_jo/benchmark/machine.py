"""Describes the machine on which a benchmark runs."""

import datetime
import os
import platform

from chainer_jo.training import device as devices
from chainer_jo.training.machine import cores, name_value_lines, processor


def head(schema, device='cpu'):
    """Returns the first entries of a report: ``schema``, ``date``, ``device`` and ``machine``.

    To be called before any worker starts, whose load would count.
    """
    return {
        'schema': schema,
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'device': device,
        'machine': describe(device),
    }


def describe(device='cpu'):
    """Returns processor, cores, memory, system and, if it is the device, the GPU, as JSON values.

    Unknown values are ``None``.

    Args:
        device (str): ``cpu`` or ``cuda:N``.
    """
    memory = name_value_lines('/proc/meminfo').get('MemTotal')
    return {
        **processor(),
        'cores': cores(),
        'memory_bytes': int(memory.split()[0]) * 1024 if memory else None,
        'system': f'{platform.system()} {platform.release()}',
        'gpu': None if device == 'cpu' else devices.describe(),
        'load_before': round(os.getloadavg()[0], 2),
    }
