"""The part of oneDNN's C interface that this package uses, declared for ctypes.

Names and values are those of ``dnnl_types.h`` and ``dnnl.h`` in oneDNN 3.2, without ``dnnl_``.
"""

import ctypes
import importlib.metadata
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint, c_void_p

WHEEL = 'onednn-cpu-gomp'
VERSION = (3, 2)

STATUS = {
    1: 'out of memory',
    2: 'invalid arguments',
    3: 'unimplemented',
    4: 'last implementation reached',
    5: 'runtime error',
    6: 'not required',
}

CPU = 1
IN_ORDER = 1
F32, BF16 = 3, 2
ISA_AVX512_BF16, ISA_AMX = 0xE7, 0xFEF
ISA_NAMES = {
    0x1: 'sse41',
    0x3: 'avx',
    0x7: 'avx2',
    0xF: 'avx2_vnni',
    0x1F: 'avx2_vnni_2',
    0x27: 'avx512_core',
    0x67: 'avx512_core_vnni',
    0xE7: 'avx512_core_bf16',
    0x1EF: 'avx512_core_fp16',
    0xFEF: 'avx512_core_amx',
    0x1FEF: 'avx512_core_amx_fp16',
}
TAG_ANY, TAG_A, TAG_ABCD, TAG_ACDB = 1, 2, 5, 22
FORWARD_TRAINING, FORWARD_INFERENCE, BACKWARD = 64, 96, 128
CONVOLUTION_DIRECT = 1
POOLING_MAX, POOLING_AVERAGE = 0x1FF, 0x2FF
BINARY_ADD = 0x1FFF0
ELTWISE_RELU, ELTWISE_RELU_FROM_RESULT = 0x20, 0x100
USE_GLOBAL_STATS, USE_SCALE, USE_SHIFT, FUSE_NORM_RELU = 1, 2, 4, 8
QUERY_EXEC_ARG_MD = 255
SCRATCHPAD_OF_USER = 1  # dnnl_scratchpad_mode_user

ARGUMENTS = {
    'src': 1,
    'src_1': 2,
    'dst': 17,
    'weights': 33,
    'bias': 41,
    'mean': 49,
    'variance': 50,
    'scale': 51,
    'shift': 52,
    'workspace': 64,
    'diff_src': 129,
    'diff_dst': 145,
    'diff_weights': 161,
    'diff_scale': 255,
    'diff_shift': 256,
    'scratchpad': 80,
    'residual': 32768 | 2,  # The second source of the first post-op.
}

Dims = c_int64 * 12


class ExecArg(ctypes.Structure):
    """``dnnl_exec_arg_t``: the role of an argument and its memory object."""

    _fields_ = (('arg', c_int), ('memory', c_void_p))


class Version(ctypes.Structure):
    """``dnnl_version_t``."""

    _fields_ = (
        ('major', c_int),
        ('minor', c_int),
        ('patch', c_int),
        ('hash', c_char_p),
        ('cpu_runtime', c_uint),
        ('gpu_runtime', c_uint),
    )


_OUT = POINTER(c_void_p)
_OBJECT = c_void_p
_DIMS = POINTER(c_int64)

# Every one of these functions of oneDNN returns a status.
_SIGNATURES = {
    'engine_create': (_OUT, c_int, c_size_t),
    'stream_create': (_OUT, _OBJECT, c_uint),
    'stream_wait': (_OBJECT,),
    'memory_desc_create_with_tag': (_OUT, c_int, _DIMS, c_int, c_int),
    'memory_desc_destroy': (_OBJECT,),
    'memory_create': (_OUT, _OBJECT, _OBJECT, c_void_p),
    'memory_set_data_handle': (_OBJECT, c_void_p),
    'memory_destroy': (_OBJECT,),
    'post_ops_create': (_OUT,),
    'post_ops_append_binary': (_OBJECT, c_int, _OBJECT),
    'post_ops_destroy': (_OBJECT,),
    'post_ops_append_eltwise': (_OBJECT, c_int, c_float, c_float),
    'primitive_attr_create': (_OUT,),
    'primitive_attr_set_post_ops': (_OBJECT, _OBJECT),
    'primitive_attr_set_scratchpad_mode': (_OBJECT, c_int),
    'primitive_attr_destroy': (_OBJECT,),
    'convolution_forward_primitive_desc_create': (
        (_OUT, _OBJECT, c_int, c_int, _OBJECT, _OBJECT, _OBJECT, _OBJECT)
        + (_DIMS, _DIMS, _DIMS, _DIMS, _OBJECT)
    ),
    'convolution_backward_data_primitive_desc_create': (
        (_OUT, _OBJECT, c_int, _OBJECT, _OBJECT, _OBJECT)
        + (_DIMS, _DIMS, _DIMS, _DIMS, _OBJECT, _OBJECT)
    ),
    'convolution_backward_weights_primitive_desc_create': (
        (_OUT, _OBJECT, c_int, _OBJECT, _OBJECT, _OBJECT, _OBJECT)
        + (_DIMS, _DIMS, _DIMS, _DIMS, _OBJECT, _OBJECT)
    ),
    'batch_normalization_forward_primitive_desc_create': (
        (_OUT, _OBJECT, c_int, _OBJECT, _OBJECT, c_float, c_uint, _OBJECT)
    ),
    'batch_normalization_backward_primitive_desc_create': (
        (_OUT, _OBJECT, c_int, _OBJECT, _OBJECT, _OBJECT, c_float, c_uint, _OBJECT, _OBJECT)
    ),
    'pooling_forward_primitive_desc_create': (
        (_OUT, _OBJECT, c_int, c_int, _OBJECT, _OBJECT)
        + (_DIMS, _DIMS, _DIMS, _DIMS, _DIMS, _OBJECT)
    ),
    'pooling_backward_primitive_desc_create': (
        (_OUT, _OBJECT, c_int, _OBJECT, _OBJECT)
        + (_DIMS, _DIMS, _DIMS, _DIMS, _DIMS, _OBJECT, _OBJECT)
    ),
    'eltwise_forward_primitive_desc_create': (
        _OUT, _OBJECT, c_int, c_int, _OBJECT, _OBJECT, c_float, c_float, _OBJECT,
    ),
    'eltwise_backward_primitive_desc_create': (
        _OUT, _OBJECT, c_int, _OBJECT, _OBJECT, _OBJECT, c_float, c_float, _OBJECT, _OBJECT,
    ),
    'binary_primitive_desc_create': (
        _OUT, _OBJECT, c_int, _OBJECT, _OBJECT, _OBJECT, _OBJECT,
    ),
    'reorder_primitive_desc_create': (_OUT, _OBJECT, _OBJECT, _OBJECT, _OBJECT, _OBJECT),
    'primitive_desc_destroy': (_OBJECT,),
    'primitive_create': (_OUT, _OBJECT),
    'primitive_execute': (_OBJECT, _OBJECT, c_int, POINTER(ExecArg)),
    'primitive_destroy': (_OBJECT,),
}  # fmt: skip


# Other results; functions of OpenMP are found because the library is linked to it.
_OTHERS = {
    'dnnl_primitive_desc_query_md': (c_void_p, (_OBJECT, c_int, c_int)),
    'dnnl_memory_desc_get_size': (c_size_t, (_OBJECT,)),
    'dnnl_get_effective_cpu_isa': (c_int, ()),
    'dnnl_version': (POINTER(Version), ()),
    'omp_get_max_threads': (c_int, ()),
    'omp_get_thread_limit': (c_int, ()),
    'omp_get_dynamic': (c_int, ()),
    'omp_get_max_active_levels': (c_int, ()),
}


def load():
    """Returns oneDNN's library with every function used in ``onednn`` declared.

    Raises:
        OSError: The wheel is not installed, cannot be loaded, or has another version; the message
            gives the reason in one line.
    """
    library = ctypes.CDLL(_path())
    with_status = {f'dnnl_{name}': (c_int, arguments) for name, arguments in _SIGNATURES.items()}
    for name, (result, arguments) in (with_status | _OTHERS).items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    version = library.dnnl_version().contents
    if (version.major, version.minor) != VERSION:
        raise OSError(f'oneDNN is {version.major}.{version.minor}, not {VERSION[0]}.{VERSION[1]}')
    return library


def _path():
    try:
        files = importlib.metadata.files(WHEEL) or ()
    except importlib.metadata.PackageNotFoundError:
        raise OSError(f'the package {WHEEL} is not installed') from None
    for file in files:
        if file.name == 'libdnnl.so.3':
            return str(file.locate())
    raise OSError(f'the package {WHEEL} does not contain libdnnl.so.3')
