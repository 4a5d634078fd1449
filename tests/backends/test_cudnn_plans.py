"""Plans of cuDNN for an H100 that is described, not there."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainer_jo.backends import cudnn_plans
from chainer_jo.backends.shapes import output_shape
from chainer_jo.links.layers import Convolution2D
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training.evaluation import GPU_BATCH_SIZE

# Channels in and out, kernel, stride, height and width: CIFAR-10's, then what Fashion-MNIST adds.
LAYERS = [
    (3, 32, 3, 1, 32), (32, 32, 3, 1, 32), (32, 32, 1, 1, 32), (32, 64, 3, 2, 32),
    (32, 64, 1, 2, 32), (64, 64, 3, 1, 16), (64, 128, 3, 2, 16), (64, 128, 1, 2, 16),
    (128, 128, 3, 1, 8), (1, 32, 3, 1, 28), (128, 128, 3, 1, 7),
]  # fmt: skip
# Type, and whether tensor cores may be used.
MODES = [('float32', True), ('float32', False), ('float16', True)]
OPERATIONS = ('forward', 'gradient_x', 'gradient_W')

# What the front end asks CUDA's runtime even where a GPU is described; 9 is the compute capability.
CUDA = """
#include <string.h>
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaGetDeviceProperties(int *properties, int device)
{
    memset(properties, 0, 512);
    properties[90] = 9;
    return 0;
}
const char *cudaGetErrorString(int error) { return "there is no CUDA here"; }
"""


@pytest.fixture(scope='module')
def find(tmp_path_factory):
    """Finds plans in a process of its own; skips a test where the front end cannot be loaded."""
    try:
        cudnn_plans.load()
    except OSError as error:
        pytest.skip(f'{error}: pip install {cudnn_plans.WHEEL} nvidia-cudnn-cu13')
    if not shutil.which('gcc'):
        pytest.skip('no gcc to compile a stand-in for CUDA: apt install gcc')
    library = tmp_path_factory.mktemp('cuda') / 'libcudart.so.13'
    command = ['gcc', '-w', '-shared', '-fPIC', '-x', 'c', '-', f'-Wl,-soname,{library.name}']
    subprocess.run([*command, '-o', library], input=CUDA, text=True, check=True)
    paths = [str(Path(__file__).parents[2]), os.environ.get('PYTHONPATH', '')]
    environment = os.environ | {'LD_PRELOAD': str(library), 'PYTHONPATH': os.pathsep.join(paths)}

    def run(convolutions):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', Path(__file__).with_name('find_plans.py')],
            input=json.dumps(convolutions),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def convolution(operation, mode, batch, layer):
    i, o, k, stride, size = layer
    x, W = (batch, i, size, size), (o, i, k, k)
    shapes = x, W, output_shape(x, W, stride, k // 2)
    return cudnn_plans.Convolution(operation, mode[0], *shapes, stride, k // 2, mode[1])


def test_the_layers_here_are_those_of_the_papers_net():
    kinds = set()
    for channels in (3, 1):
        net = PreActResNet(channels, 10, rng=np.random.default_rng(0))
        links = [link for link in net.links() if isinstance(link, Convolution2D)]
        kinds |= {(*link.W.shape[1::-1], link.W.shape[2], link.stride) for link in links}
    assert kinds == {layer[:4] for layer in LAYERS}


def test_every_layer_has_plans_whose_memory_fits_a_gpu(find):
    wanted = [
        convolution(*key)
        for key in (
            *itertools.product(OPERATIONS, MODES, (128, 1), LAYERS),
            *itertools.product(OPERATIONS[:1], MODES, (GPU_BATCH_SIZE,), LAYERS),
        )
    ]
    for key, found in zip(wanted, find(wanted), strict=True):
        assert isinstance(found, int), (key, found)
        assert found < 2**30, key


def test_what_has_no_plan_is_an_error_that_says_what_it_is(find):
    wanted = convolution('forward', MODES[0], 128, LAYERS[1])._replace(y_shape=(128, 32, 9, 9))
    (found,) = find([wanted])
    assert found.startswith('error: cuDNN cannot compute Convolution(')
    assert "backend='chainer'" in found
