"""PyTorch's side of the benchmark: the nets of chainer_jo/links, in PyTorch.

``python -m chainer_jo benchmark`` runs this script with the Python interpreter of an environment
that has PyTorch and NumPy, and sends commands to its stdin, one per line: step N, evaluate, memory
or kernels.

A step takes a mini-batch that is ready on the device: forward, loss, backward and the SGD update,
which is one fused kernel on a GPU. Modes: eager; graph, which replays the whole step as one CUDA
graph; compile, net and loss through torch.compile; compile graph, both.
"""

import json
import os
import resource
import sys
import time
from itertools import cycle

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MOMENTUM, EPS = 0.1, 2e-5  # Chainer's decay 0.9 and eps
LOSS_SCALE = 1024.0  # of float16; the same all the time, as in chainer_jo
WARM_UP = 3


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


class Bottleneck(nn.Module):
    def __init__(self, in_channels, width, stride, project):
        super().__init__()
        self.conv1 = convolution(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.project = project
        if project:
            self.conv4 = convolution(in_channels, 4 * width, 1, stride)
            self.bn4 = nn.BatchNorm2d(4 * width)

    def forward(self, x):
        shortcut = self.bn4(self.conv4(x)) if self.project else x
        h = F.relu(self.bn1(self.conv1(x)), inplace=True)
        h = F.relu(self.bn2(self.conv2(h)), inplace=True)
        h = self.bn3(self.conv3(h))
        h += shortcut
        return F.relu(h, inplace=True)


class ResNet50(nn.Module):
    """torchvision's ResNet-50, which computes in place where possible; divides images by std."""

    def __init__(self, n_class):
        super().__init__()
        self.conv1 = convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, (count, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
            blocks = []
            for i in range(count):
                stride = 2 if i == 0 and stage else 1
                blocks.append(Bottleneck(channels, width, stride, i == 0))
                channels = 4 * width
            setattr(self, f'res{stage + 2}', nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, n_class)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        self.register_buffer('std', std, persistent=False)

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x / self.std)), inplace=True)
        h = F.max_pool2d(h, 3, 2, 1)
        return self.fc(self.res5(self.res4(self.res3(self.res2(h)))).mean((2, 3)))


def build(net, channels, n_class):
    if net.get('name') == 'resnet50':
        return ResNet50(n_class)
    return PreActResNet(channels, n_class, **net)


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
    """One system: the net in one layout, precision and mode.

    Args:
        workload (dict): The fields of :class:`chainer_jo.benchmark.workload.Workload`.
        device (str): ``cpu`` or ``cuda:N``.
        layout (str): ``nchw`` or ``channels_last``.
        precision (str): ``float32``, on a GPU with TF32; ``bfloat16`` or ``float16`` by autocast.
        mode (str): ``eager``, ``graph``, ``compile`` or ``compile graph``.
    """

    def __init__(self, workload, device, layout, precision, mode):
        self.device = torch.device(device)
        self.on_gpu = self.device.type == 'cuda'
        if self.on_gpu:
            torch.cuda.set_device(self.device)
            torch.set_float32_matmul_precision('high')
            torch.backends.cudnn.benchmark = True
        arrays = read(workload)
        order = torch.channels_last if layout == 'channels_last' else torch.contiguous_format
        x = [self._send(batch, order) for batch in arrays.pop('x')]
        t = arrays.pop('t').long().to(self.device)
        self.batches = cycle(zip(x, t, strict=True))
        self.net = build(workload['net'], x[0].shape[1], len(arrays['fc/b']))
        given = {torch_name(name): array for name, array in arrays.items()}
        self.net.load_state_dict(self.net.state_dict() | given)
        self.net = self.net.to(self.device, memory_format=order)
        self.images = self._send(torch.randn(workload['evaluation_images'], *x[0].shape[1:]), order)
        self._prepare(workload['optimizer'], precision)
        self.loss = torch.compile(self._loss) if 'compile' in mode else self._loss
        self.step_once = self._captured(x[0], t[0]) if 'graph' in mode else self._step_once

    def _send(self, images, order):
        return images.to(self.device).contiguous(memory_format=order)

    def _prepare(self, settings, precision):
        dtype = torch.float16 if precision == 'float16' else torch.bfloat16
        self.precision = torch.autocast(self.device.type, dtype, enabled=precision != 'float32')
        self.scaler = torch.amp.GradScaler(
            self.device.type, LOSS_SCALE, growth_interval=2**30, enabled=precision == 'float16'
        )
        self.optimizer = torch.optim.SGD(
            self.net.parameters(),
            settings['learning_rate'],
            settings['momentum'],
            weight_decay=settings['weight_decay'],
            fused=self.on_gpu,
        )

    def _loss(self, x, t):
        return F.cross_entropy(self.net(x), t)

    def _step_once(self, x, t):
        with self.precision:
            loss = self.loss(x, t)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _captured(self, x, t):
        """Captures a step; returns a function that copies a batch to its input and replays it."""
        before = {name: value.clone() for name, value in self.net.state_dict().items()}
        x, t = x.clone(), t.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._step_once(x, t)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._step_once(x, t)
        # The warm-up has trained the net, so its initial state is restored, in place.
        self.net.load_state_dict(before)
        for state in self.optimizer.state.values():
            state['momentum_buffer'].zero_()

        def replay(new_x, new_t):
            x.copy_(new_x)
            t.copy_(new_t)
            graph.replay()
            return loss

        return replay

    def step(self, count):
        self._synchronize()
        start = time.perf_counter()
        for _ in range(count):
            loss = self.step_once(*next(self.batches))
        loss = float(loss)
        self._synchronize()
        return {'seconds': (time.perf_counter() - start) / count, 'loss': loss}

    def evaluate(self):
        self.net.eval()
        self._synchronize()
        start = time.perf_counter()
        with self.precision, torch.inference_mode():
            self.net(self.images).float().cpu().numpy()
        seconds = time.perf_counter() - start
        self.net.train()
        return {'seconds': seconds}

    def memory(self):
        if self.on_gpu:
            return {'bytes': torch.cuda.max_memory_reserved()}
        unit = 1 if sys.platform == 'darwin' else 1024
        return {'bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}

    def kernels(self):
        """Counts the kernels that the profiler sees in one step, without copies and fills."""
        with torch.profiler.profile() as profile:
            self.step_once(*next(self.batches))
            self._synchronize()
        on_gpu = (e for e in profile.events() if e.device_type == torch.profiler.DeviceType.CUDA)
        kernels = [
            e.name
            for e in on_gpu
            if not e.is_user_annotation and not e.name.startswith(('Memcpy', 'Memset'))
        ]
        return {'kernels': len(kernels) or None}

    def _synchronize(self):
        if self.on_gpu:
            torch.cuda.synchronize()


def describe(worker):
    versions = f'PyTorch {torch.__version__}'
    if not worker.on_gpu:
        return f'{versions}, {torch.get_num_threads()} threads'
    return f'{versions}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}'


def main():
    # Output of compilers must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker(**json.loads(sys.argv[1]))
    parameters = sum(p.numel() for p in worker.net.parameters())
    greeting = {'versions': describe(worker), 'parameters': parameters}
    print(json.dumps(greeting), file=answers, flush=True)
    for command in sys.stdin:
        name, *count = command.split()
        print(json.dumps(getattr(worker, name)(*map(int, count))), file=answers, flush=True)


if __name__ == '__main__':
    main()
