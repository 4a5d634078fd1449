"""Convolution, BN+ReLU and pooling of NumPy arrays by oneDNN, forward and backward.

Every image array has the shape ``(N, C, H, W)`` and the type float32 or ``BFLOAT16``; results have
the type of the arguments. They lie channel-last in memory, which their strides show; arguments in
another layout are copied first. Weights, ``(O, I, kh, kw)``, statistics and the gradients of both
are always float32. Primitives are made once a shape and kept. Calls of several threads wait for
each other.
"""

import ctypes
import functools
import threading
import typing

import numpy as np

from chainer_jo.backends import onednn_api as api
from chainer_jo.backends.buffers import Pool
from chainer_jo.errors import ChainerJoError

# NumPy has no bfloat16. A record of its bits is no number: nothing computes with it by mistake.
BFLOAT16 = np.dtype([('bfloat16', np.uint16)])
FLOAT32 = np.dtype(np.float32)
DATA_TYPES = {FLOAT32: api.F32, BFLOAT16: api.BF16}

# One net needs some 50 primitives for each batch size; the bound is for data of many sizes.
_cache = functools.lru_cache(maxsize=512)
_lock = threading.Lock()
pool = Pool()


class _Runtime(typing.NamedTuple):
    library: ctypes.CDLL
    engine: ctypes.c_void_p
    stream: ctypes.c_void_p


@functools.cache
def load():
    """Loads the library once and returns it with its engine and stream.

    Raises:
        OSError: It cannot be loaded; the message says why.
    """
    library, engine, stream = api.load(), ctypes.c_void_p(), ctypes.c_void_p()
    if library.dnnl_engine_create(engine, api.CPU, 0):
        raise OSError('oneDNN has no engine for this processor')
    if library.dnnl_stream_create(stream, engine, api.IN_ORDER):
        raise OSError('oneDNN has no stream for this processor')
    return _Runtime(library, engine, stream)


def describe():
    """Returns version and threads in a few words. Raises as :func:`load`."""
    version = load().library.dnnl_version().contents
    return f'oneDNN {version.major}.{version.minor}.{version.patch}, {threads()} threads'


def threads():
    """Returns the number of threads that compute. Raises as :func:`load`."""
    return load().library.omp_get_max_threads()


def instruction_set():
    """Returns the name of the instruction set in use, such as ``avx512_core_amx``.

    Raises as :func:`load`.
    """
    isa = load().library.dnnl_get_effective_cpu_isa()
    return api.ISA_NAMES.get(isa, f'{isa:#x}')


def has_bfloat16():
    """Says whether this processor multiplies bfloat16 (AVX-512-BF16 or AMX). Raises as `load`."""
    isa = load().library.dnnl_get_effective_cpu_isa()
    return isa & api.ISA_AVX512_BF16 == api.ISA_AVX512_BF16


def _call(name, *arguments, what):
    status = getattr(load().library, f'dnnl_{name}')(*arguments)
    if status:
        raise ChainerJoError(
            f'oneDNN failed: {what}',
            seen=f'dnnl_{name} returned {status} ({api.STATUS.get(status, "unknown status")})',
            fix='use --backend chainer',
        )


class _Object:
    """Owns one object of the library, made by ``<create>`` and ended with it."""

    def __init__(self, create, destroy, *arguments, what):
        self._as_parameter_ = None
        self._destroy = getattr(load().library, f'dnnl_{destroy}')
        handle = ctypes.c_void_p()
        _call(create, handle, *arguments, what=what)
        self._as_parameter_ = handle

    def __del__(self):
        if self._as_parameter_:
            self._destroy(self._as_parameter_)


class _Primitive:
    """A primitive with its memory objects; called with one array for each named argument."""

    def __init__(self, descriptor, names, what):
        self._descriptor, self._what = descriptor, what
        self._primitive = _Object('primitive_create', 'primitive_destroy', descriptor, what=what)
        self._memories = {name: self._memory(name) for name in names}
        pairs = [(api.ARGUMENTS[name], self._memories[name]._as_parameter_) for name in names]
        self._arguments = (api.ExecArg * len(pairs))(*pairs)

    def _memory(self, name):
        arguments = (self.layout(name), load().engine, None)
        return _Object('memory_create', 'memory_destroy', *arguments, what=self._what)

    def layout(self, name):
        """Returns the memory descriptor of an argument; it lives as long as the primitive."""
        query = load().library.dnnl_primitive_desc_query_md
        return ctypes.c_void_p(query(self._descriptor, api.QUERY_EXEC_ARG_MD, api.ARGUMENTS[name]))

    def empty(self, name):
        """Returns a flat buffer for an argument whose layout is the library's own."""
        return pool.empty((load().library.dnnl_memory_desc_get_size(self.layout(name)),), np.uint8)

    def __call__(self, **arrays):
        with _lock:
            for name, array in arrays.items():
                handle = array.ctypes.data
                _call('memory_set_data_handle', self._memories[name], handle, what=self._what)
            arguments = (load().stream, len(self._arguments), self._arguments)
            _call('primitive_execute', self._primitive, *arguments, what=self._what)
            _call('stream_wait', load().stream, what=self._what)


def _layout(shape, tag, dtype=FLOAT32):
    arguments = (len(shape), api.Dims(*shape), DATA_TYPES[dtype], tag)
    return _Object(
        'memory_desc_create_with_tag', 'memory_desc_destroy', *arguments, what=f'layout of {shape}'
    )


def _describe(name, *arguments, what):
    create = f'{name}_primitive_desc_create'
    return _Object(create, 'primitive_desc_destroy', load().engine, *arguments, what=what)


def _reorder(source, target, what):
    engine = load().engine
    descriptor = _Object(
        'reorder_primitive_desc_create',
        'primitive_desc_destroy',
        *(source, engine, target, engine, None),
        what=what,
    )
    return _Primitive(descriptor, ('src', 'dst'), what)


def _empty_images(shape, dtype=FLOAT32):
    n, c, h, w = shape
    return pool.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def _lies_channel_last(x):
    return x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous


def _channel_last(x):
    if _lies_channel_last(x):
        return x
    copy = _empty_images(x.shape, x.dtype)
    copy[...] = x
    return copy


def _contiguous(*vectors):
    return map(np.ascontiguousarray, vectors)


class _Geometry:
    """What the three primitives of one convolution have in common."""

    def __init__(self, dtype, x_shape, W_shape, stride, pad):
        self.what = f'{dtype} convolution of {x_shape} by {W_shape}, stride {stride}, pad {pad}'
        self.y_shape = output_shape(x_shape, W_shape, stride, pad)
        self.x, self.y = (_layout(shape, api.TAG_ACDB, dtype) for shape in (x_shape, self.y_shape))
        self.W, self.gW = (_layout(W_shape, api.TAG_ANY, kind) for kind in (dtype, FLOAT32))
        self.plain_W = _layout(W_shape, api.TAG_ABCD)
        self.window = tuple(
            api.Dims(*pair) for pair in ((stride,) * 2, (0, 0), (pad,) * 2, (pad,) * 2)
        )

    def forward(self, attributes=None):
        kind = (api.FORWARD_TRAINING, api.CONVOLUTION_DIRECT)
        layouts = (self.x, self.W, None, self.y)
        return _describe(
            'convolution_forward', *kind, *layouts, *self.window, attributes, what=self.what
        )

    def backward(self, name, *layouts):
        arguments = (api.CONVOLUTION_DIRECT, *layouts, *self.window, self.forward(), None)
        return _describe(f'convolution_backward_{name}', *arguments, what=self.what)

    def reorder(self, source, target):
        return _reorder(source, target, f'weights for {self.what}')


def output_shape(x_shape, W_shape, stride, pad):
    """Returns the shape of a convolution's result."""
    height, width = (
        (s + 2 * pad - k) // stride + 1 for s, k in zip(x_shape[2:], W_shape[2:], strict=True)
    )
    return x_shape[0], W_shape[0], height, width


def _adding(layout, what):
    post_ops = _Object('post_ops_create', 'post_ops_destroy', what=what)
    _call('post_ops_append_binary', post_ops, api.BINARY_ADD, layout, what=what)
    attributes = _Object('primitive_attr_create', 'primitive_attr_destroy', what=what)
    _call('primitive_attr_set_post_ops', attributes, post_ops, what=what)
    return attributes


@_cache
def _convolution(dtype, x_shape, W_shape, stride, pad, with_residual):
    geometry = _Geometry(dtype, x_shape, W_shape, stride, pad)
    names = ('src', 'weights', 'dst')
    attributes = None
    if with_residual:
        names += ('residual',)
        attributes = _adding(geometry.y, geometry.what)
    primitive = _Primitive(geometry.forward(attributes), names, geometry.what)
    return primitive, geometry.reorder(geometry.plain_W, primitive.layout('weights'))


@_cache
def _convolution_backward_data(dtype, x_shape, W_shape, stride, pad):
    geometry = _Geometry(dtype, x_shape, W_shape, stride, pad)
    descriptor = geometry.backward('data', geometry.x, geometry.W, geometry.y)
    names = ('diff_dst', 'weights', 'diff_src')
    primitive = _Primitive(descriptor, names, f'gradient of x of {geometry.what}')
    return primitive, geometry.reorder(geometry.plain_W, primitive.layout('weights'))


@_cache
def _convolution_backward_weights(dtype, x_shape, W_shape, stride, pad):
    geometry = _Geometry(dtype, x_shape, W_shape, stride, pad)
    descriptor = geometry.backward('weights', geometry.x, geometry.gW, None, geometry.y)
    names = ('src', 'diff_dst', 'diff_weights')
    primitive = _Primitive(descriptor, names, f'gradient of W of {geometry.what}')
    return primitive, geometry.reorder(primitive.layout('diff_weights'), geometry.plain_W)


def weights(W, dtype):
    """Returns weights as they are: every primitive has its own layout for them."""
    return W


def convolution(x, W, stride, pad, residual=None):
    """Returns the convolution of ``x``, plus ``residual`` (of the result's shape) if given."""
    key = (x.shape, W.shape, stride, pad)
    primitive, reorder = _convolution(x.dtype, *key, residual is not None)
    weights = primitive.empty('weights')
    reorder(src=np.ascontiguousarray(W), dst=weights)
    y = _empty_images(output_shape(*key), x.dtype)
    extra = {} if residual is None else {'residual': _channel_last(residual)}
    primitive(src=_channel_last(x), weights=weights, dst=y, **extra)
    return y


def convolution_gradient_x(x_shape, W, gy, stride, pad):
    """Returns the gradient of a convolution's input, of shape ``x_shape``."""
    primitive, reorder = _convolution_backward_data(gy.dtype, x_shape, W.shape, stride, pad)
    weights = primitive.empty('weights')
    reorder(src=np.ascontiguousarray(W), dst=weights)
    gx = _empty_images(x_shape, gy.dtype)
    primitive(diff_dst=_channel_last(gy), weights=weights, diff_src=gx)
    return gx


def convolution_gradient_W(x, W_shape, gy, stride, pad):
    """Returns the gradient of a convolution's weights, C-ordered, of shape ``W_shape``."""
    primitive, reorder = _convolution_backward_weights(x.dtype, x.shape, W_shape, stride, pad)
    weights = primitive.empty('diff_weights')
    primitive(src=_channel_last(x), diff_dst=_channel_last(gy), diff_weights=weights)
    gW = np.empty(W_shape, np.float32)
    reorder(src=weights, dst=gW)
    return gW


_STATISTICS = ('mean', 'variance', 'scale')


def _normalization(dtype, shape, eps, kind, fixed):
    what = f'{dtype} batch normalisation and ReLU of {shape}'
    x = _layout(shape, api.TAG_ACDB, dtype)
    flags = api.USE_SCALE | api.USE_SHIFT | api.FUSE_NORM_RELU | (api.USE_GLOBAL_STATS * fixed)
    forward = _describe('batch_normalization_forward', kind, x, x, eps, flags, None, what=what)
    return what, x, flags, forward


@_cache
def _normalization_forward(dtype, shape, eps, kind, fixed):
    what, _, _, descriptor = _normalization(dtype, shape, eps, kind, fixed)
    names = ('src', 'dst', 'shift', *_STATISTICS)
    if kind == api.FORWARD_TRAINING:
        names += ('workspace',)
    return _Primitive(descriptor, names, what)


@_cache
def _normalization_backward(dtype, shape, eps, fixed):
    what, x, flags, forward = _normalization(dtype, shape, eps, api.FORWARD_TRAINING, fixed)
    arguments = (api.BACKWARD, x, x, x, eps, flags, forward, None)
    descriptor = _describe('batch_normalization_backward', *arguments, what=what)
    results = ('diff_src', 'diff_scale', 'diff_shift')
    names = ('src', 'diff_dst', 'workspace', *_STATISTICS, *results)
    return _Primitive(descriptor, names, f'gradients of {what}')


def normalize_relu(x, gamma, beta, eps, running=None):
    """Returns ``relu(gamma * (x - mean) / sqrt(variance + eps) + beta)`` over the batch.

    Args:
        running (tuple): None, or ``(mean, variance, decay)``: arrays that move towards the batch's
            mean and unbiased variance, and how much of them stays.

    Returns:
        tuple: The result; mean and (biased) variance of each channel; the signs that
        :func:`normalize_relu_gradients` needs.
    """
    primitive = _normalization_forward(x.dtype, x.shape, eps, api.FORWARD_TRAINING, False)
    mean, variance = np.empty((2, x.shape[1]), np.float32)
    y, signs = _empty_images(x.shape, x.dtype), primitive.empty('workspace')
    gamma, beta = _contiguous(gamma, beta)
    primitive(
        **{'src': _channel_last(x), 'dst': y, 'scale': gamma, 'shift': beta},
        **{'mean': mean, 'variance': variance, 'workspace': signs},
    )
    if running is not None:
        _update_running(*running, mean, variance, x.size // gamma.size)
    return y, mean, variance, signs


def _update_running(running_mean, running_variance, decay, mean, variance, m):
    running_mean *= decay
    running_mean += (1 - decay) * mean
    running_variance *= decay
    running_variance += (1 - decay) * m / max(m - 1, 1) * variance


def normalize_relu_fixed(x, gamma, beta, mean, variance, eps, keep_signs):
    """Normalises by given statistics. Returns the result and the signs, or None."""
    kind = api.FORWARD_TRAINING if keep_signs else api.FORWARD_INFERENCE
    primitive = _normalization_forward(x.dtype, x.shape, eps, kind, True)
    y = _empty_images(x.shape, x.dtype)
    extra = {'workspace': primitive.empty('workspace')} if keep_signs else {}
    gamma, beta, mean, variance = _contiguous(gamma, beta, mean, variance)
    primitive(
        **{'src': _channel_last(x), 'dst': y, 'scale': gamma, 'shift': beta},
        **{'mean': mean, 'variance': variance},
        **extra,
    )
    return y, extra.get('workspace')


def normalize_relu_gradients(x, gamma, mean, variance, signs, gy, eps, fixed):
    """Returns the gradients of ``x``, ``gamma`` and ``beta``.

    ``fixed`` says that the statistics are constants, not those of ``x``.
    """
    primitive = _normalization_backward(x.dtype, x.shape, eps, fixed)
    gx = _empty_images(x.shape, x.dtype)
    ggamma, gbeta = np.empty((2, x.shape[1]), np.float32)
    gamma, mean, variance = _contiguous(gamma, mean, variance)
    primitive(
        **{'src': _channel_last(x), 'diff_dst': _channel_last(gy), 'workspace': signs},
        **{'mean': mean, 'variance': variance, 'scale': gamma},
        **{'diff_src': gx, 'diff_scale': ggamma, 'diff_shift': gbeta},
    )
    return gx, ggamma, gbeta


def _pooling(shape):
    n, c, h, w = shape
    layouts = tuple(_layout(s, api.TAG_ACDB) for s in (shape, (n, c, 1, 1)))
    nothing = api.Dims(0, 0)
    window = (api.Dims(1, 1), api.Dims(h, w), nothing, nothing, nothing)
    what = f'average pooling of {shape}'
    kind = (api.FORWARD_TRAINING, api.POOLING_AVERAGE)
    forward = _describe('pooling_forward', *kind, *layouts, *window, None, what=what)
    return what, layouts, window, forward


@_cache
def _pooling_forward(shape):
    what, _, _, descriptor = _pooling(shape)
    return _Primitive(descriptor, ('src', 'dst'), what)


@_cache
def _pooling_backward(shape):
    what, layouts, window, forward = _pooling(shape)
    arguments = (api.POOLING_AVERAGE, *layouts, *window, forward, None)
    descriptor = _describe('pooling_backward', *arguments, what=what)
    return _Primitive(descriptor, ('diff_dst', 'diff_src'), f'gradient of {what}')


def average(x):
    """Returns the average of each channel of each image, ``(N, C)``, float32."""
    y, x = np.empty(x.shape[:2], np.float32), convert(x, FLOAT32)
    _pooling_forward(x.shape)(src=_channel_last(x), dst=y)
    return y


def average_gradient(x_shape, dtype, gy):
    """Returns the gradient of :func:`average`'s argument from ``gy``, ``(N, C)``, float32."""
    gx = _empty_images(x_shape)
    _pooling_backward(x_shape)(diff_dst=np.ascontiguousarray(gy), diff_src=gx)
    return convert(gx, dtype)


@_cache
def _addition(dtype, shape):
    what = f'{dtype} sum of two arrays of {shape}'
    x = _layout(shape, api.TAG_ACDB, dtype)
    descriptor = _describe('binary', api.BINARY_ADD, x, x, x, None, what=what)
    return _Primitive(descriptor, ('src', 'src_1', 'dst'), what)


def add(x, y, out=None):
    """Returns the sum of two images; ``out`` may be ``x``, if it is a result of this module."""
    out = _empty_images(x.shape, x.dtype) if out is None else out
    _addition(x.dtype, x.shape)(src=_channel_last(x), src_1=_channel_last(y), dst=out)
    return out


def accumulate(gx, other, gy):
    """Returns the sum of two gradients: in place, unless the first is ``gy``, others' too."""
    if _lies_channel_last(gx):
        return add(gx, other, None if gx is gy else gx)
    return gx + other


@_cache
def _conversion(source, target, shape):
    layouts = [_layout(shape, api.TAG_ACDB, dtype) for dtype in (source, target)]
    return _reorder(*layouts, f'{source} to {target} of {shape}')


def convert(x, dtype):
    """Returns ``x`` as float32 or as ``BFLOAT16``, rounded to the nearest."""
    if x.dtype == dtype:
        return x
    y = _empty_images(x.shape, dtype)
    _conversion(x.dtype, dtype, x.shape)(src=_channel_last(x), dst=y)
    return y


def convert_gradient(gx, dtype):
    """Returns the gradient of an image as another type; all types have the same scale here."""
    return convert(gx, dtype)


def takes(array):
    """Says whether this is an array of NumPy of a type that is computed here."""
    return isinstance(array, np.ndarray) and array.dtype in DATA_TYPES
