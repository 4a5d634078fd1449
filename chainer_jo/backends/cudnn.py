"""cuDNN convolutions and custom kernels for CuPy arrays.

Functions and layout follow :mod:`~chainer_jo.backends.contract`: every image array has the shape
``(N, C, H, W)`` and the dtype float32 or float16, and is channel-last in memory; arguments in
another layout are copied first. Weights, ``(O, I, kh, kw)``, are channel-last as well. Weights,
statistics and the gradients of both are always float32. Nothing here waits for the GPU or calls
cuBLAS, so a step can be captured once every function has run before on the same shapes.

Gradients of float16 images are stored multiplied by ``SCALE``, so that small ones do not underflow:
:func:`average_gradient` applies the factor, and gradients of parameters are returned without it.
"""

import functools
import math
import sys

import chainer
import numpy as np

from chainer_jo.backends import cudnn_plans, kernels, many_arrays
from chainer_jo.backends.cudnn_plans import Convolution, describe
from chainer_jo.backends.kernels import THREADS
from chainer_jo.backends.momentum_sgd import update
from chainer_jo.backends.shapes import output_shape

__all__ = ['describe', 'output_shape', 'update']

FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)
# Factor of the gradients of images. After the mean over a batch of 128 and the average over 64
# pixels they are around 1e-5, where float16 has two digits; the largest, times 1024, is far below
# its limit of 65504.
SCALE = {FLOAT32: 1, FLOAT16: 1024}
_TYPE_NAMES = {FLOAT32: 'float', FLOAT16: '__half'}
# The first kernel of a reduction computes at most this many partial results: four blocks for each
# of the 132 multiprocessors of an H100.
_PARTS = 528
_ROWS_OF_A_THREAD = 4


def load():
    """Loads CuPy, cuDNN and its front end.

    Raises:
        OSError: One of them, or a GPU, is missing; the message says which.
    """
    try:
        import cupy
    except ImportError as error:
        raise OSError(f'CuPy is not installed ({error})') from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise OSError(str(error)) from error
    cudnn_plans.load()


def takes(array):
    """Returns whether this is a CuPy array of a supported dtype."""
    # Looked up, not imported: if there is a CuPy array, CuPy has been imported already.
    cupy = sys.modules.get('cupy')
    return cupy is not None and isinstance(array, cupy.ndarray) and array.dtype in SCALE


def _empty(shape, dtype=FLOAT32):
    # Imported in the function: this module is imported on machines without CuPy too.
    import cupy

    return cupy.empty(shape, dtype)


def _empty_images(shape, dtype=FLOAT32):
    # Chainer's shape with the memory order that tensor cores need; only the strides show it.
    n, c, h, w = shape
    return _empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def _lies_channel_last(x):
    return x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous


def _channel_last(x):
    return x if _lies_channel_last(x) else convert(x, x.dtype)


def _contiguous(*arrays, dtype=FLOAT32):
    import cupy

    return (cupy.ascontiguousarray(array, dtype) for array in arrays)


def _launch(name, entry, grid, block, *arguments, shared=0, **macros):
    """Runs a kernel on the current stream; Python numbers are passed as C's int and float.

    ``shared`` is the size of dynamic shared memory in bytes, for kernels that use it.
    """
    # CuPy passes Python numbers as 64-bit values, but the kernels take 32 bits.
    kinds = {int: np.int32, float: np.float32}
    arguments = tuple(kinds.get(type(value), lambda v: v)(value) for value in arguments)
    kernel = kernels.function(name, entry, **macros)
    # CUDA allows a block no more than 48 KB unless the kernel asks for more.
    if shared and kernel.max_dynamic_shared_size_bytes < shared:
        kernel.max_dynamic_shared_size_bytes = shared
    kernel(grid, block, arguments, shared_mem=shared)


def _launch_flat(name, entry, size, *arguments, **macros):
    """Runs a kernel with one thread for each of ``size`` elements."""
    _launch(name, entry, (math.ceil(size / THREADS),), (THREADS,), *arguments, **macros)


class _Rows:
    """How kernels with ``channel_last.cuh`` divide images: into rows of packs of channels."""

    def __init__(self, x, **macros):
        n, c, h, w = x.shape
        # Four channels are loaded at once; other counts, such as an input image's three, singly.
        vector = 1 if c % 4 else 4
        self.rows, self.columns = n * h * w, c // vector
        self.macros = {'HALF': int(x.dtype == FLOAT16), 'VEC': vector, 'THREADS': THREADS}
        self.macros |= macros
        width = min(self.columns, THREADS)
        self.block = (width, 1 << int(math.log2(THREADS // width)))
        self._groups = math.ceil(self.columns / width)

    def grid(self, x):
        return (x, self._groups)

    def parts(self):
        """Returns the number of rows in a part of a reduction, and the number of parts."""
        # The split depends only on the shape, so that the rounding of a sum does too.
        least = self.block[1] * _ROWS_OF_A_THREAD
        chunk = max(least, math.ceil(self.rows / _PARTS))
        return chunk, math.ceil(self.rows / chunk)

    def launch(self, name, entry, x, *arguments):
        """Runs a kernel with ``x`` blocks per group of columns."""
        _launch(name, entry, self.grid(x), self.block, *arguments, **self.macros)

    def launch_over(self, name, entry, *arguments):
        """Runs a kernel over all rows."""
        blocks = math.ceil(self.rows / (self.block[1] * _ROWS_OF_A_THREAD))
        self.launch(name, entry, blocks, *arguments, self.rows, self.columns)

    def reduce(self, name, entry, numbers, *arguments):
        """Runs the first kernel of a reduction and returns its partial results.

        ``numbers`` gives the size of a column's result for the number of channels in a pack.
        """
        chunk, parts = self.parts()
        partial = _empty((parts, self.columns, numbers(self.macros['VEC'])))
        self.launch(name, entry, parts, *arguments, partial, self.rows, self.columns, chunk)
        return partial

    def finish(self, name, entry, partial, *arguments):
        """Runs the second kernel of a reduction, one block per column."""
        arguments = (partial, len(partial), self.columns, *arguments)
        _launch(name, entry, (self.columns,), (THREADS,), *arguments, **self.macros)


def convert(x, dtype, factor=1.0):
    """Returns ``x`` times ``factor``, channel-last, as float32 or float16, rounded to nearest."""
    if x.dtype == dtype and factor == 1 and _lies_channel_last(x):
        return x
    y = _empty_images(x.shape, dtype)
    _, c, h, w = x.shape
    strides = (x.strides[axis] // x.itemsize for axis in (0, 2, 3, 1))
    macros = {'SOURCE': _TYPE_NAMES[x.dtype], 'TARGET': _TYPE_NAMES[y.dtype]}
    macros['HALF'] = int('__half' in macros.values())
    arguments = (x, y, float(factor), x.size, h, w, c, *strides)
    _launch_flat('copy', 'copy', x.size, *arguments, **macros)
    return y


def convert_gradient(gx, dtype):
    """Returns a gradient of images or weights in another type, with that type's scale factor."""
    return convert(gx, dtype, SCALE[np.dtype(dtype)] / SCALE[gx.dtype])


def weights(W, dtype):
    """Returns weights in the form that convolutions of images of a type use, for reuse."""
    return convert(W, dtype)


def all_weights(Ws, dtype):
    """Returns the result of :func:`weights` for each array of a list, with few kernel launches."""
    found = [W if W.dtype == dtype else _empty_images(W.shape, dtype) for W in Ws]
    pairs = [(W, to) for W, to in zip(map(_channel_last, Ws), found, strict=True) if to is not W]
    for table, count, blocks in many_arrays.tables('st', pairs):
        arguments, macros = (table, count), {'MOST': many_arrays.MOST}
        _launch('weights', 'to_half', (blocks,), (THREADS,), *arguments, **macros)
    return found


def _convolve(operation, x_shape, W_shape, stride, pad, first, second, result):
    shapes = (x_shape, W_shape, output_shape(x_shape, W_shape, stride, pad))
    tensor_cores = chainer.config.use_cudnn_tensor_core != 'never'
    key = (operation, result.dtype.name, *shapes, stride, pad, tensor_cores)
    cudnn_plans.run(Convolution(*key), first, second, result)
    return result


def convolution(x, W, stride, pad, residual=None, b=None):
    """Returns the convolution of ``x``, plus ``residual`` and the bias ``b`` if given.

    Here and in the gradients, float32 factors are rounded to TF32 unless
    ``chainer.config.use_cudnn_tensor_core`` is ``'never'``.
    """
    y = _empty_images(output_shape(x.shape, W.shape, stride, pad), x.dtype)
    arguments = (_channel_last(x), weights(W, x.dtype), y)
    _convolve('forward', x.shape, W.shape, stride, pad, *arguments)
    y = y if b is None else _add_bias(y, b)
    return y if residual is None else add(y, residual, out=y)


def convolution_gradient_x(x_shape, W, gy, stride, pad):
    """Returns the gradient of a convolution's input, of shape ``x_shape``."""
    arguments = (weights(W, gy.dtype), _channel_last(gy), _empty_images(x_shape, gy.dtype))
    return _convolve('gradient_x', x_shape, W.shape, stride, pad, *arguments)


def convolution_gradient_W(x, W_shape, gy, stride, pad):
    """Returns the gradient of a convolution's weights, of shape ``W_shape``."""
    x, gy = _channel_last(x), _channel_last(gy)
    if rows := _rows_of_a_step(x, W_shape, stride, pad):
        return _gradient_of_3x3(x, W_shape, gy, rows)
    gW = _empty_images(W_shape, x.dtype)
    _convolve('gradient_W', x.shape, W_shape, stride, pad, x, gy, gW)
    return convert_gradient(gW, FLOAT32)


# For gradient_W.cu: channels and threads of a block, and how many blocks to aim at, about two for
# each of 132 multiprocessors.
_TILE, _TILE_THREADS, _BLOCKS = 32, 288, 256
# With this much shared memory, two blocks fit on a multiprocessor of an H100.
_SHARED_BYTES = 112 << 10


def _shared_bytes(x, rows):
    """Returns the shared memory of a block of ``gradient_W.cu``, in bytes: buffers of two steps."""
    pitch, depth = x.shape[3] + 2, 16 if x.dtype == FLOAT16 else 8
    pixels = math.ceil(rows * pitch / depth) * depth
    return 2 * (2 * pixels + 2 * pitch + 2) * (_TILE + 8) * x.itemsize


def _rows_of_a_step(x, W_shape, stride, pad):
    """Returns how many image rows ``gradient_W.cu`` processes per step; 0 if it cannot be used."""
    n_out, n_in, *window = W_shape
    suits = (*window, stride, pad) == (3, 3, 1, 1) and n_out % _TILE == n_in % _TILE == 0
    if not suits or chainer.config.use_cudnn_tensor_core == 'never':
        return 0
    height, limit = x.shape[2], min(_SHARED_BYTES, _largest_shared_memory(x.device.id))
    fitting = (r for r in range(height, 0, -1) if _shared_bytes(x, r) <= limit)
    return next((r for r in fitting if height % r == 0), 0)


@functools.cache
def _largest_shared_memory(number):
    """Returns how much shared memory a block may have on a GPU, in bytes; 0 if it is too old."""
    import cupy

    device = cupy.cuda.Device(number)
    # TF32 and asynchronous copies to shared memory came with this generation.
    new_enough = int(device.compute_capability) >= 80
    return device.attributes['MaxSharedMemoryPerBlockOptin'] if new_enough else 0


def _gradient_of_3x3(x, W_shape, gy, rows):
    n, _, height, width = x.shape
    n_out, n_in, *_ = W_shape
    tiles, steps = (n_out // _TILE, n_in // _TILE), n * height // rows
    steps_of_a_block = math.ceil(steps / max(1, _BLOCKS // math.prod(tiles)))
    blocks = math.ceil(steps / steps_of_a_block)
    parts, gW = _empty((blocks, math.prod(W_shape))), _empty_images(W_shape)
    macros = {'HALF': int(x.dtype == FLOAT16), 'WIDTH': width, 'ROWS': rows}
    sizes = (n, height, n_in, n_out, steps_of_a_block)
    grid, shared = (blocks, *tiles), _shared_bytes(x, rows)
    arguments = (x, gy, parts, *sizes)
    _launch('gradient_W', 'gradient_W', grid, (_TILE_THREADS,), *arguments, shared=shared, **macros)
    packs = gW.size // 4
    arguments = (parts, gW, blocks, packs, 1 / SCALE[x.dtype])
    _launch('gradient_W', 'sum_parts', (math.ceil(packs / 32),), (32, 8), *arguments, **macros)
    return gW


def _add_bias(y, b):
    """Adds ``b`` ``(O,)`` to a result of this module, in place."""
    rows = _Rows(y)
    packs = rows.rows * rows.columns
    _launch_flat('bias', 'add', packs, y, *_contiguous(b), packs, rows.columns, **rows.macros)
    return y


def bias_gradient(gy):
    """Returns the gradient of a convolution's bias, the sum over images and pixels, ``(O,)``."""
    gy, gb = _channel_last(gy), _empty(gy.shape[1])
    rows = _Rows(gy)
    partial = rows.reduce('bias', 'sums', lambda vector: vector, gy)
    rows.finish('bias', 'finish_sums', partial, gb, 1 / SCALE[gy.dtype])
    return gb


_BN = 'batch_normalization_relu'


def normalize(x, gamma, beta, eps, running=None, relu=False, residual=None):
    """Normalises with the batch's statistics. Returns the result, the statistics and the signs."""
    x = _channel_last(x)
    rows, (mean, variance) = _Rows(x, RELU=0), _empty((2, x.shape[1]))
    # The kernel takes null pointers for "no running statistics".
    moving = running or (np.uint64(0), np.uint64(0), 0.0)
    partial = rows.reduce(_BN, 'statistics', lambda vector: 1 + 2 * vector, x)
    rows.finish(_BN, 'finish_statistics', partial, mean, variance, *moving)
    y, kept = normalize_fixed(x, gamma, beta, mean, variance, eps, True, relu, residual)
    return y, mean, variance, kept


def normalize_fixed(x, gamma, beta, mean, variance, eps, keep, relu=False, residual=None):
    """Normalises with given statistics. Returns the result and, if ``keep``, the signs."""
    x, y = _channel_last(x), _empty_images(x.shape, x.dtype)
    parameters = (*_contiguous(gamma, beta, mean, variance), float(eps))
    rows = _Rows(x, RELU=int(relu))
    if residual is None:
        rows.launch_over(_BN, 'normalize', x, *parameters, y)
    else:
        rows.launch_over(_BN, 'normalize_and_add', x, _channel_last(residual), *parameters, y)
    if not (keep and relu):
        return y, None
    # Without a residual the signs are recomputed from x and beta at no cost. With one, they are
    # those of y, which the next layer keeps anyway.
    return y, beta if residual is None else y


def normalize_gradients(
    x, gamma, mean, variance, kept, gy, eps, fixed, relu=False, with_residual=False
):
    """Returns the gradients of ``x``, ``gamma``, ``beta`` and the residual, if there was one."""
    if relu and with_residual:
        gy = relu_gradient(kept, gy)
    x, gy, gx = _channel_last(x), _channel_last(gy), _empty_images(x.shape, x.dtype)
    fused = relu and not with_residual
    rows, (ggamma, gbeta) = _Rows(x, RELU=int(fused)), _empty((2, x.shape[1]))
    # beta is needed for the signs only; otherwise any array of its shape will do.
    beta = kept if fused else gamma
    given = (x, gy, *_contiguous(gamma, beta, mean, variance), float(eps))
    partial = rows.reduce(_BN, 'gradient_sums', lambda vector: 2 * vector, *given)
    scale = SCALE[x.dtype]
    rows.finish(_BN, 'finish_gradient_sums', partial, ggamma, gbeta, 1 / scale)
    share = 0.0 if fixed else scale / rows.rows
    rows.launch_over(_BN, 'gradient_x', *given, ggamma, gbeta, share, gx)
    return gx, ggamma, gbeta, gy if with_residual else None


def relu_gradient(y, gy):
    """Returns ``gy`` where ``y``, the result of a ReLU, is positive, and 0 elsewhere."""
    y, gx = _channel_last(y), _empty_images(y.shape, y.dtype)
    macros = _Rows(y).macros
    packs = y.size // macros['VEC']
    _launch_flat('relu', 'gradient_x', packs, y, _channel_last(gy), gx, packs, **macros)
    return gx


def max_pooling(x, k, stride, pad, cover_all=False):
    """Returns the maximum of each window, and what :func:`max_pooling_gradient` needs."""
    shape = output_shape(x.shape, (x.shape[1], 0, k, k), stride, pad, cover_all)
    x, y, places = _channel_last(x), _empty_images(shape, x.dtype), _empty_images(shape, np.uint8)
    _pool('max_pooling', y, (x, y, places), x.shape, shape, k, stride, pad)
    return y, places


def max_pooling_gradient(x_shape, places, gy, k, stride, pad, cover_all=False):
    """Returns the gradient of :func:`max_pooling`'s ``x``, of shape ``x_shape``."""
    gx, arrays = _empty_images(x_shape, gy.dtype), (_channel_last(gy), places)
    _pool('gradient_x', gx, (*arrays, gx), x_shape, gy.shape, k, stride, pad)
    return gx


def _pool(entry, result, arrays, x_shape, y_shape, *window):
    rows = _Rows(result)
    packs = rows.rows * rows.columns
    sizes = (packs, *x_shape[2:], *y_shape[2:], rows.columns, *window)
    _launch_flat('max_pooling', entry, packs, *arrays, *sizes, **rows.macros)


def average(x):
    """Returns the average of each channel of each image, ``(N, C)``, float32."""
    x, y = _channel_last(x), _empty(x.shape[:2])
    rows = _Rows(x)
    rows.launch('pooling', 'average', len(x), x, y, math.prod(x.shape[2:]), rows.columns)
    return y


def average_gradient(x_shape, dtype, gy):
    """Returns the gradient of :func:`average`'s argument for ``gy``, ``(N, C)``, float32."""
    (gy,), gx = _contiguous(gy), _empty_images(x_shape, dtype)
    # The backward pass through the images begins here, so this is where the factor comes in.
    rows, pixels = _Rows(gx), math.prod(x_shape[2:])
    arguments = (gy, gx, SCALE[gx.dtype] / pixels, pixels, rows.columns)
    rows.launch('pooling', 'average_gradient', len(gx), *arguments)
    return gx


def add(x, y, out=None):
    """Returns the sum of two image arrays; ``out`` may be ``x`` if that is channel-last."""
    out = _empty_images(x.shape, x.dtype) if out is None else out
    # By the channels and not by the size: a view that begins at a later image is aligned then too.
    vector = 1 if x.shape[1] % 4 else 4
    macros = {'HALF': int(x.dtype == FLOAT16), 'VEC': vector}
    arguments = (_channel_last(x), _channel_last(y), out, x.size // vector)
    _launch_flat('elementwise', 'add', x.size // vector, *arguments, **macros)
    return out


def accumulate(gx, other, gy):
    """Returns ``gx + other``, in place unless ``gx`` is ``gy``."""
    # Not in place then: `gy` may be the gradient of another input as well.
    if _lies_channel_last(gx):
        return add(gx, other, None if gx is gy else gx)
    return gx + other


def linear(x, W, b):
    """Returns ``x W' + b``, ``(N, O)``, for ``x`` ``(N, I)`` and ``W`` ``(O, I)``, all float32."""
    # Not cuBLAS, which CuPy refuses to capture; the last layer is too small for it to matter.
    y, sizes = _empty((len(x), len(W))), (len(x), *W.shape[::-1])
    _launch_flat('linear', 'linear', y.size, *_contiguous(x, W, b), y, *sizes)
    return y


def linear_gradient_x(W, gy):
    """Returns the gradient of :func:`linear`'s ``x``, ``(N, I)``."""
    gx, sizes = _empty((len(gy), W.shape[1])), (len(gy), *W.shape[::-1])
    _launch_flat('linear', 'gradient_x', gx.size, *_contiguous(W, gy), gx, *sizes)
    return gx


def linear_gradient_W(x, gy):
    """Returns the gradients of :func:`linear`'s ``W`` and ``b``."""
    (n, i), o = x.shape, gy.shape[1]
    gW, gb = _empty((o, i)), _empty(o)
    _launch_flat('linear', 'gradient_W', o * (i + 1), *_contiguous(x, gy), gW, gb, n, i, o)
    return gW, gb


def log_softmax(x):
    """Returns the logarithm of the softmax of each row of ``x``, ``(N, C)``, float32."""
    y = _empty(x.shape)
    _launch_flat('log_softmax', 'log_softmax', len(x), *_contiguous(x), y, *x.shape)
    return y


def log_softmax_gradient(y, gy):
    """Returns the gradient of :func:`log_softmax`'s argument from its result."""
    gx = _empty(y.shape)
    _launch_flat('log_softmax', 'gradient_x', len(y), *_contiguous(y, gy), gx, *y.shape)
    return gx


def joint_loss(y, log_f, alpha, beta, kl):
    """Returns the loss of :mod:`chainer_jo.functions.losses`, and the sums of ``f``."""
    # (B, C) is small, and a single block can sum it without a second kernel.
    loss, f_sums = _empty(()), _empty(y.shape[1])
    arguments = (*_contiguous(y, log_f), float(alpha), float(beta), int(kl), loss, f_sums)
    _launch('losses', 'joint_loss', (1,), (THREADS,), *arguments, *y.shape, THREADS=THREADS)
    return loss, f_sums


def joint_loss_gradient(y, log_f, alpha, beta, f_sums, gy):
    """Returns the gradient of :func:`joint_loss`'s ``log_f`` for ``gy``, ``()``."""
    (gy,), gx = _contiguous(gy), _empty(y.shape)
    arguments = (*_contiguous(y, log_f), float(alpha), float(beta), f_sums, gy, gx, *y.shape)
    _launch_flat('losses', 'joint_loss_gradient', gx.size, *arguments, THREADS=THREADS)
    return gx


def add_to_sums(sums, loss, log_f, y):
    """Adds a batch to an epoch's ``sums``: loss times images, images, hits."""
    arguments = (*_contiguous(loss, log_f, y), sums, *y.shape)
    _launch('losses', 'add_to_sums', (1,), (THREADS,), *arguments, THREADS=THREADS)


def mix_up(v, partner, lam):
    """Does what :func:`chainer_jo.functions.losses.mix_up` does; mixed images are channel-last."""
    if v.ndim == 4:
        v, mixed = convert(v, FLOAT32), _empty_images(v.shape)
    else:
        (v,), mixed = _contiguous(v), _empty(v.shape)
    arguments = (v, *_contiguous(partner, dtype=np.int32), *_contiguous(lam), mixed)
    _launch_flat('mix_up', 'mix_up', v.size, *arguments, v.size, v.size // len(v), lam.ndim)
    return mixed


def record(history, f, index, turn):
    """Does what :meth:`chainer_jo.links.label_store.LabelStore.record` does, for a window."""
    (f,), places = _contiguous(f), _contiguous(index, turn, dtype=np.int32)
    sizes = *history.shape[:2], *f.shape
    _launch_flat('label_store', 'record', f.size, history, f, *places, *sizes)


def augment(images, mean, index, offsets, flips, pad):
    """Does what :func:`chainer_jo.datasets.augment.augment` does, in one kernel.

    The result is channel-last.
    """
    _, c, h, w = images.shape
    x = _empty_images((len(index), c, h, w))
    (images,) = _contiguous(images, dtype=np.uint8)
    choices = (*_contiguous(index, offsets, dtype=np.int32), *_contiguous(flips, dtype=bool))
    arguments = (images, *_contiguous(mean), *choices, x, x.size, c, h, w, pad)
    _launch_flat('augment', 'augment', x.size, *arguments)
    return x
