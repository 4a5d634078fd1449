import itertools
import re
import warnings
from importlib import resources

import pytest

from chainer_jo.backends import kernels, many_arrays

NAMES = sorted(p.stem for p in resources.files(kernels).iterdir() if p.name.endswith('.cu'))
TYPES = ('float', '__half')
LAYOUTS = [
    {'HALF': half, 'VEC': vector, 'THREADS': kernels.THREADS}
    for half, vector in itertools.product((0, 1), (1, 4))
]
# Everything that a kernel is compiled with in this package.
MACROS = {
    'batch_normalization_relu': [macros | {'RELU': relu} for macros in LAYOUTS for relu in (0, 1)],
    'bias': LAYOUTS,
    'max_pooling': LAYOUTS,
    'relu': LAYOUTS,
    'pooling': LAYOUTS,
    'elementwise': LAYOUTS,
    'copy': [
        {'HALF': int('__half' in pair), 'SOURCE': pair[0], 'TARGET': pair[1]}
        for pair in itertools.product(TYPES, TYPES)
    ],
    'gradient_W': [
        {'HALF': half, 'WIDTH': width, 'ROWS': rows}
        for half in (0, 1)
        for width, rows in ((32, 4), (16, 8), (8, 8), (7, 7))
    ],
    'weights': [{'MOST': many_arrays.MOST}],
    'losses': [{'THREADS': kernels.THREADS}],
    'update': [{'MOST': many_arrays.MOST}],
}


@pytest.fixture(scope='module')
def nvrtc():
    """Skips a test where CuPy, its compiler or CUDA's headers are not installed."""
    fix = 'pip install "cupy-cuda13x[ctk]"'
    pytest.importorskip('cupy', reason=f'no CuPy: {fix}')
    from cupy.cuda import nvrtc

    pathfinder = pytest.importorskip('cuda.pathfinder', reason=f'no CUDA libraries: {fix}')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of libraries that are not needed here
            nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f'NVRTC cannot be loaded ({error}): {fix}')
    folder = pathfinder.find_nvidia_header_directory('cudart')
    return nvrtc, f'-I{folder}'


@pytest.mark.parametrize('arch', [80, 90, 100])
@pytest.mark.parametrize('name', NAMES)
def test_it_compiles_for_the_gpus_of_today(name, arch, nvrtc):
    nvrtc, include = nvrtc
    for macros in MACROS.get(name, [{}]):
        program = nvrtc.createProgram(kernels.source(name), f'{name}.cu', (), ())
        options = (*kernels.options(**macros), f'-arch=sm_{arch}', include)
        nvrtc.compileProgram(program, options)
        binary = nvrtc.getCUBIN(program)
        for entry in entries(name):
            assert entry.encode() in binary
        nvrtc.destroyProgram(program)


def entries(name):
    return re.findall(r'extern "C" __global__ void (\w+)\(', kernels.source(name))


@pytest.mark.parametrize('name', NAMES)
def test_its_results_are_the_same_on_every_run(name):
    assert entries(name)
    assert 'atomic' not in kernels.source(name)


@pytest.mark.parametrize('name', NAMES)
def test_its_text_stands_for_itself_so_that_a_changed_header_is_compiled_again(name):
    assert '#include "' not in kernels.source(name)
