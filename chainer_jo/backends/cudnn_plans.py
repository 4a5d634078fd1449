"""cuDNN's plans for convolutions: found once, kept, run on raw memory.

A plan is made for a GPU, or for the description of one (:func:`build` needs no GPU then). Only
deterministic ones are taken: results are the same bit for bit on every run. That is also why none
is chosen by measuring on the spot: where two are nearly as fast, a resumed trial might get the
other one. ``plans.json`` holds what was measured once, see ``reproduce/measure_plans.py``.
"""

import functools
import json
import threading
import typing
from importlib import resources

import numpy as np

from chainer_jo.errors import ChainerJoError

WHEEL = 'nvidia-cudnn-frontend==1.23.0'
FIRST, SECOND, RESULT = 1, 2, 3  # the names of a plan's arrays
_local = threading.local()


class Convolution(typing.NamedTuple):
    """What one plan computes, for images and weights that lie channel-last.

    Attributes:
        operation (str): ``'forward'`` takes x and W, ``'gradient_x'`` takes W and gy,
            ``'gradient_W'`` takes x and gy.
        dtype (str): ``'float32'`` or ``'float16'``, of all three arrays; sums are float32.
        x_shape, W_shape, y_shape (tuple): ``(N, I, H, W)``, ``(O, I, kh, kw)``, ``(N, O, ...)``.
        stride, pad (int): The same both ways.
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
    """Loads the front end and cuDNN.

    Raises:
        OSError: One is missing or too old; the message says which.
    """
    try:
        import cudnn

        version = cudnn.backend_version()
    except (ImportError, OSError, RuntimeError) as error:
        raise OSError(f'{WHEEL.partition("=")[0]} cannot be loaded ({error})') from error
    if version < 90000:
        raise OSError(f'cuDNN is version {version}, and 90000 or newer is needed')
    return cudnn


def describe():
    """Returns the versions in a few words. Raises as :func:`load`."""
    return f'cuDNN {_version()}, front end {load().__version__}'


def _version():
    version = load().backend_version()
    return '.'.join(map(str, (version // 10000, version // 100 % 100, version % 100)))


@functools.cache
def measured(gpu):
    """Returns which plan of a convolution was the fastest on a GPU, with this cuDNN.

    Args:
        gpu (str): The name that CUDA gives it.

    Returns:
        dict: ``str(convolution)`` to the plan's place in cuDNN's list; empty for other GPUs.
    """
    text = resources.files(__package__).joinpath('plans.json').read_text()
    return json.loads(text).get(f'{gpu}, cuDNN {_version()}', {})


def list_plans(convolution, **device):
    """Returns the front end's graph of a :class:`Convolution` with cuDNN's list of plans for it.

    None of them is built yet; some may turn out not to be allowed. Arguments and errors are those
    of :func:`build`.
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
    return ChainerJoError(
        f'cuDNN cannot compute {convolution}',
        seen=str(error),
        fix='choose {setting}',
        setting=('backend', 'chainer'),
    )


def build(convolution, place=None, **device):
    """Returns the front end's graph of a :class:`Convolution` with one plan, ready to run.

    Args:
        place (int): The plan's in cuDNN's list; None for the one that cuDNN likes best.
        device: ``handle=``, or ``device_property=`` for a GPU that is not there.

    Raises:
        ChainerJoError: cuDNN has no plan.
    """
    cudnn, graph = load(), list_plans(convolution, **device)
    try:
        graph.build_plans() if place is None else graph.build_plan_at_index(place)
    except (RuntimeError, cudnn.cudnnGraphNotSupportedError) as error:
        raise _refused(convolution, error) from error
    return graph


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
    """A thread's handle for one GPU, with its plans and their working memory.

    Each plan keeps an array of its own: a captured graph remembers its address.
    """

    def __init__(self, number):
        import cupy

        self.handle = load().create_handle()
        name = cupy.cuda.runtime.getDeviceProperties(number)['name'].decode()
        self._plans, self._places = {}, measured(name)

    def plan(self, convolution):
        import cupy

        if convolution not in self._plans:
            graph = build(convolution, self._places.get(str(convolution)), handle=self.handle)
            # Not from the current pool, which may belong to a captured graph: this array outlives
            # it, and CuPy 13 frees a pool's memory under the arrays that remain.
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

    The plan is found at the first call, which must not be part of a captured graph.
    """
    import cupy

    device = _device(first.device.id)
    graph, memory = device.plan(convolution)
    load().set_stream(handle=device.handle, stream=cupy.cuda.get_current_stream().ptr)
    # Raw pointers: exchanging arrays would synchronize streams in its own way.
    pointers = {FIRST: first.data.ptr, SECOND: second.data.ptr, RESULT: result.data.ptr}
    graph.execute(pointers, memory.data.ptr, handle=device.handle)
