import os
import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

from chainer_jo.backends import onednn
from chainer_jo.errors import ChainerJoError

pytestmark = pytest.mark.usefixtures('onednn_loaded')


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def every_primitive(seed=0, channels=5):
    """Calls each primitive once, with channels that the library pads, and returns the results."""
    c = channels
    x, W, gy, pooled = arrays((3, c, 7, 6), (c + 2, c, 3, 3), (3, c + 2, 4, 3), (3, c), seed=seed)
    gamma, beta, b = arrays(c, c, c + 2, seed=seed)
    y, mean, variance, signs = onednn.normalize(x, gamma, beta, 2e-5, relu=True)
    z, *statistics, kept = onednn.normalize(x, gamma, beta, 2e-5, None, True, x)
    total = onednn.normalize_fixed(x, gamma, beta, mean, variance, 2e-5, False, True)[0]
    onednn.add(total, y, out=total)
    largest, places = onednn.max_pooling(x, 3, 2, 1)
    return [
        onednn.convolution(x, W, 2, 1),
        onednn.convolution(x, W, 2, 1, gy, b),
        onednn.bias_gradient(gy),
        *(z, *statistics, largest),
        *onednn.normalize_gradients(x, gamma, *statistics, kept, y, 2e-5, False, True, True),
        onednn.max_pooling_gradient(x.shape, places, largest, 3, 2, 1),
        onednn.convolution_gradient_x(x.shape, W, gy, 2, 1),
        onednn.convolution_gradient_W(x, W.shape, gy, 2, 1),
        *(y, mean, variance, total),
        *onednn.normalize_gradients(x, gamma, mean, variance, signs, y, 2e-5, False, True)[:3],
        onednn.average(x),
        onednn.average_gradient(x.shape, x.dtype, pooled),
        onednn.convert(onednn.convert(x, onednn.BFLOAT16), onednn.FLOAT32),
    ]


def resident_bytes():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')


def poison_free_memory():
    count = 0
    for memories in onednn.pool._free.values():
        for memory in memories:
            np.frombuffer(memory, np.float32)[:] = np.nan
            count += 1
    return count


def test_what_lay_in_a_reused_buffer_does_not_reach_a_result():
    for channels in (5, 16):
        clean = [result.copy() for result in every_primitive(channels=channels)]
        assert poison_free_memory() > 5
        for result, expected in zip(every_primitive(channels=channels), clean, strict=True):
            np.testing.assert_array_equal(result, expected)


def test_results_are_the_same_bit_for_bit_on_every_run():
    x, W, gy = arrays((9, 32, 16, 16), (32, 32, 3, 3), (9, 32, 16, 16))
    first = onednn.convolution_gradient_W(x, W.shape, gy, 1, 1)
    for _ in range(20):
        again = onednn.convolution_gradient_W(x, W.shape, gy, 1, 1)
        np.testing.assert_array_equal(again, first)


def test_results_lie_channel_last_in_memory():
    for result in every_primitive():
        if result.ndim == 4 and result.shape[2:] != (3, 3):
            assert result.transpose(0, 2, 3, 1).flags.c_contiguous


def test_ten_thousand_calls_leave_memory_flat():
    for _ in range(50):
        every_primitive()
    before = resident_bytes()
    for _ in range(10_000 // 23):
        every_primitive()
    assert resident_bytes() - before < 1 << 20


STRIDED = """
import chainer_jo
import numpy as np
from chainer_jo.backends import onednn

x, W, gy = (np.ones(shape, np.float32) for shape in ((56, 4, 8, 8), (4, 4, 1, 1), (56, 4, 4, 4)))
for _ in range(10):
    onednn.convolution(x, W, 2, 0)
    onednn.convolution_gradient_x(x.shape, W, gy, 2, 0)
    onednn.convolution_gradient_W(x, W.shape, gy, 2, 0)
    for function in vars(onednn).values():
        getattr(function, 'cache_clear', int)()
"""


def test_a_strided_1x1_convolution_of_few_channels_leaves_the_heap_whole_on_avx2():
    # In a process of its own: a damaged heap ends it.
    environment = {**os.environ, 'ONEDNN_MAX_CPU_ISA': 'AVX2', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', STRIDED], env=environment, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b'')


@pytest.mark.parametrize('channels', [4, 5, 8])
@pytest.mark.parametrize('side', [7, 8])
def test_a_strided_1x1_convolution_is_one_of_the_pixels_it_sees(channels, side):
    x, W, gy = arrays((3, channels, side, side), (6, channels, 1, 1), (3, 6, 4, 4))
    seen, w = x[:, :, ::2, ::2].astype(np.float64), W[:, :, 0, 0].astype(np.float64)
    gx = np.zeros(x.shape)
    gx[:, :, ::2, ::2] = np.einsum('noij,oc->ncij', gy, w)
    expected = {
        'y': np.einsum('ncij,oc->noij', seen, w),
        'gx': gx,
        'gW': np.einsum('noij,ncij->oc', gy, seen)[:, :, None, None],
    }
    computed = {
        'y': onednn.convolution(x, W, 2, 0),
        'gx': onednn.convolution_gradient_x(x.shape, W, gy, 2, 0),
        'gW': onednn.convolution_gradient_W(x, W.shape, gy, 2, 0),
    }
    for name, array in expected.items():
        np.testing.assert_allclose(computed[name], array, 1e-4, 1e-5, err_msg=name)


IN_THREADS = """
import sys
import threading
import numpy as np
from threadpoolctl import threadpool_limits
from chainer_jo.backends import onednn

onednn.load()

# So small that on AVX2 oneDNN needs a scratchpad for the gradient of W.
draw = np.random.default_rng(0)
x, gy, W = (
    draw.standard_normal(shape).astype('f')
    for shape in ((56, 4, 2, 2), (56, 4, 2, 2), (4, 4, 3, 3))
)
found = []

def compute(limit):
    with threadpool_limits(limit):
        y = onednn.convolution(x, W, 1, 1)
        gx = onednn.convolution_gradient_x(x.shape, W, gy, 1, 1)
        found.append((y, gx, onednn.convolution_gradient_W(x, W.shape, gy, 1, 1)))

for limit in map(int, sys.argv[1:]):
    thread = threading.Thread(target=compute, args=(limit,))
    thread.start()
    thread.join()
for first, second in zip(found[0], found[-1]):
    np.testing.assert_allclose(second, first, 1e-4, 1e-4)
assert len(found) == len(sys.argv) - 1
"""


@pytest.mark.parametrize('limits', ['1 1', '1 2', '2 1 2 1'])
def test_threads_that_come_and_go_share_primitives(limits):
    """In a process of its own, because a mistake would be a crash."""
    environment = os.environ | {'OMP_NUM_THREADS': '2', 'ONEDNN_MAX_CPU_ISA': 'AVX2'}
    done = subprocess.run(
        [sys.executable, '-c', IN_THREADS, *limits.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_primitive_serves_callers_with_its_number_of_threads_only():
    made = []
    for limit in (1, 2, 1):
        with threadpoolctl.threadpool_limits(limit):
            made.append(onednn._addition(onednn.FLOAT32, (1, 8, 2, 2), False))
    assert made[0] is made[2]
    assert made[0] is not made[1]


def test_a_failure_names_the_primitive_and_the_status():
    x, W = arrays((1, 3, 4, 4), (2, 5, 3, 3))
    with pytest.raises(ChainerJoError, match=r'convolution of \(1, 3, 4, 4\)') as caught:
        onednn.convolution(x, W, 1, 1)
    assert 'invalid arguments' in caught.value.seen
