"""PyTorch's side of the benchmark: the net of chainer_jo/links/preact_resnet.py, in PyTorch.

``python -m chainer_jo benchmark`` runs it with the interpreter of an environment that has PyTorch
and NumPy, and tells it on stdin what to do: step, evaluate or memory, one a line.
"""

import json
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MOMENTUM, EPS = 0.1, 2e-5  # Chainer's decay 0.9 and eps


def convolution(in_channels, out_channels, ksize, stride=1):
    return nn.Conv2d(in_channels, out_channels, ksize, stride, ksize // 2, bias=False)


def normalization(channels):
    return nn.BatchNorm2d(channels, EPS, MOMENTUM)


class Block(nn.Module):
    def __init__(self, in_channels, out_channels, stride, project):
        super().__init__()
        self.bn1 = normalization(in_channels)
        self.conv1 = convolution(in_channels, out_channels, 3, stride)
        self.bn2 = normalization(out_channels)
        self.conv2 = convolution(out_channels, out_channels, 3)
        self.project = project
        if project:
            self.projection = convolution(in_channels, out_channels, 1, stride)

    def forward(self, x):
        h = F.relu(self.bn1(x))
        shortcut = self.projection(h) if self.project else x
        return self.conv2(F.relu(self.bn2(self.conv1(h)))) + shortcut


class PreActResNet(nn.Module):
    def __init__(self, channels, n_class, filters, blocks, stem_stride):
        super().__init__()
        self.conv = convolution(channels, filters[0], 3, stem_stride)
        self.blocks = nn.Sequential(
            *(
                Block(
                    filters[stage] if i == 0 else filters[stage + 1],
                    filters[stage + 1],
                    2 if i == 0 and stage else 1,
                    i == 0,
                )
                for stage, count in enumerate(blocks)
                for i in range(count)
            )
        )
        self.bn = normalization(filters[-1])
        self.fc = nn.Linear(filters[-1], n_class)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.blocks(self.conv(x)))).mean((2, 3)))


NAMES = {
    'W': 'weight',
    'gamma': 'weight',
    'b': 'bias',
    'beta': 'bias',
    'avg_mean': 'running_mean',
    'avg_var': 'running_var',
}


def torch_name(name):
    """Returns PyTorch's name for Chainer's name of a parameter or statistic."""
    *path, last = name.split('/')
    return '.'.join([*path, NAMES[last]])


def read(workload):
    values, arrays = np.fromfile(workload['arrays'], np.float32), {}
    for name, shape in workload['shapes'].items():
        size = int(np.prod(shape))
        arrays[name], values = torch.from_numpy(values[:size].reshape(shape)), values[size:]
    return arrays


class Worker:
    def __init__(self, workload, layout, precision):
        arrays = read(workload)
        self.x, self.t = arrays.pop('x'), arrays.pop('t').long()
        settings, n_class = workload['optimizer'], len(arrays['fc/b'])
        self.net = PreActResNet(self.x.shape[1], n_class, **workload['net'])
        given = {torch_name(name): array for name, array in arrays.items()}
        self.net.load_state_dict(self.net.state_dict() | given)
        order = torch.channels_last if layout == 'channels_last' else torch.contiguous_format
        self.net = self.net.to(memory_format=order)
        self.x = self.x.contiguous(memory_format=order)
        self.precision = torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16')
        self.optimizer = torch.optim.SGD(
            self.net.parameters(),
            settings['learning_rate'],
            settings['momentum'],
            weight_decay=settings['weight_decay'],
        )
        shape = (workload['evaluation_images'], *self.x.shape[1:])
        self.images = torch.randn(shape).contiguous(memory_format=order)

    def step(self):
        start = time.perf_counter()
        with self.precision:
            loss = F.cross_entropy(self.net(self.x), self.t)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss = float(loss)
        return {'seconds': time.perf_counter() - start, 'loss': loss}

    def evaluate(self):
        self.net.eval()
        start = time.perf_counter()
        with self.precision, torch.inference_mode():
            self.net(self.images).float().numpy()
        seconds = time.perf_counter() - start
        self.net.train()
        return {'seconds': seconds}

    def memory(self):
        unit = 1 if sys.platform == 'darwin' else 1024
        return {'bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def main():
    task = json.loads(sys.argv[1])
    worker = Worker(task['workload'], task['layout'], task['precision'])
    parameters = sum(p.numel() for p in worker.net.parameters())
    versions = f'PyTorch {torch.__version__}, {torch.get_num_threads()} threads'
    print(json.dumps({'versions': versions, 'parameters': parameters}), flush=True)
    for command in sys.stdin:
        print(json.dumps(getattr(worker, command.strip())()), flush=True)


if __name__ == '__main__':
    main()
