"""oneDNN convolutions, batch normalisation and pooling for NumPy arrays, forward and backward.

Functions and layout follow :mod:`~chainer_jo.backends.contract`; images are float32 or
``BFLOAT16``. A primitive, oneDNN's name for one operation on arrays of given shapes, takes
milliseconds to create, so each is created once per shape and kept. Calls from several threads run
one after another.
"""

import ctypes
import functools
import math
import threading
import typing

import numpy as np

from chainer_jo.backends import onednn_api as api
from chainer_jo.backends.buffers import Pool
from chainer_jo.backends.shapes import output_shape
from chainer_jo.errors import ConfigError

# NumPy has no bfloat16. The bits are kept in a record type, with which NumPy refuses to compute.
BFLOAT16 = np.dtype([('bfloat16', np.uint16)])
FLOAT32 = np.dtype(np.float32)
DATA_TYPES = {FLOAT32: api.F32, BFLOAT16: api.BF16}
WIDE, NARROW = 16, 16  # Images side by side; pixels in a row.

_lock = threading.Lock()
pool = Pool()


def _cache(function):
    # A net needs about 50 primitives per batch size; the bound matters for images of many sizes.
    made = functools.lru_cache(maxsize=512)(lambda threads, *key: function(*key))

    # A primitive keeps the number of threads that it was created for, and OpenMP has one number for
    # each thread that calls it.
    def cached(*key):
        return made(threads(), *key)

    cached.cache_clear = made.cache_clear
    return cached


class _Runtime(typing.NamedTuple):
    library: ctypes.CDLL
    engine: ctypes.c_void_p
    stream: ctypes.c_void_p


@functools.cache
def load():
    """Loads the library once and returns it with its engine and stream.

    Raises:
        OSError: The library cannot be loaded; the message says why.
    """
    library, engine, stream = api.load(), ctypes.c_void_p(), ctypes.c_void_p()
    if library.dnnl_engine_create(engine, api.CPU, 0):
        raise OSError('oneDNN has no engine for this processor')
    if library.dnnl_stream_create(stream, engine, api.IN_ORDER):
        raise OSError('oneDNN has no stream for this processor')
    return _Runtime(library, engine, stream)


def describe():
    """Returns the version and the number of threads in a few words. Raises as :func:`load`."""
    version = load().library.dnnl_version().contents
    return f'oneDNN {version.major}.{version.minor}.{version.patch}, {threads()} threads'


def threads():
    """Returns the number of threads in use. Raises as :func:`load`."""
    return load().library.omp_get_max_threads()


def why_fewer_threads(count):
    """Returns why OpenMP would start fewer than ``count`` threads, or ``None``. Raises as `load`.

    oneDNN divides its work among all threads in advance, and would wait forever for missing ones.
    """
    library = load().library
    if library.omp_get_thread_limit() < count:
        return f'OMP_THREAD_LIMIT is {library.omp_get_thread_limit()}'
    if count > 1 and library.omp_get_dynamic():
        return 'OMP_DYNAMIC is true: OpenMP may start fewer threads on a busy machine'
    if count > 1 and not library.omp_get_max_active_levels():
        return 'OMP_MAX_ACTIVE_LEVELS is 0'
    return None


def instruction_set():
    """Returns the name of the instruction set in use, such as ``avx512_core_amx``.

    Raises as :func:`load`.
    """
    isa = load().library.dnnl_get_effective_cpu_isa()
    return api.ISA_NAMES.get(isa, f'{isa:#x}')


def has_bfloat16():
    """Returns whether this processor multiplies bfloat16 (AVX-512-BF16, AMX). Raises as `load`."""
    return _has(api.ISA_AVX512_BF16)


def _has(isa):
    # A set of bits: a larger instruction set contains the bits of every smaller one.
    return load().library.dnnl_get_effective_cpu_isa() & isa == isa


def _call(name, *arguments, what):
    status = getattr(load().library, f'dnnl_{name}')(*arguments)
    if status:
        raise ConfigError(
            f'oneDNN failed: {what}',
            seen=f'dnnl_{name} returned {status} ({api.STATUS.get(status, "unknown status")})',
            fix='choose {setting}',
            setting=('backend', 'chainer'),
        )


class _Object:
    """Owns an object of the library: calls ``create`` now, and ``destroy`` when it is deleted."""

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
    """A primitive with its memory objects; call it with one array for each named argument."""

    def __init__(self, descriptor, names, what):
        self._descriptor, self._what = descriptor, what
        self._primitive = _Object('primitive_create', 'primitive_destroy', descriptor, what=what)
        size = load().library.dnnl_memory_desc_get_size
        self._scratchpad = size(self.layout('scratchpad'))
        names = [*names, *['scratchpad'] * (self._scratchpad > 0)]
        self._memories = {name: self._memory(name) for name in names}
        pairs = [(api.ARGUMENTS[name], self._memories[name]._as_parameter_) for name in names]
        self._arguments = (api.ExecArg * len(pairs))(*pairs)

    def _memory(self, name):
        arguments = (self.layout(name), load().engine, None)
        return _Object('memory_create', 'memory_destroy', *arguments, what=self._what)

    def layout(self, name):
        """Returns the memory descriptor of an argument, valid as long as the primitive."""
        # Read from the primitive: with TAG_ANY, oneDNN chooses the layout when it creates it.
        query = load().library.dnnl_primitive_desc_query_md
        return ctypes.c_void_p(query(self._descriptor, api.QUERY_EXEC_ARG_MD, api.ARGUMENTS[name]))

    def empty(self, name):
        """Returns a flat buffer for an argument whose layout the library has chosen."""
        return pool.empty((load().library.dnnl_memory_desc_get_size(self.layout(name)),), np.uint8)

    def __call__(self, **arrays):
        if self._scratchpad:
            arrays['scratchpad'] = pool.empty((self._scratchpad,), np.uint8)
        # All calls share the memory objects, so two threads would overwrite each other's arrays.
        with _lock:
            for name, array in arrays.items():
                handle = array.ctypes.data
                _call('memory_set_data_handle', self._memories[name], handle, what=self._what)
            arguments = (load().stream, len(self._arguments), self._arguments)
            _call('primitive_execute', self._primitive, *arguments, what=self._what)
            # The arrays may be deleted as soon as this returns.
            _call('stream_wait', load().stream, what=self._what)


def _layout(shape, tag, dtype=FLOAT32):
    arguments = (len(shape), api.Dims(*shape), DATA_TYPES[dtype], tag)
    return _Object(
        'memory_desc_create_with_tag', 'memory_desc_destroy', *arguments, what=f'layout of {shape}'
    )


def _describe(name, *arguments, what, post_ops=None):
    attributes = _attributes(what, post_ops)
    return _Object(
        f'{name}_primitive_desc_create',
        'primitive_desc_destroy',
        *(load().engine, *arguments, attributes),
        what=what,
    )


def _attributes(what, post_ops=None):
    attributes = _Object('primitive_attr_create', 'primitive_attr_destroy', what=what)
    # oneDNN's own scratchpad belongs to the thread that creates a primitive; in another thread it
    # would be missing or too small, and the process would crash.
    mode = api.SCRATCHPAD_OF_USER
    _call('primitive_attr_set_scratchpad_mode', attributes, mode, what=what)
    if post_ops:
        _call('primitive_attr_set_post_ops', attributes, post_ops, what=what)
    return attributes


def _reorder(source, target, what):
    engine = load().engine
    descriptor = _Object(
        'reorder_primitive_desc_create',
        'primitive_desc_destroy',
        *(source, engine, target, engine, _attributes(what)),
        what=what,
    )
    return _Primitive(descriptor, ('src', 'dst'), what)


def _empty_images(shape, dtype=FLOAT32):
    # Chainer's shape with the memory order that oneDNN needs; only the strides show it.
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


# The library gets only the address of a vector, so it must be contiguous; a link's vectors are.
def _contiguous(*vectors):
    return map(np.ascontiguousarray, vectors)


class _Geometry:
    """What the three primitives of one convolution share."""

    def __init__(self, dtype, x_shape, W_shape, stride, pad):
        self.what = f'{dtype} convolution of {x_shape} by {W_shape}, stride {stride}, pad {pad}'
        self.y_shape = output_shape(x_shape, W_shape, stride, pad)
        self.x, self.y = (_layout(shape, api.TAG_ACDB, dtype) for shape in (x_shape, self.y_shape))
        self.b = _layout(W_shape[:1], api.TAG_A)
        # TAG_ANY: the library blocks weights for its registers, differently for each primitive.
        self.W, self.gW = (_layout(W_shape, api.TAG_ANY, kind) for kind in (dtype, FLOAT32))
        self.plain_W = _layout(W_shape, api.TAG_ABCD)
        self.window = tuple(
            api.Dims(*pair) for pair in ((stride,) * 2, (0, 0), (pad,) * 2, (pad,) * 2)
        )

    def forward(self, post_ops=None, with_bias=False):
        kind = (api.FORWARD_TRAINING, api.CONVOLUTION_DIRECT)
        layouts = (self.x, self.W, self.b if with_bias else None, self.y)
        arguments = (*kind, *layouts, *self.window)
        return _describe('convolution_forward', *arguments, what=self.what, post_ops=post_ops)

    def backward(self, name, *layouts):
        arguments = (api.CONVOLUTION_DIRECT, *layouts, *self.window, self.forward())
        return _describe(f'convolution_backward_{name}', *arguments, what=self.what)

    def reorder(self, source, target):
        return _reorder(source, target, f'weights for {self.what}')


def _adding(layout, what):
    post_ops = _Object('post_ops_create', 'post_ops_destroy', what=what)
    # Not the post-op "sum": it adds to the destination, so the residual would have to be copied
    # there first.
    _call('post_ops_append_binary', post_ops, api.BINARY_ADD, layout, what=what)
    return post_ops


@_cache
def _convolution(dtype, x_shape, W_shape, stride, pad, with_residual, with_bias):
    geometry = _Geometry(dtype, x_shape, W_shape, stride, pad)
    names = ('src', 'weights', 'dst', *['residual'] * with_residual, *['bias'] * with_bias)
    # The residual is added while the result is still in a register, which saves a pass over memory.
    post_ops = _adding(geometry.y, geometry.what) if with_residual else None
    primitive = _Primitive(geometry.forward(post_ops, with_bias), names, geometry.what)
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
    """Returns weights unchanged: every primitive has its own layout for them."""
    return W


def all_weights(Ws, dtype):
    """Returns the weights unchanged, as a list; see :func:`weights`."""
    return list(Ws)


# On AVX2, oneDNN 3.2 packs the pixels that a strided 1x1 convolution reads into whole registers. If
# the channels do not fill the last register, it writes past its buffer and the process crashes
# later.
def _overruns(channels, W_shape, stride, pad):
    return W_shape[2:] == (1, 1) and stride > 1 and pad == 0 and channels % 8


def convolution(x, W, stride, pad, residual=None, b=None):
    """Returns the convolution of ``x``, plus ``residual`` and the bias ``b`` if given."""
    if _overruns(x.shape[1], W.shape, stride, pad):
        x, stride = x[:, :, ::stride, ::stride], 1
    key = (x.shape, W.shape, stride, pad)
    primitive, reorder = _convolution(x.dtype, *key, residual is not None, b is not None)
    # Reordered in every call, since every step changes them; they are small compared with images.
    weights = primitive.empty('weights')
    reorder(src=np.ascontiguousarray(W), dst=weights)
    y = _empty_images(output_shape(*key), x.dtype)
    extra = {} if residual is None else {'residual': _channel_last(residual)}
    if b is not None:
        extra['bias'] = np.ascontiguousarray(b)
    primitive(src=_channel_last(x), weights=weights, dst=y, **extra)
    return y


def convolution_gradient_x(x_shape, W, gy, stride, pad):
    """Returns the gradient of a convolution's input, of shape ``x_shape``."""
    if _overruns(x_shape[1], W.shape, stride, pad):
        gx = _empty_images(x_shape, gy.dtype)
        gx[...] = 0
        seen = gx[:, :, ::stride, ::stride]
        seen[...] = convolution_gradient_x(seen.shape, W, gy, 1, 0)
        return gx
    primitive, reorder = _convolution_backward_data(gy.dtype, x_shape, W.shape, stride, pad)
    weights = primitive.empty('weights')
    reorder(src=np.ascontiguousarray(W), dst=weights)
    gx = _empty_images(x_shape, gy.dtype)
    primitive(diff_dst=_channel_last(gy), weights=weights, diff_src=gx)
    return gx


def convolution_gradient_W(x, W_shape, gy, stride, pad):
    """Returns the gradient of a convolution's weights, C-ordered, of shape ``W_shape``."""
    if _overruns(x.shape[1], W_shape, stride, pad):
        x, stride = x[:, :, ::stride, ::stride], 1
    if x.dtype == BFLOAT16 and _has(api.ISA_AMX):
        x, gy = _in_wide_rows(_channel_last(x), _channel_last(gy), W_shape, stride, pad)
    primitive, reorder = _convolution_backward_weights(x.dtype, x.shape, W_shape, stride, pad)
    weights = primitive.empty('diff_weights')
    primitive(src=_channel_last(x), diff_dst=_channel_last(gy), diff_weights=weights)
    gW = pool.empty(W_shape)
    reorder(src=weights, dst=gW)
    return gW


# AMX adds the products of 32 pixels at a time. oneDNN 3.2 takes them from one row of one image, and
# fills up narrower rows with zeros: on images of 8 x 8, three quarters of the work are lost.
def _in_wide_rows(x, gy, W_shape, stride, pad):
    """Returns arrays with wider rows that have the same gradient of ``W``, or ``x`` and ``gy``."""
    count = math.gcd(len(x), WIDE)
    if (W_shape[2:], stride, pad) == ((1, 1), 1, 0):
        return _as_rows(x, count), _as_rows(gy, count)
    width, out_width = x.shape[3], gy.shape[3]
    # Only then an output pixel of the wide image for each output pixel of the images.
    same_size = W_shape[3] == 2 * pad + 1
    # For wider rows, the copies take longer than what is saved.
    if count == 1 or out_width > NARROW or not same_size:
        return x, gy
    # The images are at least `pad` apart, so that no window reads two of them.
    pitch = -(-(width + pad) // stride)
    return _side_by_side(x, count, stride * pitch), _side_by_side(gy, count, pitch)


def _as_rows(x, count):
    """Returns a view of images, ``count`` at a time, as one row of pixels."""
    n, c, h, w = x.shape
    rows = x.transpose(0, 2, 3, 1).reshape(n // count, 1, count * h * w, c)
    return rows.transpose(0, 3, 1, 2)


def _side_by_side(x, count, pitch):
    """Returns ``count`` images at a time as one, each followed by zeros up to ``pitch`` columns."""
    n, c, h, w = x.shape
    wide = pool.empty((n // count, h, count, pitch, c), x.dtype)
    # NumPy copies plain numbers faster than records.
    to = wide.view(np.uint16)
    images = x.transpose(0, 2, 3, 1).view(np.uint16).reshape(n // count, count, h, w, c)
    to[:, :, :, :w] = images.swapaxes(1, 2)
    to[:, :, :, w:] = 0
    return wide.reshape(n // count, h, count * pitch, c).transpose(0, 3, 1, 2)


def bias_gradient(gy):
    """Returns the gradient of a convolution's bias, the sum over images and pixels, ``(O,)``."""
    rows = _channel_last(convert(gy, FLOAT32)).transpose(0, 2, 3, 1).reshape(-1, gy.shape[1])
    # NumPy's sum adds row after row; a product adds in blocks, which is faster and rounds less.
    return np.ones(len(rows), np.float32) @ rows


_STATISTICS = ('mean', 'variance', 'scale')


def _normalization(dtype, shape, eps, kind, fixed, relu):
    what = f'{dtype} batch normalisation{" and ReLU" * relu} of {shape}'
    x = _layout(shape, api.TAG_ACDB, dtype)
    flags = api.USE_SCALE | api.USE_SHIFT
    flags |= (api.FUSE_NORM_RELU * relu) | (api.USE_GLOBAL_STATS * fixed)
    forward = _describe('batch_normalization_forward', kind, x, x, eps, flags, what=what)
    return what, x, flags, forward


@_cache
def _normalization_forward(dtype, shape, eps, kind, fixed, relu):
    what, _, _, descriptor = _normalization(dtype, shape, eps, kind, fixed, relu)
    names = ('src', 'dst', 'shift', *_STATISTICS)
    if relu and kind == api.FORWARD_TRAINING:
        names += ('workspace',)
    return _Primitive(descriptor, names, what)


@_cache
def _normalization_backward(dtype, shape, eps, fixed, relu):
    what, x, flags, forward = _normalization(dtype, shape, eps, api.FORWARD_TRAINING, fixed, relu)
    # The primitive of the gradient is created from the forward one, and must match its choices.
    arguments = (api.BACKWARD, x, x, x, eps, flags, forward)
    descriptor = _describe('batch_normalization_backward', *arguments, what=what)
    results = ('diff_src', 'diff_scale', 'diff_shift')
    names = ('src', 'diff_dst', *['workspace'] * relu, *_STATISTICS, *results)
    return _Primitive(descriptor, names, f'gradients of {what}')


def normalize(x, gamma, beta, eps, running=None, relu=False, residual=None):
    """Normalises with the batch's statistics. Returns the result, the statistics and the signs."""
    mean, variance = np.empty((2, x.shape[1]), np.float32)
    y, kept = _normalized(x, gamma, beta, mean, variance, eps, False, relu, residual, True)
    if running is not None:
        _update_running(*running, mean, variance, x.size // gamma.size)
    return y, mean, variance, kept


def _update_running(running_mean, running_variance, decay, mean, variance, m):
    # In place: the link holds these arrays, and snapshots read them from there.
    running_mean *= decay
    running_mean += (1 - decay) * mean
    running_variance *= decay
    running_variance += (1 - decay) * m / max(m - 1, 1) * variance


def normalize_fixed(x, gamma, beta, mean, variance, eps, keep, relu=False, residual=None):
    """Normalises with given statistics. Returns the result and, if ``keep``, the signs."""
    return _normalized(x, gamma, beta, mean, variance, eps, True, relu, residual, keep)


def _normalized(x, gamma, beta, mean, variance, eps, fixed, relu, residual, keep):
    fused = relu and residual is None
    # The inference primitive neither keeps signs nor computes statistics.
    kind = api.FORWARD_TRAINING if keep or not fixed else api.FORWARD_INFERENCE
    primitive = _normalization_forward(x.dtype, x.shape, eps, kind, fixed, fused)
    y = _empty_images(x.shape, x.dtype)
    signs = primitive.empty('workspace') if fused and keep else None
    extra = {} if signs is None else {'workspace': signs}
    if fixed:
        mean, variance = _contiguous(mean, variance)
    gamma, beta = _contiguous(gamma, beta)
    primitive(
        **{'src': _channel_last(x), 'dst': y, 'scale': gamma, 'shift': beta},
        **{'mean': mean, 'variance': variance},
        **extra,
    )
    if residual is not None:
        # The library can fuse this addition into the normalisation on GPUs only.
        _add(y, residual, y, relu)
        signs = y if relu and keep else None
    return y, signs


def normalize_gradients(
    x, gamma, mean, variance, kept, gy, eps, fixed, relu=False, with_residual=False
):
    """Returns the gradients of ``x``, ``gamma``, ``beta`` and the residual, if there was one."""
    fused = relu and not with_residual
    if relu and with_residual:
        gy = relu_gradient(kept, gy)
    primitive = _normalization_backward(x.dtype, x.shape, eps, fixed, fused)
    gx = _empty_images(x.shape, x.dtype)
    ggamma, gbeta = np.empty((2, x.shape[1]), np.float32)
    gamma, mean, variance = _contiguous(gamma, mean, variance)
    primitive(
        **{'src': _channel_last(x), 'diff_dst': _channel_last(gy)},
        **{'mean': mean, 'variance': variance, 'scale': gamma},
        **{'diff_src': gx, 'diff_scale': ggamma, 'diff_shift': gbeta},
        **({'workspace': kept} if fused else {}),
    )
    return gx, ggamma, gbeta, gy if with_residual else None


@_cache
def _relu_backward(dtype, shape):
    what = f'{dtype} gradient of ReLU of {shape}'
    y, kind = _layout(shape, api.TAG_ACDB, dtype), api.ELTWISE_RELU_FROM_RESULT
    arguments = (api.FORWARD_TRAINING, kind, y, y, 0, 0)
    forward = _describe('eltwise_forward', *arguments, what=what)
    descriptor = _describe('eltwise_backward', kind, y, y, y, 0, 0, forward, what=what)
    return _Primitive(descriptor, ('dst', 'diff_dst', 'diff_src'), what)


def relu_gradient(y, gy):
    """Returns ``gy`` where ``y``, the result of a ReLU, is positive, and 0 elsewhere."""
    gx = _empty_images(y.shape, y.dtype)
    _relu_backward(y.dtype, y.shape)(dst=_channel_last(y), diff_dst=_channel_last(gy), diff_src=gx)
    return gx


def _pooling(dtype, kind, shape, window, stride, pad, cover_all):
    y_shape = output_shape(shape, (shape[1], 0, *window), stride[0], pad, cover_all)
    # How far the last windows reach beyond the image; negative if they do not.
    beyond = (
        (count - 1) * step + k - size - pad
        for count, step, k, size in zip(y_shape[2:], stride, window, shape[2:], strict=True)
    )
    layouts = tuple(_layout(s, api.TAG_ACDB, dtype) for s in (shape, y_shape))
    # A dilation of 0, not 1 as elsewhere: the library counts the gaps between elements.
    paddings = api.Dims(pad, pad), api.Dims(*beyond)
    window = (api.Dims(*stride), api.Dims(*window), api.Dims(0, 0), *paddings)
    what = f'{dtype} pooling of {shape}'
    arguments = (api.FORWARD_TRAINING, kind, *layouts, *window)
    forward = _describe('pooling_forward', *arguments, what=what)
    return what, layouts, window, forward


@_cache
def _pooling_forward(dtype, kind, shape, *window):
    what, _, _, descriptor = _pooling(dtype, kind, shape, *window)
    names = ('src', 'dst', *['workspace'] * (kind == api.POOLING_MAX))
    return _Primitive(descriptor, names, what)


@_cache
def _pooling_backward(dtype, kind, shape, *window):
    what, layouts, window, forward = _pooling(dtype, kind, shape, *window)
    descriptor = _describe('pooling_backward', kind, *layouts, *window, forward, what=what)
    names = ('diff_dst', 'diff_src', *['workspace'] * (kind == api.POOLING_MAX))
    return _Primitive(descriptor, names, f'gradient of {what}')


def _whole(shape):
    return FLOAT32, api.POOLING_AVERAGE, shape, shape[2:], (1, 1), 0, False


def max_pooling(x, k, stride, pad, cover_all=False):
    """Returns the maximum of each window, and what :func:`max_pooling_gradient` needs."""
    window = (k, stride, pad, cover_all)
    primitive = _pooling_forward(*_windows(x.dtype, x.shape, *window))
    y = _empty_images(output_shape(x.shape, (x.shape[1], 0, k, k), *window[1:]), x.dtype)
    places = primitive.empty('workspace')
    primitive(src=_channel_last(x), dst=y, workspace=places)
    return y, places


def max_pooling_gradient(x_shape, places, gy, k, stride, pad, cover_all=False):
    """Returns the gradient of :func:`max_pooling`'s ``x``, of shape ``x_shape``."""
    gx = _empty_images(x_shape, gy.dtype)
    primitive = _pooling_backward(*_windows(gy.dtype, x_shape, k, stride, pad, cover_all))
    primitive(diff_dst=_channel_last(gy), diff_src=gx, workspace=places)
    return gx


def _windows(dtype, shape, k, stride, pad, cover_all):
    return dtype, api.POOLING_MAX, shape, (k, k), (stride, stride), pad, cover_all


def average(x):
    """Returns the average of each channel of each image, ``(N, C)``, float32."""
    # Converted first, so that the sum over an image is computed in float32.
    y, x = np.empty(x.shape[:2], np.float32), convert(x, FLOAT32)
    _pooling_forward(*_whole(x.shape))(src=_channel_last(x), dst=y)
    return y


def average_gradient(x_shape, dtype, gy):
    """Returns the gradient of :func:`average`'s argument for ``gy``, ``(N, C)``, float32."""
    gx = _empty_images(x_shape)
    _pooling_backward(*_whole(x_shape))(diff_dst=np.ascontiguousarray(gy), diff_src=gx)
    return convert(gx, dtype)


@_cache
def _addition(dtype, shape, relu):
    what = f'{dtype} sum of two arrays of {shape}'
    x = _layout(shape, api.TAG_ACDB, dtype)
    post_ops = _rectifying(what) if relu else None
    descriptor = _describe('binary', api.BINARY_ADD, x, x, x, what=what, post_ops=post_ops)
    return _Primitive(descriptor, ('src', 'src_1', 'dst'), what)


def _rectifying(what):
    post_ops = _Object('post_ops_create', 'post_ops_destroy', what=what)
    _call('post_ops_append_eltwise', post_ops, api.ELTWISE_RELU, 0, 0, what=what)
    return post_ops


def _add(x, y, out, relu):
    primitive = _addition(x.dtype, x.shape, relu)
    primitive(src=_channel_last(x), src_1=_channel_last(y), dst=out)
    return out


def add(x, y, out=None):
    """Returns the sum of two image arrays; ``out`` may be ``x`` if that is channel-last."""
    return _add(x, y, _empty_images(x.shape, x.dtype) if out is None else out, False)


def accumulate(gx, other, gy):
    """Returns ``gx + other``, in place unless ``gx`` is ``gy``."""
    # Not in place then: `gy` may be the gradient of another input as well.
    if _lies_channel_last(gx):
        return add(gx, other, None if gx is gy else gx)
    return gx + other


@_cache
def _conversion(source, target, shape):
    layouts = [_layout(shape, api.TAG_ACDB, dtype) for dtype in (source, target)]
    return _reorder(*layouts, f'{source} to {target} of {shape}')


def convert(x, dtype):
    """Returns ``x`` as float32 or as ``BFLOAT16``, rounded to nearest."""
    if x.dtype == dtype:
        return x
    y = _empty_images(x.shape, dtype)
    _conversion(x.dtype, dtype, x.shape)(src=_channel_last(x), dst=y)
    return y


def convert_gradient(gx, dtype):
    """Returns a gradient of images in another type; here no type has a scale factor."""
    return convert(gx, dtype)


def takes(array):
    """Returns whether this is a NumPy array of a supported dtype."""
    return isinstance(array, np.ndarray) and array.dtype in DATA_TYPES
