"""Makes Chainer 7.8.1 (2022) run on today's NumPy and Python.

Some of its modules use names that no longer exist: ``numpy.distutils``, ``np.sctypes``,
``numpy.float`` and setuptools' ``pkg_resources``. Two import parts of CuPy that are not used here.
These modules are compiled from their source with those lines rewritten. Line numbers stay the same,
Chainer's files are not changed, and nothing is added to the ``numpy`` namespace that could confuse
other libraries.
"""

import importlib.machinery
import os
import sys

_NO_PKG_RESOURCES = {'import pkg_resources\n': 'pkg_resources = None\n'}

# module -> {original text: replacement}
_REWRITES = {
    # This module only prints warnings about versions of 2022.
    'chainer._environment_check': {
        'import numpy.distutils.system_info\n': '\n',
        'import pkg_resources\n': '\n',
        '    _check_python_350()\n': '    return\n',
    },
    # CuPy 13 still has its cuDNN module for Chainer. It needs cuDNN 8, and warns if that is
    # missing.
    'chainer.backends.cuda': {
        '            import cupy.cuda.cudnn\n': '            raise ImportError\n'
    },
    'chainer.functions.array.as_strided': {
        "np.sctypes['int']": '(np.int8, np.int16, np.int32, np.int64)',
        "np.sctypes['float']": '(np.float16, np.float32, np.float64)',
    },
    'chainer.functions.array.resize_images': {'dtype=numpy.float)': 'dtype=numpy.float64)'},
    # CuPy warns if NCCL is missing, and Chainer's updater for several GPUs is not used here.
    'chainer.training.updaters.multiprocess_parallel_updater': {
        '    from cupy.cuda import nccl\n    _available = True\n': '    raise ImportError\n\n',
    },
    # Used only by decorators of Chainer's own tests, but gradient_check imports these modules.
    'chainer.testing.doctest_helper': _NO_PKG_RESOURCES,
    'chainer.testing.helper': _NO_PKG_RESOURCES,
}


class _RewritingLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from its rewritten source, never from cached bytecode."""

    def get_source(self, fullname):
        source = super().get_source(fullname)
        for old, new in _REWRITES[fullname].items():
            source = source.replace(old, new)
        return source

    def get_code(self, fullname):
        return self.source_to_code(self.get_source(fullname), self.get_filename(fullname))


class _RewritingFinder:
    """Finds the modules of ``_REWRITES`` as Python would, and no others."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        if fullname not in _REWRITES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = _RewritingLoader(fullname, spec.origin)
        return spec


def install():
    """Prepares this process for ``import chainer``.

    Imports neither Chainer nor NumPy. A second call does nothing, and neither does a call after
    Chainer was imported, because that Chainer works as it is.
    """
    if 'chainer' in sys.modules or _RewritingFinder in sys.meta_path:
        return
    # Chainer looks for CuPy's module for cuDNN 8, and warns at the first GPU array if it is
    # missing.
    os.environ.setdefault('CHAINER_CUDNN', '0')
    sys.meta_path.insert(0, _RewritingFinder)
