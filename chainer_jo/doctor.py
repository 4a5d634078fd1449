"""What this installation has, whether it works, and what to fix."""

import importlib.metadata
import platform

from chainer_jo import backends, datasets
from chainer_jo.datasets import cifar10
from chainer_jo.errors import ChainerJoError
from chainer_jo.training import device

PACKAGES = (
    'chainer',
    'numpy',
    'pillow',
    'matplotlib',
    'onednn-cpu-gomp',
    'cupy-cuda12x',
    'cupy-cuda13x',
)


def examine(wanted_device, backend, data=None):
    """Returns the findings as plain JSON values.

    Args:
        wanted_device (str): As for ``--device``.
        backend (str): As for ``--backend``.
        data (str): As for ``--data``.
    """
    findings = {'python': platform.python_version()}
    findings |= {name: _version(name) for name in PACKAGES}
    findings['gpu'] = device.describe()
    findings['device'], findings['backend'] = (
        device.choose(wanted_device, backend),
        backends.describe(),
    )
    findings['data'] = [_examine_data('fashion_mnist', None), _examine_data('cifar10', data)]
    return findings


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _examine_data(name, data):
    if name == 'cifar10' and not cifar10.at_hand(data):
        return {
            'name': name,
            'problem': 'not on this machine',
            'seen': f'no --data, {cifar10.VARIABLE} is not set, nothing in the cache',
            'fix': 'the first run downloads it; or name a folder or archive with --data',
        }
    try:
        dataset = datasets.load(name, data)
    except ChainerJoError as error:
        return {'name': name, 'problem': error.problem, 'seen': error.seen, 'fix': error.fix}
    return {'name': name, 'variant': dataset.variant, 'digest': dataset.digest}


def as_text(findings):
    """Returns the findings as lines for people."""
    lines = [
        f'{key:16} {value or "not installed"}' for key, value in findings.items() if key != 'data'
    ]
    for data in findings['data']:
        if 'problem' in data:
            lines.append(f'{data["name"]:16} {data["problem"]}\n{"":16} fix: {data["fix"]}')
        else:
            lines.append(f'{data["name"]:16} {data["variant"]}, digest {data["digest"][:16]}…')
    return '\n'.join(lines)
