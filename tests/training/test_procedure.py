"""Whole trials against the paper's procedures, written out image by image."""

import chainer
import chainer.functions as F
import numpy as np
import pytest
import tiny

from chainer_jo import backends, datasets, store
from chainer_jo.datasets.streams import rng
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import data, epoch_tables

N, B = 128, 56


@pytest.fixture(autouse=True)
def reference_backend():
    """Chainer's own functions, so that two programs add the same numbers in the same order."""
    backends.use('chainer')
    yield
    backends.use('auto')


def test_a_trial_loads_its_data_once(monkeypatch, tmp_path):
    loaded, load = [], datasets.load
    monkeypatch.setattr(
        datasets, 'load', lambda name, *more: loaded.append(name) or load(name, *more)
    )
    tiny.run(tiny.config('cross_entropy'), tmp_path)
    assert loaded == ['fashion_mnist']


class Simulation:
    """Algorithms 1 and 2 with a list for every image; draws come from the trial's own tables."""

    def __init__(self, config):
        self.config = config
        part = data.prepare(datasets.load('fashion_mnist'), config).train
        self.images = part.source.images[part.index]
        self.mean = self.images.astype('d').mean(axis=0) / 255
        self.noisy = [np.eye(10)[label] for label in part.labels]
        self.y = list(self.noisy)
        self.net = self.new_net('init')

    def new_net(self, purpose):
        return PreActResNet(1, 10, **self.config.net, rng=rng(self.config.seed, purpose))

    def image(self, i, offset, flip):
        """One image: scaled, mean subtracted, padded by zeros, cropped, mirrored."""
        image = self.images[i].astype('f') / 255 - self.mean
        pad = self.config.common['pad']
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        top, left = offset
        image = padded[:, top : top + 28, left : left + 28]
        return image[:, :, ::-1] if flip else image

    def run_stage(self, stage, loss, end_epoch=lambda epoch: None):
        """Trains 3 epochs at 0.1 / 10^k; ``past[i]`` collects the outputs of image ``i``."""
        settings, self.past = self.config.stages[stage], [[] for _ in range(N)]
        self.rates, steps = [], 0
        optimizer = chainer.optimizers.MomentumSGD(momentum=0.9).setup(self.net)
        optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
        for epoch in range(settings['epochs']):
            optimizer.lr = settings['learning_rate']
            for e in settings.get('divide_after', []):
                optimizer.lr /= 10 if epoch >= e else 1
            self.rates.append(optimizer.lr)
            table, row = epoch_tables.draw(self.config.seed, stage, epoch, N, self.config.common), 0
            if 'a' in settings:
                epoch_tables.add_mixing(
                    table, self.config.seed, stage, epoch, settings['a'], 'batch'
                )
            while steps * B < (epoch + 1) * N:
                self.step(optimizer, loss, table, row)
                row, steps = row + 1, steps + 1
            end_epoch(epoch + 1)

    def step(self, optimizer, loss, table, row):
        index = table.index[row]
        images = zip(index, table.offset[row], table.flip[row], strict=True)
        x = np.stack([self.image(*choice) for choice in images]).astype('f')
        y = np.stack([self.y[i] for i in index]).astype('f')
        log_f = F.log_softmax(self.net(x))
        value = loss(x, y, log_f, table, row)
        self.net.cleargrads()
        value.backward()
        optimizer.update()
        for i, f in zip(index, np.exp(log_f.array.astype('d')), strict=True):
            self.past[i].append(f)

    def correct(self):
        """Step 1: labels are the mean of the last 2 outputs from the end of epoch 2 on."""

        def loss(x, y, log_f, table, row):
            f = F.exp(log_f)
            p = np.full(10, 0.1, 'f')
            L_p = F.sum(p * (np.log(p) - F.log(F.mean(f, axis=0))))
            L_e = -F.mean(F.sum(f * log_f, axis=1))
            return kl(y, log_f) + 1.2 * L_p + 0.8 * L_e

        def end_epoch(epoch):
            if epoch >= 2:
                self.y = [np.mean(outputs[-2:], axis=0) for outputs in self.past]

        self.run_stage('correct', loss, end_epoch)

    def retrain(self):
        self.net = self.new_net('init/retrain')
        self.run_stage('retrain', lambda x, y, log_f, table, row: kl(y, log_f))

    def fine_tune(self):
        def loss(x, y, log_f, table, row):
            lam, j = table.lam[row], table.partner[row]
            log_f_mixed = F.log_softmax(self.net(lam * x + (1 - lam) * x[j]))
            mixed = lam * y + (1 - lam) * y[j]
            return kl(y, log_f) - F.mean(F.sum(mixed * log_f_mixed, axis=1))

        self.run_stage('fine_tune', loss)


def kl(y, log_f):
    log_y = np.log(np.maximum(y, 1e-30))
    return F.mean(F.sum(y * (log_y - log_f), axis=1))


@pytest.mark.parametrize(('method', 'second'), [('tanaka', 'retrain'), ('ours', 'fine_tune')])
def test_a_trial_is_the_papers_procedure_image_by_image(method, second, tmp_path):
    config = tiny.config(
        method, 'common.pad=2', 'common.flip=true',
        f'{method}.correct.learning_rate=0.01', f'{method}.{second}.learning_rate=0.01',
        f'{method}.correct.alpha=1.2', f'{method}.correct.beta=0.8',
    )  # fmt: skip
    tiny.run(config, tmp_path)
    folder = tiny.folder(config, tmp_path)
    slow = Simulation(config)
    slow.correct()
    getattr(slow, second)()

    y = store.read_arrays(folder / 'labels.arrays')['y']
    np.testing.assert_allclose(y, np.stack(slow.y), atol=1e-4)
    assert np.abs(y - np.stack(slow.noisy)).max() > 0.1
    model = store.read_arrays(folder / 'model.arrays')
    for name, param in slow.net.namedparams():
        np.testing.assert_allclose(model[name[1:]], param.array, atol=1e-3, err_msg=name)
    np.testing.assert_allclose(model['bn/avg_mean'], slow.net.bn.avg_mean, atol=1e-3)
    rates = [row['learning_rate'] for row in tiny.outcome(config, tmp_path)['log.jsonl']]
    assert rates[-3:] == pytest.approx(slow.rates) == [0.01, 0.001, 0.0001]


def test_labels_are_the_noisy_ones_until_the_end_of_epoch_begin(tmp_path):
    config = tiny.config('tanaka')
    tiny.run(config, tmp_path)
    outcome = tiny.outcome(config, tmp_path)
    right = [row['label_accuracy'] for row in outcome['log.jsonl']]
    noisy_right = 1 - outcome['result.json']['noise']['wrong']
    assert right[0] == pytest.approx(noisy_right)
    assert right[1] != right[0]
    assert right[2] == right[3] == right[4] == right[5]


def test_best_is_the_first_epoch_of_the_last_stage_with_the_highest_validation(tmp_path):
    config = tiny.config('ours')
    result = tiny.run(config, tmp_path)
    rows = tiny.outcome(config, tmp_path)['log.jsonl'][3:]
    best = rows[0]
    for row in rows:
        if row['validation/main/accuracy'] > best['validation/main/accuracy']:
            best = row
    assert result['best'] == {
        'epoch': best['epoch'],
        'validation_accuracy': best['validation/main/accuracy'],
        'test_accuracy': best['test/main/accuracy'],
    }
    assert result['last']['epoch'] == result['epochs'] == 6


def test_the_label_accuracy_of_the_result_is_that_of_the_labels_it_ends_with(tmp_path):
    config = tiny.config('tanaka')
    result = tiny.run(config, tmp_path)
    folder = tiny.folder(config, tmp_path)
    noise = store.read_arrays(folder / 'noisy_labels.arrays')
    y = store.read_arrays(folder / 'labels.arrays')['y']
    assert result['label_accuracy'] == (y.argmax(axis=1) == noise['true']).mean()
    assert result['noise']['wrong'] == (noise['noisy'] != noise['true']).mean()
    assert result['label_accuracy'] != 1 - result['noise']['wrong']


def test_digests_in_the_result_are_those_of_the_files(tmp_path):
    config = tiny.config('cross_entropy')
    result = tiny.run(config, tmp_path)
    folder = tiny.folder(config, tmp_path)
    model = store.read_arrays(folder / 'model.arrays')
    y = store.read_arrays(folder / 'labels.arrays')['y']
    assert result['digests']['model'] == store.digest(*(model[name] for name in sorted(model)))
    assert result['digests']['labels'] == store.digest(y)
