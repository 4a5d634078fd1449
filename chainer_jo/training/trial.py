"""One trial, from its configuration to ``result.json``; killed and called again, it goes on."""

import datetime
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import chainer
import numpy as np
from chainer import training
from chainer.serializers import DictionarySerializer

import chainer_jo
from chainer_jo import backends, datasets, methods, store
from chainer_jo.datasets.label_files import save_noise
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError, OutOfMemoryError
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import extensions, snapshot, updaters
from chainer_jo.training.data import prepare, transition

SCHEMA = 1


@dataclass
class Observer:
    """Who is told what happens; every call is for people, none changes the result.

    Attributes:
        start: Called with the number of epochs of all stages and the rows of the epochs done.
        epoch: Called with each new log row.
        warn: Called with a line of text.
    """

    start: object
    epoch: object
    warn: object


def run(
    config,
    out,
    observer,
    data=None,
    labels=None,
    device='@numpy',
    snapshot_seconds=60.0,
    graph=True,
):
    """Runs a trial, or the rest of it, and returns its result.

    Args:
        config (TrialConfig): What to train.
        out (pathlib.Path): The trial's folder is ``out/runs/<trial id>``.
        observer (Observer): Told of every epoch.
        data (str): Where the data set lies; see :func:`chainer_jo.datasets.load`.
        labels (numpy.ndarray): Noisy labels for noise ``file``, ``(N,)``.
        device (str): Chainer's name of the device.
        snapshot_seconds (float): Least time between two snapshots.
        graph (bool): Whether to capture the training steps as CUDA graphs where that can be.

    Returns:
        dict: The content of ``result.json``.

    Raises:
        ChainerJoError: See :mod:`chainer_jo.errors`; a stop or divergence leaves the last snapshot.
    """
    folder = Path(out) / 'runs' / config.trial
    done = folder / 'result.json'
    # Before the folder is made: data that cannot be had leave nothing behind.
    dataset = None if done.exists() else datasets.load(config.dataset, data)
    with store.lock(folder):
        if done.exists():
            _remove_snapshots(folder)
            return store.read_json(done)
        try:
            trial = _Trial(config, folder, observer, dataset, labels, device, graph)
            return trial.run(snapshot_seconds)
        # CuPy's error is a MemoryError, too.
        except MemoryError as error:
            where = 'this machine' if device == '@numpy' else 'the GPU'
            raise OutOfMemoryError(
                f'the memory of {where} is full',
                seen=str(error),
                fix='the same command with fewer --jobs goes on from the last snapshot; a trial of '
                f'less memory is --set common.batch_size={config.common["batch_size"] // 2}',
            ) from error


class _Trial:
    def __init__(self, config, folder, observer, dataset, labels, device, graph=True):
        self.config, self.folder, self.observer = config, folder, observer
        self.started, self.clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        self.dataset = dataset
        self.identity = store.digest(config.as_dict(), self.dataset.digest, SCHEMA)
        self._write_config()
        host_data, noisy, index = prepare(self.dataset, config, labels)
        self.noise_digest = save_noise(
            folder / 'noisy_labels.arrays', noisy, host_data.true_labels, index
        )
        self.wrong = float((noisy != host_data.true_labels).mean())
        self.device = chainer.get_device(device)
        self.device.use()
        self.capture = backends.capturer(device) if graph else None
        self.method = methods.load(config.method)(
            self._net('init'),
            noisy,
            len(self.dataset.classes),
            config.stages,
            transition(self.dataset, config, noisy, host_data.true_labels),
        )
        self.method.to_device(self.device)
        self.data = host_data.to_device(self.device)

    def _write_config(self):
        path = self.folder / 'config.json'
        content = self.config.as_dict() | {'data': self.dataset.digest}
        if path.exists() and (seen := _without_place(store.read_json(path))) != content:
            raise ConfigError(
                f'{self.folder} was begun with other data or settings',
                seen=f'data {seen.get("data")}, now {self.dataset.digest}',
                fix='name the same data, or choose another folder with --out',
            )
        store.write_json(path, content | self.config.as_record())

    def _net(self, purpose):
        return PreActResNet(
            self.dataset.x_train.shape[1],
            len(self.dataset.classes),
            **self.config.net,
            precision=self.config.precision,
            rng=rng(self.config.seed, purpose),
        )

    def run(self, snapshot_seconds):
        arrays = snapshot.read_newest(self.folder, self.identity, self.observer.warn)
        rows = snapshot.rows(arrays) if arrays else []
        self.resumes = int(arrays['resumes']) + 1 if arrays else 0
        self.observer.start(self.config.epochs, rows)
        saver = snapshot.Snapshot(self.folder, self.identity, rows, self.resumes, snapshot_seconds)
        stages = list(self.config.stages)
        first = stages.index(str(arrays['stage'])) if arrays else 0
        with saver, chainer.using_config('type_check', False):
            for stage in stages[first:]:
                self._run_stage(stage, rows, saver, arrays)
                arrays = None
        return self._finish(rows)

    def _run_stage(self, stage, rows, saver, arrays):
        self.method.begin(stage)
        settings = self.config.stages[stage]
        if arrays is None and settings.get('start') == 'fresh':
            self.method.net.copyparams(self._net(f'init/{stage}').to_device(self.device))
        updater = updaters.create(self.method, self.data, self.config, self.capture)
        if arrays is not None:
            snapshot.restore(updater, arrays)
        trainer = training.Trainer(
            updater, lambda trainer: trainer.updater.epoch >= settings['epochs'], self.folder
        )
        for extension in (
            extensions.CorrectLabels(),
            extensions.Evaluate(),
            extensions.Guard(),
            extensions.Log(self.folder / 'log.jsonl', rows, self.observer.epoch),
            extensions.Schedule(),
            saver,
        ):
            trainer.extend(extension)
        trainer.run(show_loop_exception_msg=False)
        saver.save(updater)

    def _finish(self, rows):
        model = _arrays(self.method.net)
        y = chainer.get_device('@numpy').send(self.method.labels.y)
        store.write_arrays(self.folder / 'model.arrays', model)
        store.write_arrays(self.folder / 'labels.arrays', {'y': y})
        result = self._result(rows, model, y)
        store.write_json(self.folder / 'result.json', result)
        _remove_snapshots(self.folder)
        return result

    def _result(self, rows, model, y):
        last_stage = list(self.config.stages)[-1]
        # max() keeps the first of equals: the first epoch on ties (D-20).
        best = max(
            (row for row in rows if row['stage'] == last_stage),
            key=lambda row: row['validation/main/accuracy'],
        )
        dataset, data = self.dataset, self.data
        now = datetime.datetime.now(datetime.UTC)
        return {
            'schema': SCHEMA,
            'trial': self.config.trial,
            'config': self.config.as_record(),
            'data': {
                'name': dataset.name,
                'variant': dataset.variant,
                'digest': dataset.digest,
                'train': len(data.images),
                'validation': len(data.validation[1]),
                'test': len(data.test[1]),
            },
            'noise': {'digest': self.noise_digest, 'wrong': self.wrong},
            'best': _accuracies(best),
            'last': _accuracies(rows[-1]),
            'label_accuracy': rows[-1]['label_accuracy'],
            'epochs': len(rows),
            'environment': environment(self.device) | {'graph': self.capture is not None},
            'digests': {
                'model': store.digest(*(model[name] for name in sorted(model))),
                'labels': store.digest(y),
            },
            'times': {
                'started': self.started.isoformat(timespec='seconds'),
                'finished': now.isoformat(timespec='seconds'),
                'seconds': round(time.monotonic() - self.clock, 1),
                'training_seconds': round(sum(row['seconds'] for row in rows), 1),
                'resumes': self.resumes,
            },
        }


def _without_place(content):
    # The same labels may lie in another file by now.
    return {key: value for key, value in content.items() if key != 'labels_file'}


def _remove_snapshots(folder):
    for path in snapshot.list_newest_first(folder):
        path.unlink()


def _accuracies(row):
    return {
        'epoch': row['epoch'],
        'validation_accuracy': row['validation/main/accuracy'],
        'test_accuracy': row['test/main/accuracy'],
    }


def _arrays(link):
    serializer = DictionarySerializer()
    link.serialize(serializer)
    return {name: np.asarray(value) for name, value in serializer.target.items()}


def environment(device):
    """Returns the versions, backend, device and machine of this process, as plain JSON values."""
    return {
        'version': chainer_jo.__version__,
        'python': platform.python_version(),
        'numpy': np.__version__,
        'chainer': chainer.__version__,
        'backend': backends.describe(device.name),
        'device': device.name,
        'machine': platform.machine(),
        'cores': os.cpu_count(),
    }
