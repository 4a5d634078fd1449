"""Examines this installation: what it has, whether it works, and what to fix."""

import importlib.metadata
import platform
import shutil

from chainer_jo import backends, datasets
from chainer_jo.errors import ChainerJoError, ConfigError
from chainer_jo.training import device, mpiexec

PACKAGES = (
    'chainer',
    'numpy',
    'pillow',
    'matplotlib',
    'mpi4py',
    'simplejpeg',
    'cykooz_resizer',
    *backends.PACKAGES,
)

_GPU_FIX = 'bash reproduce/setup.sh, or pip install ".[cuda13]" (".[cuda12]" for an older driver)'


def examine(wanted_device, backend, data=None, weights=None):
    """Returns the findings as plain JSON values.

    Args:
        wanted_device (str): As for ``--device``.
        backend (str): As for ``--backend``.
        data (str): As for ``--data``.
        weights (str): As for ``--weights``.
    """
    findings = {'python': platform.python_version()}
    findings |= {name: _version(name) for name in PACKAGES}
    findings['cuda'] = _cuda()
    # For GPU 0, whatever --device says: the user sees what the machine has.
    findings['gpu'] = device.describe()
    findings['mpi'] = mpiexec.describe()
    findings['device'], findings['backend'] = _chosen(wanted_device, backend)
    if reason := _what_the_gpu_lacks(backend):
        findings['to mend'] = f'{reason}: {_GPU_FIX}'
    findings['weights'] = _examine_weights(weights)
    findings['data'] = [_examine_data(name, data) for name in datasets.NAMES]
    return findings


def _chosen(wanted_device, backend):
    try:
        name = device.choose(wanted_device, backend)
    except ConfigError as error:
        return f'none: {error.problem}', f'none: {error.seen}'
    return name.replace('@numpy', 'cpu').replace('@cupy', 'cuda'), backends.describe(name)


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cuda():
    """Returns the CUDA versions of NVRTC, of CuPy's runtime, and the newest of the driver."""
    try:
        import cupy
    except ImportError:
        return None
    runtime, driver = (
        f'{version // 1000}.{version % 1000 // 10}' if version else 'none'
        for version in (cupy.cuda.runtime.runtimeGetVersion(), cupy.cuda.runtime.driverGetVersion())
    )
    try:
        compiler = '.'.join(map(str, cupy.cuda.nvrtc.getVersion()))
    # CuPy loads the library only now, and raises RuntimeError if there is none.
    except (ImportError, OSError, RuntimeError):
        compiler = 'none'
    return f'NVRTC {compiler}, runtime {runtime}, driver {driver}'


def _what_the_gpu_lacks(backend):
    """Returns what keeps a GPU from its full speed, or ``None``; also without an NVIDIA driver."""
    # nvidia-smi comes with the driver: without it there is no GPU to complain about.
    if shutil.which('nvidia-smi') is None:
        return None
    if (found := device.describe()).startswith('none: '):
        return found.removeprefix('none: ')
    if backend == 'auto' and not backends.is_fast('@cupy:0'):
        return backends.describe('@cupy:0')
    return None


def _examine_weights(path):
    """Returns one line about a file of ImageNet weights, from which Table 4 starts."""
    if path is None:
        return 'none: Table 4 starts from ImageNet weights of ResNet-50; name a file with --weights'
    from chainer_jo.links import pretrained

    try:
        return f'ResNet-50, SHA-256 {pretrained.read(path).digest[:16]}…'
    except ChainerJoError as error:
        return f'none: {error.problem}: {error.seen}; {error.fix}'


def _examine_data(name, data):
    """Returns what is known about a data set without a download: a dict."""
    try:
        # An embedded set takes no --data: the option was meant for another set.
        data = None if datasets.is_embedded(name) else data
        if not datasets.at_hand(name, data):
            return {
                'name': name,
                'problem': 'not on this machine',
                'seen': 'no --data, no CHAINER_JO_DATA, nothing in the cache',
                'fix': 'the first run downloads it; or name a folder or archive with --data',
            }
        dataset = datasets.load(name, data)
    except ChainerJoError as error:
        # Reported as a finding, so that a damaged set does not hide the next one.
        return {'name': name, 'problem': error.problem, 'seen': error.seen, 'fix': error.fix}
    return {'name': name, 'variant': dataset.variant, 'digest': dataset.digest}


def as_text(findings):
    """Returns the findings as lines of text."""
    lines = [
        f'{key:16} {value or "not installed"}' for key, value in findings.items() if key != 'data'
    ]
    for data in findings['data']:
        if 'problem' in data:
            lines.append(f'{data["name"]:16} {data["problem"]}\n{"":16} fix: {data["fix"]}')
        else:
            lines.append(f'{data["name"]:16} {data["variant"]}, digest {data["digest"][:16]}…')
    return '\n'.join(lines)
