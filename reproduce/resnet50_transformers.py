"""The other side of reproduce/check_resnet50.py: ResNet-50 of ``transformers`` on PyTorch.

``.venv-peer/bin/python reproduce/resnet50_transformers.py GIVEN.npz FOLDER`` reads weights with
torchvision's names, images, and the gradient of the logits. It writes its results, and saves the
weights with torch and safetensors.
"""

import collections
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import ResNetConfig, ResNetForImageClassification

PARTS = {'conv1': '0.convolution', 'bn1': '0.normalization', 'conv2': '1.convolution'}
PARTS |= {'bn2': '1.normalization', 'conv3': '2.convolution', 'bn3': '2.normalization'}


def their_name(name):
    """Returns the name in ``transformers`` for a name in torchvision."""
    if block := re.fullmatch(r'layer(\d)\.(\d+)\.(\w+\d?)\.(.*)', name):
        stage, i, part, rest = block.groups()
        place = f'resnet.encoder.stages.{int(stage) - 1}.layers.{i}'
        if part == 'downsample':
            which, _, leaf = rest.partition('.')
            return f'{place}.shortcut.{("convolution", "normalization")[int(which)]}.{leaf}'
        return f'{place}.layer.{PARTS[part]}.{rest}'
    part, _, leaf = name.partition('.')
    stem = 'resnet.embedder.embedder.'
    return {'conv1': f'{stem}convolution.', 'bn1': f'{stem}normalization.'}.get(
        part, 'classifier.1.'
    ) + leaf


def main(path, folder):
    with np.load(path, allow_pickle=False) as file:
        given = {name: torch.from_numpy(array) for name, array in file.items()}
    state = {k.removeprefix('net/'): v for k, v in given.items() if k.startswith('net/')}
    names = {their_name(name): name for name in state}
    net = ResNetForImageClassification(ResNetConfig(num_labels=len(state['fc.bias'])))
    counters = {k: v for k, v in net.state_dict().items() if k.endswith('num_batches_tracked')}
    # Strict: the names must match one to one.
    net.load_state_dict({theirs: state[name] for theirs, name in names.items()} | counters)
    save(state, Path(folder))

    x = given['x'].requires_grad_()
    net.train()
    y = net(x).logits
    y.backward(given['gy'])
    found = {'logits/train': y, 'gradients/x': x.grad}
    found |= {f'gradients/{names[k]}': p.grad for k, p in net.named_parameters()}
    found |= {f'statistics/{names[k]}': v for k, v in net.state_dict().items() if '.running_' in k}
    net.eval()
    with torch.no_grad():
        found['logits/test'] = net(x).logits
    np.savez(Path(folder) / 'found.npz', **{k: v.detach().numpy() for k, v in found.items()})


def save(state, folder):
    """Writes a state like that of a torchvision module: ordered, with counters and versions."""
    ordered = collections.OrderedDict(state)
    for name in state:
        if name.endswith('running_var'):
            counter = name.replace('running_var', 'num_batches_tracked')
            ordered[counter] = torch.tensor(7)
    ordered._metadata = collections.OrderedDict([('', {'version': 1}), ('bn1', {'version': 2})])
    save_file(dict(ordered), folder / 'resnet50.safetensors', metadata={'format': 'pt'})
    torch.save(ordered, folder / 'resnet50.pth')
    old = {'_use_new_zipfile_serialization': False}
    torch.save(ordered, folder / 'resnet50-stream.pth', **old)


if __name__ == '__main__':
    main(*sys.argv[1:])
