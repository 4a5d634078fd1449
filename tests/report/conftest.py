"""Hand-made trial folders: real files, as the trainer leaves them."""

import copy
import json

import pytest

from chainer_jo import store

CONFIG = {
    'preset': 'quick',
    'dataset': 'fashion_mnist',
    'method': 'ours',
    'noise': {'kind': 'symmetric', 'rate': 0.7, 'sampling': 'exact', 'exclude_true': False},
    'seed': 0,
    'common': {'batch_size': 64, 'validation_labels': 'clean'},
    'net': {'filters': [8, 8, 16, 32]},
    'stages': {'correct': {'epochs': 3}, 'fine_tune': {'epochs': 2, 'a': 4.0}},
    'precision': 'float32',
    'modified': [],
}
DATA = {
    'name': 'fashion_mnist',
    'variant': 'embedded subset',
    'digest': '5f' * 32,
    'train': 5000,
    'validation': 1000,
    'test': 2000,
}


@pytest.fixture
def grid():
    """A grid of two rates and three methods; `gce` is not in the paper's table."""
    return {
        'table': 'table2',
        'preset': 'quick',
        'caption': 'Test accuracy for symmetric noise',
        'dataset': 'fashion_mnist',
        'noise': 'symmetric',
        'rates': [0.5, 0.7],
        'methods': ['gce', 'ours', 'cross_entropy'],
        'others': ['mixup', 'tanaka'],
        'trials': 5,
        'tolerance': 1.0,
        'compare': 'none',
        'differs': 'it trains on other images',
        'titles': {
            'cross_entropy': 'Cross entropy',
            'ours': 'Ours',
            'gce': 'GCE',
            'mixup': 'Mixup',
        },
    }


@pytest.fixture
def published():
    """Printed numbers for two methods."""
    printed = [
        ('cross_entropy', 0.5, 0.8515, 0.5311),
        ('cross_entropy', 0.7, 0.7809, 0.3332),
        ('ours', 0.5, 0.91, 0.9067),
        ('ours', 0.7, 0.8767, 0.8743),
    ]
    keys = 'table', 'noise', 'method', 'rate', 'best', 'last'
    return [dict(zip(keys, ('table2', 'symmetric', *row), strict=True)) for row in printed]


@pytest.fixture
def standard():
    """The configuration that the preset of these tests gives for a trial."""

    def give(config):
        same = {key: config[key] for key in ('method', 'seed', 'noise', 'modified')}
        today = copy.deepcopy(CONFIG) | same
        for override in config['modified']:
            today['common'] |= {'batch_size': int(override.rpartition('=')[2])}
        return today

    return give


@pytest.fixture
def command():
    """The command of a trial."""
    return lambda config: f'train --method {config["method"]} --seed {config["seed"]}'


@pytest.fixture
def add_trial(tmp_path):
    """Returns a function that writes a finished trial under ``tmp_path`` and returns its result."""

    def add(best=0.85, last=0.84, out=tmp_path, labels=0.8, log=True, **changes):
        data = DATA | changes.pop('data', {})
        noise = CONFIG['noise'] | {'rate': changes.pop('rate', 0.7)} | changes.pop('noise', {})
        config = copy.deepcopy(CONFIG) | {'noise': noise} | changes
        result = make_result(config, data, best, last, labels)
        folder = out / 'runs' / result['trial']
        folder.mkdir(parents=True)
        store.write_sealed(folder / 'config.json', config)
        text = make_log(config['stages'], last, labels)
        result['digests']['log'] = store.sha256(text.encode())
        if log:
            (folder / 'log.jsonl').write_text(text)
        store.write_sealed(folder / 'result.json', result)
        return result

    return add


def make_result(config, data, best, last, labels):
    words = [config['method'], config['noise']['rate'], config['seed'], *config['modified']]
    words += [data['variant'], data['digest'][:4], config['precision'], config['preset']]
    return {
        'schema': 1,
        'trial': '-'.join(str(word).replace('=', '').replace(' ', '_') for word in words),
        'config': config,
        'data': data,
        'noise': {'digest': 'ab' * 32, 'wrong': 0.63},
        'best': {'epoch': 4, 'validation_accuracy': best, 'test_accuracy': best},
        'last': {'epoch': 5, 'validation_accuracy': last, 'test_accuracy': last},
        'label_accuracy': labels,
        'epochs': sum(stage['epochs'] for stage in config['stages'].values()),
        'environment': {
            'python': '3.11.7', 'numpy': '2.4.6', 'chainer': '7.8.1', 'backend': 'chainer',
            'device': 'cpu', 'machine': 'x86_64', 'cores': 2, 'version': '0.1.0',
        },
        'digests': {'model': '01' * 32, 'labels': '02' * 32},
        'times': {'started': 'a', 'finished': 'b', 'seconds': 90.0, 'resumes': 0},
    }  # fmt: skip


def make_log(stages, last, labels):
    lines, epoch = [], 0
    for stage, settings in stages.items():
        for stage_epoch in range(1, settings['epochs'] + 1):
            epoch += 1
            row = {'epoch': epoch, 'stage': stage, 'stage_epoch': stage_epoch}
            row |= {'main/accuracy': 0.5 + epoch / 100, 'validation/main/accuracy': last}
            row |= {'test/main/accuracy': last - epoch / 1000, 'label_accuracy': labels}
            lines.append(json.dumps(row) + '\n')
    return ''.join(lines)
