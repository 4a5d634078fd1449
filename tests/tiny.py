"""A trial of every method that takes half a second: the quick preset, smaller still."""

import json
import shlex
from pathlib import Path

from chainer_jo import config as configuration
from chainer_jo import datasets, paper
from chainer_jo.datasets import Dataset
from chainer_jo.training import data, trial
from chainer_jo.training.assembly import assemble
from chainer_jo.training.machine import Machine

SMALL = (
    'common.train_images=128',
    'common.validation_images=32',
    'common.batch_size=56',  # No divisor of 128: batches reach over the ends of epochs and stages.
    'net.filters=[4, 4, 4, 4]',
    'net.blocks=[1, 1, 1]',
    'net.stem_stride=4',
)
SHORT = {
    'epochs': 3, 'begin': 2, 'window': 2, 'divide_after': [1, 2], 'prune_from': 1, 'prune_every': 1,
}  # fmt: skip
STEPS = 7  # Batches of 56 in 3 epochs of 128 images: 3 + 2 + 2.
SILENT = trial.Observer()


def overrides(method, dataset='fashion_mnist'):
    """The settings that make any method's trial tiny, whatever stages it has."""
    settings = paper.hyperparameters('quick', dataset)
    stages = settings[method]
    # Clothing1M has validation images of its own.
    held = 'validation_images' in settings['common']
    small = [text for text in SMALL if held or 'validation_images' not in text]
    return (
        *small,
        *(
            f'{method}.{stage}.{key}={SHORT[key]}'
            for stage, values in stages.items()
            if isinstance(values, dict)
            for key in values
            if key in SHORT
        ),
    )


def config(method, *more, seed=0):
    """The TrialConfig; ``more`` are overrides on top."""
    return configuration.trial(
        method, 'fashion_mnist', 'symmetric', 0.5, seed, 'quick', (*overrides(method), *more)
    )


def words(config, out, *more):
    """The command line of the trial, after ``python -m chainer_jo``."""
    return [*shlex.split(config.command)[3:], '--out', str(out), '--device', 'cpu', *more]


def machine(out=Path(), **options):
    """The Machine of a test: the CPU, unless it says otherwise."""
    return Machine(Path(out), **{'device': 'cpu'} | options)


def run(config, out, observer=SILENT, seconds=60.0, dataset=None, **options):
    """Runs the trial in this process and returns its result."""
    place = machine(out, snapshot_seconds=seconds, **options)
    return trial.run(config, place, observer, dataset=dataset)


def folder(config, out):
    return Path(out) / 'runs' / config.trial


def outcome(config, out):
    """All that a trial leaves behind, but for times: two equal ones are identical bit for bit."""
    files = {path.name: path for path in folder(config, out).iterdir()}
    result = json.loads(files.pop('result.json').read_text())
    rows = [json.loads(line) for line in files.pop('log.jsonl').read_text().splitlines()]
    # What times went into.
    del result['times'], result['digest'], result['digests']['log']
    for row in rows:
        del row['seconds']
    return {name: path.read_bytes() for name, path in files.items()} | {
        'result.json': result,
        'log.jsonl': rows,
    }


def prepare(config, dataset=None):
    """The trial's parts."""
    return data.prepare(dataset or datasets.load(config.dataset), config)


def assembly(config, dataset=None, **options):
    """The trial put together; ``options`` are those of a Machine."""
    return assemble(config, prepare(config, dataset), machine(**options))


def updater(config, dataset=None):
    """The updater of the trial's first stage, before its first step."""
    made = assembly(config, dataset).updater(next(iter(config.stages)))
    made.optimizer.lr = 0.01
    return made


def changed_dataset():
    """The data set with one pixel changed."""
    present = datasets.load('fashion_mnist')
    parts = (present.train, present.test)
    arrays = [array.copy() for part in parts for array in (part.images, part.labels)]
    arrays[0][0, 0, 0, 0] ^= 1
    return Dataset.of_arrays('fashion_mnist', None, arrays, present.classes, present.flips)


def digests(result):
    """Returns those of a result that no time went into: of the net and of the labels."""
    return {name: result['digests'][name] for name in ('model', 'labels')}
