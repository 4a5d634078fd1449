"""The paper's method on a user's own images, to find and correct their wrong labels.

There are no true labels, no known noise rate and no test set. A part of the images is held out;
their labels, some of them wrong, show how training goes.
"""

import time
from dataclasses import dataclass, replace

import chainer
import numpy as np

from chainer_jo import backends, config, datasets, store
from chainer_jo.datasets.label_files import load_noise
from chainer_jo.errors import ConfigError
from chainer_jo.training import data as trial_data
from chainer_jo.training import evaluation, images, machine, state, trial
from chainer_jo.training.assembly import assemble
from chainer_jo.training.saved_net import SavedNet

PRESET = 'correct'
#: One image in this many is held out: "we retained 10 % of the training data for validation".
HELD_OUT = 10
#: Of few images smaller batches, so that an epoch has :data:`STEPS` of them: else the net learns
#: too little to correct more labels than it damages.
BATCH_SIZES = (16, 64)
STEPS = 30


@dataclass(eq=False)
class Corrected:
    """What :func:`run` ends with.

    Attributes:
        probabilities (numpy.ndarray): Of every image, ``(N, C)``, float32, rows that sum to 1: the
            mean of the corrected soft label and the net's output; of those held out the output.
        held_out (numpy.ndarray): Which images were held out, ``(N,)``, bool.
        result (dict): The content of ``result.json``.
        net (SavedNet): The net after the last epoch.
    """

    probabilities: np.ndarray
    held_out: np.ndarray
    result: dict
    net: SavedNet


def settings(seed=0, overrides=(), precision='float32', labels=None):
    """Returns the TrialConfig of :func:`describe` without the sizes of a data set."""
    known = datasets.NAMES[0]
    return config.trial(
        'ours', known, 'file', None, seed, PRESET, overrides, precision, labels=labels
    )


def describe(dataset, labels, seed=0, overrides=(), precision='float32'):
    """Returns the TrialConfig that corrects labels.

    Args:
        dataset (Dataset): The images, ``N`` of them.
        labels (numpy.ndarray): As given, ``(N,)``, int32.
        seed (int): Drives every random choice.
        overrides (sequence of str): ``key=value`` over the preset.
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.

    Raises:
        ConfigError: Fewer than four images, or an override that does not exist.
    """
    count = len(dataset.train)
    if count < 4:
        raise ConfigError(
            'there are too few images to train on', seen=f'{count}', fix='bring more of them'
        )
    held = max(1, count // HELD_OUT)
    n, (least, largest) = count - held, BATCH_SIZES
    sizes = {
        'train_images': n,
        'validation_images': held,
        'batch_size': min(n, max(least, min(largest, n // STEPS))),
    }
    sizes = [f'common.{name}={size}' for name, size in sizes.items()]
    # With other answers of a human the same labels are another trial.
    known = [] if dataset.known is None else [dataset.known]
    digest = store.digest(labels, *known)
    described = settings(seed, [*sizes, *overrides], precision, digest)
    # These images are in no list of data sets; everything else in a configuration applies to them.
    return replace(described, dataset=dataset.name)


def seconds(described, dataset, labels, where, steps=3):
    """Returns about how many seconds a trial takes on this machine, measured on a few updates.

    Args:
        described (TrialConfig), dataset (Dataset), labels (numpy.ndarray): As for :func:`run`.
        where (Machine): Where it is to run.
        steps (int): How many updates of each stage are measured.
    """
    threads = where.threads or machine.threads()
    with backends.using_threads(threads):
        data = trial_data.prepare(dataset, described, labels)
        assembly, total = assemble(described, data, where), 0.0
        per_epoch = -(-len(data.train) // described.common['batch_size'])
        bound = backends.binding_threads(assembly.device.name, threads)
        with bound, chainer.using_config('type_check', False):
            for stage, settings in described.stages.items():
                updater = assembly.updater(stage)
                # The first chooses kernels and captures the step.
                took = [_took(updater.update, assembly.device) for _ in range(1 + steps)][1:]
                updater.iterator.finalize()
                updater.finalize()
                evaluated = _took(assembly.evaluators[0].evaluate, assembly.device)
                total += settings['epochs'] * (per_epoch * float(np.median(took)) + evaluated)
    return total


def _took(function, device):
    begun = time.monotonic()
    function()
    if device.xp is not np:
        device.xp.cuda.Device().synchronize()
    return time.monotonic() - begun


def run(described, dataset, labels, where, observer):
    """Trains, or reads what was trained, and returns what is to be said of every image.

    Args:
        described (TrialConfig): As :func:`describe` returned it.
        dataset (Dataset): The images.
        labels (numpy.ndarray): As given, ``(N,)``, int32.
        where (Machine): The trial's folder is in its ``out``; called again, it goes on there.
        observer (Observer): Told of every epoch.

    Raises:
        ChainerJoError: As :func:`chainer_jo.training.trial.run`.
    """
    result = trial.run(described, where, observer, labels, dataset)
    folder = where.out / 'runs' / described.trial
    made = assemble(described, trial_data.prepare(dataset, described, labels), where)
    state.restore(made.method.net, store.read_arrays(folder / 'model.arrays'))
    host, source = chainer.get_device('@numpy'), dataset.train
    everything = trial_data.Part(source, None, labels)
    f = evaluation.outputs(made.method, images.of(everything, made.train.mean, made.device))
    probabilities = host.send(f)
    _, _, index = load_noise(folder / 'noisy_labels.arrays')
    y = store.read_arrays(folder / 'labels.arrays')['y']
    probabilities[index] = (probabilities[index] + y) / 2
    held_out = np.ones(len(source), bool)
    held_out[index] = False
    net = SavedNet(
        made.method.net,
        host.send(made.train.mean),
        {
            'classes': list(dataset.classes),
            'settings': described.net,
            'precision': described.precision,
            'trial': described.trial,
            'data': dataset.digest,
        },
    )
    return Corrected(probabilities, held_out, result, net)
