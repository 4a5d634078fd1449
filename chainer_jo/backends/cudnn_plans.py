"""cuDNN's execution plans for convolutions: built once, kept, and run on raw memory.

A plan is built for a GPU, or for the description of one; then :func:`build` needs no GPU. Only
deterministic plans are used, so that results are the same bit for bit on every run. For the same
reason plans are not chosen by timing them at run time: if two are almost equally fast, a resumed
trial might get the other one. ``plans.json`` holds the fastest plans, as measured once by
``reproduce/measure_plans.py``.
"""

import functools
import json
import threading
import typing
from importlib import resources

import numpy as np

from chainer_jo.errors import ConfigError

WHEEL = 'nvidia-cudnn-frontend==1.23.0'
FIRST, SECOND, RESULT = 1, 2, 3  # Identifiers of a plan's arrays.
_local = threading.local()


class Convolution(typing.NamedTuple):
    """What one plan computes, for channel-last images and weights.

    Attributes:
        operation (str): ``'forward'`` takes x and W, ``'gradient_x'`` takes W and gy,
            ``'gradient_W'`` takes x and gy.
        dtype (str): ``'float32'`` or ``'float16'``, of all three arrays; sums are float32.
        x_shape, W_shape, y_shape (tuple): ``(N, I, H, W)``, ``(O, I, kh, kw)``, ``(N, O, ...)``.
        stride, pad (int): The same for height and width.
        tensor_cores (bool): Whether float32 factors may be rounded to TF32.
    """

    operation: str
    dtype: str
    x_shape: tuple
    W_shape: tuple
    y_shape: tuple
    stride: int
    pad: int
    tensor_cores: bool

    def __str__(self):
        x, W = ('x'.join(map(str, shape)) for shape in (self.x_shape, self.W_shape))
        numbers = self.dtype if self.tensor_cores else f'strict_{self.dtype}'
        return f'{self.operation} {numbers} x {x} W {W} stride {self.stride} pad {self.pad}'


@functools.cache
def load():
    """Loads cuDNN and its front end.

    Raises:
        OSError: One of them is missing or too old; the message says which.
    """
    try:
        import cudnn

        version = cudnn.backend_version()
    # It asserts that there is one copy of cuDNN.
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        raise OSError(f'{WHEEL.partition("=")[0]} cannot be loaded ({error})') from error
    if version < 90000:
        raise OSError(f'cuDNN has version {version}, but 90000 or newer is needed')
    return cudnn


def describe():
    """Returns the versions in a few words. Raises as :func:`load`."""
    return f'cuDNN {_version()}, front end {load().__version__}'


def _version():
    version = load().backend_version()
    return '.'.join(map(str, (version // 10000, version // 100 % 100, version % 100)))


@functools.cache
def measured(gpu):
    """Returns the fastest plan of each measured convolution, for a GPU and this version of cuDNN.

    Args:
        gpu (str): CUDA's name of the GPU.

    Returns:
        dict: ``str(convolution)`` to the plan's index in cuDNN's list; empty if the GPU or the
        version was not measured.
    """
    text = resources.files(__package__).joinpath('plans.json').read_text()
    return json.loads(text).get(f'{gpu}, cuDNN {_version()}', {})


def list_plans(convolution, **device):
    """Returns the front end's graph of a :class:`Convolution`, with cuDNN's list of plans for it.

    No plan is built yet, and some may turn out to be unsupported. Arguments and errors are those of
    :func:`build`.
    """
    cudnn = load()
    try:
        graph = _graph(cudnn, convolution, device)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_numeric_notes(_unwanted(cudnn, convolution))
        graph.check_support()
    except (RuntimeError, cudnn.cudnnGraphNotSupportedError) as error:
        raise _refused(convolution, error) from error
    return graph


def _refused(convolution, error):
    return ConfigError(
        f'cuDNN cannot compute {convolution}',
        seen=str(error),
        fix='choose {setting}',
        setting=('backend', 'chainer'),
    )


def build(convolution, place=None, **device):
    """Returns the front end's graph of a :class:`Convolution` with one plan, ready to run.

    Args:
        place (int): The plan's index in cuDNN's list; None for the one that cuDNN ranks first.
        device: :func:`on` of a GPU, or ``device_property=`` for one that is not present.

    Raises:
        ConfigError: cuDNN has no plan for this convolution.
    """
    cudnn, graph = load(), list_plans(convolution, **device)
    try:
        graph.build_plans() if place is None else graph.build_plan_at_index(place)
    except (RuntimeError, cudnn.cudnnGraphNotSupportedError) as error:
        raise _refused(convolution, error) from error
    return graph


def on(number):
    """Returns the arguments of :func:`build` for the GPU of a number, with a new handle."""
    import cupy

    # Without its version the front end asks libcudart, which CuPy does not bring: it would fail
    # where only the driver is installed, and where two versions of CUDA are.
    version = int(cupy.cuda.Device(number).compute_capability)
    return {'handle': load().create_handle(), 'sm_version': version}


def _graph(cudnn, convolution, device):
    types = {'float32': cudnn.data_type.FLOAT, 'float16': cudnn.data_type.HALF}
    dtype = types[convolution.dtype]
    graph = cudnn.pygraph(
        io_data_type=dtype,
        intermediate_data_type=cudnn.data_type.FLOAT,
        compute_data_type=cudnn.data_type.FLOAT,
        **device,
    )

    def tensor(shape, name):
        made = graph.tensor(dim=list(shape), stride=_strides(shape), data_type=dtype)
        return made.set_uid(name)

    _, _, x, W, y, stride, pad, _ = convolution
    window = {'stride': [stride] * 2, 'padding': [pad] * 2, 'dilation': [1, 1]}
    if convolution.operation == 'forward':
        shape = y
        result = graph.conv_fprop(image=tensor(x, FIRST), weight=tensor(W, SECOND), **window)
    elif convolution.operation == 'gradient_x':
        shape = x
        result = graph.conv_dgrad(filter=tensor(W, FIRST), loss=tensor(y, SECOND), **window)
    else:
        shape = W
        result = graph.conv_wgrad(image=tensor(x, FIRST), loss=tensor(y, SECOND), **window)
    result.set_output(True).set_data_type(dtype).set_dim(list(shape))
    result.set_stride(_strides(shape)).set_uid(RESULT)
    return graph


def _strides(shape):
    _, c, h, w = shape
    return [c * h * w, 1, c * w, c]


def _unwanted(cudnn, convolution):
    notes = [cudnn.numerical_note.NONDETERMINISTIC]
    if convolution.dtype == 'float32' and not convolution.tensor_cores:
        notes.append(cudnn.numerical_note.TENSOR_CORE)
    return notes


class _Device:
    """A thread's handle for one GPU, with its plans and their workspaces.

    Each plan keeps its own workspace, because a captured graph contains the address.
    """

    def __init__(self, number):
        import cupy

        self._how = on(number)
        self.handle = self._how['handle']
        name = cupy.cuda.runtime.getDeviceProperties(number)['name'].decode()
        self._plans, self._places = {}, measured(name)

    def plan(self, convolution):
        import cupy

        if convolution not in self._plans:
            graph = build(convolution, self._places.get(str(convolution)), **self._how)
            # Not from the current pool, which may belong to a captured graph: this array outlives
            # the graph, and CuPy 13 frees a pool's memory even while arrays still use it.
            with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):
                memory = cupy.empty(max(1, graph.get_workspace_size()), np.uint8)
            self._plans[convolution] = graph, memory
        return self._plans[convolution]


def _device(number):
    if not hasattr(_local, 'devices'):
        _local.devices = {}
    if number not in _local.devices:
        _local.devices[number] = _Device(number)
    return _local.devices[number]


def run(convolution, first, second, result):
    """Computes a :class:`Convolution` of CuPy arrays on the current stream.

    The first call builds the plan, and must not be part of a captured graph.
    """
    import cupy

    device = _device(first.device.id)
    graph, memory = device.plan(convolution)
    load().set_stream(handle=device.handle, stream=cupy.cuda.get_current_stream().ptr)
    # Raw pointers: passing arrays to the front end would also synchronize streams.
    pointers = {FIRST: first.data.ptr, SECOND: second.data.ptr, RESULT: result.data.ptr}
    graph.execute(pointers, memory.data.ptr, handle=device.handle)
