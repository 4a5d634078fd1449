"""Compares ResNet-50 with that of another library, from the same weights, in float32.

    .venv/bin/python reproduce/check_resnet50.py

The other net is that of ``transformers`` on PyTorch, which reproduce/benchmark.sh installs in
.venv-peer; reproduce/resnet50_transformers.py runs it. That script also saves the weights in three
files with torch and safetensors, and this one reads them. Prints the largest differences relative
to the norm. The exit code is 1 if logits differ by more than 1e-4, or gradients or running
statistics by more than 1e-3.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import chainer_jo  # noqa: F401

# isort: split
# Chainer cannot be imported before chainer_jo, which patches it.
import chainer

from chainer_jo.links import pretrained
from chainer_jo.links.layers import BatchNormalization
from chainer_jo.links.resnet50 import ResNet50

REPOSITORY = Path(__file__).resolve().parents[1]
CLASSES, BATCH = 14, 4
BOUNDS = {'logits': 1e-4, 'gradients': 1e-3, 'statistics': 1e-3}
LEAVES = {
    'W': 'weight', 'b': 'bias', 'gamma': 'weight', 'beta': 'bias', 'avg_mean': 'running_mean',
    'avg_var': 'running_var',
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--size', type=int, default=224, help='rows and columns of the images')
    parser.add_argument('--peer', default=str(REPOSITORY / '.venv-peer' / 'bin' / 'python'))
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    net = ResNet50(CLASSES, rng=rng)
    move(net, rng)
    x = rng.uniform(-0.5, 0.5, (BATCH, 3, given.size, given.size)).astype('f')
    gy = rng.normal(size=(BATCH, CLASSES)).astype('f')
    before = {torch_name(name): array.copy() for name, array in arrays(net).items()}
    own = run(net, x, gy)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'given.npz'
        # torchvision's net takes images that are also divided by the standard deviation.
        np.savez(path, x=x / net.std, gy=gy, **{f'net/{k}': v for k, v in before.items()})
        script = REPOSITORY / 'reproduce' / 'resnet50_transformers.py'
        subprocess.run([given.peer, script, path, folder], check=True)
        with np.load(Path(folder) / 'found.npz', allow_pickle=False) as file:
            other = dict(file)
        for name in ('resnet50.safetensors', 'resnet50.pth', 'resnet50-stream.pth'):
            check_file(Path(folder) / name, before)
    return 0 if agree(own, other) else 1


def move(net, rng):
    """Changes parameters that start as 0 or 1, which would hide errors, and keeps ReLUs from zero.

    Near zero, rounding switches ReLUs on and off, and a few elements in a deep layer are a large
    part of the gradient below: two libraries that are exact to the last bit but one would differ by
    1e-2.
    """
    for name, link in sorted(net.namedlinks()):
        if isinstance(link, BatchNormalization):
            size, last = link.gamma.shape, name.endswith(('bn3', 'bn4'))
            # Small, because the residual branches of sixteen blocks add up.
            scale = 0.3 if name.endswith('bn3') else 1
            link.gamma.array[...] = scale * rng.uniform(0.8, 1.2, size)
            link.beta.array[...] = scale * np.where(rng.random(size) < (1 if last else 0.75), 5, -5)
            link.avg_mean[...] = rng.normal(size=size)
            link.avg_var[...] = rng.uniform(0.5, 2, size)


def torch_name(name):
    """Returns torchvision's name for the name of a parameter or statistic."""
    *path, leaf = name.split('/')
    if path[0].startswith('res'):
        path[0] = f'layer{int(path[0][3:]) - 1}'
        path[2] = {'conv4': 'downsample.0', 'bn4': 'downsample.1'}.get(path[2], path[2])
    return '.'.join([*path, LEAVES[leaf]])


def arrays(net):
    serializer = chainer.serializers.DictionarySerializer()
    serializer.save(net)
    return {
        name: array for name, array in serializer.target.items() if name.split('/')[-1] in LEAVES
    }


def run(net, x, gy):
    """Returns logits, gradients and running statistics of a step of training, by torch's names."""
    variable = chainer.Variable(x)
    y = net(variable)
    y.grad = gy
    y.backward()
    found = {'logits/train': y.array, 'gradients/x': variable.grad * net.std}
    found |= {f'gradients/{torch_name(k[1:])}': param.grad for k, param in net.namedparams()}
    found |= {
        f'statistics/{torch_name(k)}': v for k, v in arrays(net).items() if '/avg_' in k
    }  # fmt: skip
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        found['logits/test'] = net(x).array
    return found


def check_file(path, before):
    """Checks that weights which the other library wrote are read unchanged."""
    weights = pretrained.read(path)
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(array, before[torch_name(name)], err_msg=name)
    print(f'{path.name}: {len(weights.arrays)} arrays read unchanged')


def agree(own, other):
    """Prints the largest differences, and returns whether they are within the bounds."""
    assert set(own) == set(other), set(own) ^ set(other)
    fine = True
    for kind, bound in BOUNDS.items():
        # A constant added before batch normalisation has no gradient, apart from rounding.
        worst, name = max(
            (np.linalg.norm(own[n] - other[n]) / max(np.linalg.norm(other[n]), 0.01), n)
            for n in own
            if n.startswith(kind)
        )
        fine &= bool(worst <= bound)
        print(f'{kind}: differ by {worst:.1e} at most, in {name}; allowed are {bound:.0e}')
    return fine


if __name__ == '__main__':
    sys.exit(main())
