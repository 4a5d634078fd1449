"""ResNet-50 on Clothing1M's stand-in: which weights it begins with, and what becomes of them."""

import chainer
import chainer.functions as F
import clothing_files
import numpy as np
import pytest
import tiny

from chainer_jo import config as configuration
from chainer_jo import paper, store
from chainer_jo.datasets import clothing1m
from chainer_jo.errors import ConfigError
from chainer_jo.links import pretrained
from chainer_jo.links.layers import Linear
from chainer_jo.training import data as trial_data
from chainer_jo.training import nets
from chainer_jo.training.assembly import assemble

SHORT = (
    'common.train_images=40', 'common.batch_size=8', 'tanaka.correct.epochs=1',
    'tanaka.retrain.epochs=1',
)  # fmt: skip


def config(method='tanaka', *overrides, preset='paper'):
    short = () if preset == 'quick' else SHORT
    return configuration.trial(
        method, 'clothing1m', 'none', None, 0, preset, (*short, *overrides)
    )  # fmt: skip


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clothing')
    clothing_files.make(folder / 'data', (300, 20, 20))
    facts = clothing_files.verify(folder / 'data', folder / 'index', limit=0.02)
    return clothing1m.load(facts['index'])


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Two files of Chainer's own ResNet-50, with different numbers."""
    net, rng = chainer.links.ResNet50Layers(None), np.random.default_rng(0)
    with chainer.using_config('train', False):
        net(np.zeros((1, 3, 224, 224), 'f'))
    files = []
    for name in ('first.npz', 'second.npz'):
        for link in net.links():
            if isinstance(link, chainer.links.BatchNormalization):
                link.avg_mean[...] = rng.random(link.avg_mean.shape, 'f')
        files.append(str(tmp_path_factory.mktemp('weights') / name))
        chainer.serializers.save_npz(files[-1], net, compression=False)
    return files


def test_a_net_that_begins_with_weights_says_which_file_it_wants(dataset, tmp_path):
    with pytest.raises(ConfigError, match='resnet50-0676ba61.pth.*net.weights=none'):
        tiny.run(config(), tmp_path, dataset=dataset)
    assert not list(tmp_path.iterdir())


def test_a_net_that_begins_with_random_weights_takes_no_file(dataset, weights, tmp_path):
    for described in (config('ours', preset='quick'), config('tanaka', 'net.weights=none')):
        with pytest.raises(ConfigError, match='starts from random weights'):
            tiny.run(described, tmp_path, dataset=dataset, weights=weights[0])


def test_each_fresh_stage_begins_with_the_weights_and_the_mean_is_theirs(dataset, weights):
    read = pretrained.read(weights[0])
    data = trial_data.prepare(dataset, config())
    made = assemble(config(), data, tiny.machine(), read)
    updater = made.updater('correct')
    updater.optimizer.lr = 0.01
    updater.update()
    updater.finalize()
    net = made.method.net
    assert (net.res5[2].conv3.W.array != read.arrays['res5/2/conv3/W']).any()
    first_fc = net.fc.W.array.copy()

    made.start_anew('retrain')

    np.testing.assert_array_equal(net.res5[2].conv3.W.array, read.arrays['res5/2/conv3/W'])
    np.testing.assert_array_equal(net.bn1.avg_mean, read.arrays['bn1/avg_mean'])
    assert (net.fc.W.array != first_fc).any()
    mean = np.broadcast_to(np.array(read.form.mean, 'f').reshape(3, 1, 1), (3, 32, 32))
    np.testing.assert_array_equal(made.train.mean, mean)


def test_a_trial_keeps_to_its_file_of_weights_and_tells_it(dataset, weights, tmp_path):
    result = tiny.run(config(), tmp_path, dataset=dataset, weights=weights[0])
    assert result['weights'] == pretrained.read(weights[0]).digest
    with pytest.raises(ConfigError, match='a result from other initial weights'):
        tiny.run(config(), tmp_path, dataset=dataset, weights=weights[1])
    assert store.read_sealed(tmp_path / 'runs' / config().trial / 'result.json') == result
    assert tiny.run(config(), tmp_path, dataset=dataset, weights=weights[0]) == result


class Flat(chainer.Chain):
    """A net as the README tells users to add one."""

    def __init__(self, in_channels, n_class, filters, blocks, stem_stride, *, precision, rng):
        super().__init__()
        del in_channels, blocks, stem_stride, precision
        with self.init_scope():
            self.first = Linear(16 * 16, filters[0], initialW=rng.normal(size=(filters[0], 256)))
            self.fc = Linear(filters[0], n_class, initialW=0)

    def features(self, x):
        pixels = x[:, 0, :16, :16].reshape(len(x), -1)
        return F.relu(self.first(pixels))

    def forward(self, x):
        return self.fc(self.features(x))


def test_a_net_of_ones_own_is_trained_by_its_name_and_the_usual_one_keeps_its_trials(
    monkeypatch, tmp_path
):
    monkeypatch.setitem(nets.LINKS, 'flat', Flat)
    settings, line = paper.hyperparameters, {'net.link': ['preact_resnet', 'flat']}
    monkeypatch.setattr(
        paper, 'hyperparameters', lambda *names: settings(*names) | {'choices': line}
    )
    flat, usual = (tiny.config('tanaka', f'net.link={name}') for name in ('flat', 'preact_resnet'))
    tiny.run(flat, tmp_path)
    assert set(store.read_arrays(tmp_path / 'runs' / flat.trial / 'model.arrays')) >= {
        'first/W', 'fc/W'
    }  # fmt: skip
    assert 'link' not in usual.net
    assert flat.trial != usual.trial
