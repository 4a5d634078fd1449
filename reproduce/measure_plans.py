"""Measures cuDNN's plans for the convolutions of the paper's net and writes down the fastest.

    python reproduce/measure_plans.py [FILE]

Needs a GPU, and takes a minute. Entries of FILE (default chainer_jo/backends/plans.json) for other
GPUs and versions of cuDNN are kept. Other plans change the last bits of training results.
"""

import json
import sys
from pathlib import Path

import cupy
import numpy as np

from chainer_jo import store
from chainer_jo.backends import cudnn_plans, output_shape
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import evaluation

FILE = Path(cudnn_plans.__file__).with_name('plans.json')
BATCH, SIZE = 128, 32
LAUNCHES, REPLAYS = 10, 2
# The fastest plan was never further down in cuDNN's list.
PLANS = 24
# A plan replaces cuDNN's own choice only if it takes less than this share of the time.
GAIN = 0.97


def convolutions():
    """Yields each convolution of the net once, for training and evaluation, in both precisions."""
    shapes = sorted(set(_layers()))
    for dtype in ('float16', 'float32'):
        for channels, W_shape, stride, size in shapes:
            for batch in (BATCH, evaluation.GPU_BATCH_SIZE):
                x_shape, pad = (batch, channels, size, size), W_shape[2] // 2
                y_shape = output_shape(x_shape, W_shape, stride, pad)
                more = ('gradient_x', 'gradient_W') if batch == BATCH else ()
                for operation in ('forward', *more):
                    what = (operation, dtype, x_shape, W_shape, y_shape, stride, pad, True)
                    yield cudnn_plans.Convolution(*what)


def _layers():
    """Yields channels, shape of weights, stride and image size of each convolution of the net."""
    net = PreActResNet(3, 10, rng=np.random.default_rng(0))
    yield 3, net.conv.W.shape, net.conv.stride, SIZE
    size = SIZE
    for block in net.blocks:
        _, channels, *_ = block.conv1.W.shape
        yield channels, block.conv1.W.shape, block.conv1.stride, size
        if block.project:
            yield channels, block.projection.W.shape, block.projection.stride, size
        size //= block.conv1.stride
        out, *_ = block.conv2.W.shape
        yield out, block.conv2.W.shape, 1, size


def measure(convolution, how):
    """Returns the time of every plan that cuDNN lists, in microseconds; NaN if it is unusable."""
    cudnn, graph = cudnn_plans.load(), cudnn_plans.list_plans(convolution, **how)
    x, W, y = convolution.x_shape, convolution.W_shape, convolution.y_shape
    shapes = {'forward': (x, W, y), 'gradient_x': (W, y, x), 'gradient_W': (x, y, W)}
    draw = cupy.random.standard_normal
    arrays = [
        draw(np.prod(shape), dtype=np.float32).astype(convolution.dtype)
        for shape in shapes[convolution.operation]
    ]
    pointers = {i + 1: array.data.ptr for i, array in enumerate(arrays)}
    times = []
    for place in range(min(PLANS, graph.get_execution_plan_count())):
        try:
            graph.build_plan_at_index(place)
            size = graph.get_workspace_size_plan_at_index(place)
            times.append(_time(cudnn, graph, place, pointers, size, how['handle']))
        except (RuntimeError, cudnn.cudnnGraphNotSupportedError):
            times.append(float('nan'))
    return times


def _time(cudnn, graph, place, pointers, size, handle):
    """Returns the microseconds per launch, from replays of a captured series of launches."""
    memory, stream = cupy.empty(max(1, size), np.uint8), cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.runtime.deviceSynchronize()
    with stream:
        cudnn.set_stream(handle=handle, stream=stream.ptr)

        def launch():
            graph.execute_plan_at_index(pointers, memory.data.ptr, place, handle=handle)

        launch()
        stream.synchronize()
        stream.begin_capture()
        for _ in range(LAUNCHES):
            launch()
        captured = stream.end_capture()
        events = [cupy.cuda.Event() for _ in range(REPLAYS + 1)]
        captured.launch()
        for event in events[:-1]:
            event.record()
            captured.launch()
        events[-1].record()
        events[-1].synchronize()
    passed = [cupy.cuda.get_elapsed_time(*pair) for pair in zip(events, events[1:], strict=False)]
    return min(passed) * 1e3 / LAUNCHES


def main(path=FILE):
    how = cudnn_plans.on(cupy.cuda.Device().id)
    fastest = {}
    for convolution in convolutions():
        times = measure(convolution, how)
        best = int(np.nanargmin(times))
        if not times[best] > GAIN * times[0]:  # nor if cuDNN's own choice cannot be used
            fastest[str(convolution)] = best
        print(f'{convolution}: {times[0]:.1f} us, the fastest {times[best]:.1f} (plan {best})')
    gpu = cupy.cuda.runtime.getDeviceProperties(0)['name'].decode()
    path = Path(path)
    known = json.loads(path.read_text()) if path.exists() else {}
    known[f'{gpu}, {cudnn_plans.describe().partition(", front")[0]}'] = fastest
    store.write_text(path, json.dumps(known, indent=1, sort_keys=True) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
