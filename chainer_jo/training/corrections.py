"""The paper's method on a user's own images, to find and correct their wrong labels.

There are no true labels, no known noise rate and no test set. Some images are held out; accuracy on
their labels, of which some are wrong, shows the progress of training.
"""

import time
from dataclasses import dataclass, replace

import chainer
import numpy as np

from chainer_jo import backends, config, datasets, store
from chainer_jo.datasets.split import validation_size
from chainer_jo.errors import ConfigError
from chainer_jo.training import data as trial_data
from chainer_jo.training import evaluation, finished, images, machine, trial
from chainer_jo.training.assembly import assemble
from chainer_jo.training.saved_net import SavedNet

PRESET = 'correct'
#: Least and largest batch size. Small sets get small batches, so that an epoch has :data:`STEPS`
#: steps. With fewer steps the net learns too little, and damages more labels than it corrects.
BATCH_SIZES = (16, 64)
STEPS = 30


@dataclass(eq=False)
class Corrected:
    """What :func:`run` returns.

    Attributes:
        probabilities (numpy.ndarray): Class probabilities of every image, ``(N, C)``, float32,
            rows that sum to 1: the mean of the corrected soft label and the net's output, or the
            output alone for held-out images.
        held_out (numpy.ndarray): Which images were held out, ``(N,)``, bool.
        result (dict): The content of ``result.json``.
        net (SavedNet): The net after the last epoch.
    """

    probabilities: np.ndarray
    held_out: np.ndarray
    result: dict
    net: SavedNet


def settings(seed=0, overrides=(), precision='float32', labels=None):
    """Returns the TrialConfig of :func:`describe` before the data set's sizes are filled in."""
    known = datasets.NAMES[0]
    described = config.trial(
        'ours', known, 'file', None, seed, PRESET, overrides, precision, labels=labels
    )
    if link := described.net.get('link'):
        raise ConfigError(
            'labels are corrected with a PreAct ResNet only',
            seen=f'net.link={link}',
            fix='leave it out; net.filters and net.blocks change the size of the net',
        )
    return described


def describe(dataset, labels, seed=0, overrides=(), precision='float32'):
    """Returns the TrialConfig that corrects labels.

    Args:
        dataset (Dataset): The images, ``N`` of them.
        labels (numpy.ndarray): The given labels, ``(N,)``, int32.
        seed (int): Seed of every random choice.
        overrides (sequence of str): Settings ``key=value`` that replace those of the preset.
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.

    Raises:
        ConfigError: There are fewer than four images, or an override names no setting.
    """
    count = len(dataset.train)
    if count < 4:
        raise ConfigError(
            'there are too few images to train on', seen=f'{count}', fix='provide at least four'
        )
    held = validation_size(count)
    n, (least, largest) = count - held, BATCH_SIZES
    sizes = {
        'train_images': n,
        'validation_images': held,
        'batch_size': min(n, max(least, min(largest, n // STEPS))),
    }
    sizes = [f'common.{name}={size}' for name, size in sizes.items()]
    # Which labels were reviewed changes the training, so it enters the trial's id. So do the
    # images: if some were replaced, the same command has to train again and keep the answers.
    known = [] if dataset.known is None else [dataset.known]
    digest = store.digest(dataset.digest, labels, *known)
    described = settings(seed, [*sizes, *overrides], precision, digest)
    # The user's images are not a named data set; all other settings apply to them.
    return replace(described, dataset=dataset.name)


def seconds(described, dataset, labels, where, steps=3):
    """Estimates the seconds that a trial takes on this machine, from a few updates.

    Args:
        described (TrialConfig), dataset (Dataset), labels (numpy.ndarray): As for :func:`run`.
        where (Machine): The machine that would run it.
        steps (int): Number of measured updates per stage.
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
                # The first update is left out: it chooses kernels and captures the step.
                took = [_took(updater.update, assembly.device) for _ in range(1 + steps)][1:]
                updater.iterator.finalize()
                updater.finalize()
                evaluated = _took(assembly.evaluators[0], assembly.device)
                total += settings['epochs'] * (per_epoch * float(np.median(took)) + evaluated)
    return total


def _took(function, device):
    begun = time.monotonic()
    function()
    if device.xp is not np:
        device.xp.cuda.Device().synchronize()
    return time.monotonic() - begun


def run(described, dataset, labels, where, observer):
    """Trains the trial, or reads it if it is done, and returns a :class:`Corrected`.

    Args:
        described (TrialConfig): As :func:`describe` returned it.
        dataset (Dataset): The images.
        labels (numpy.ndarray): The given labels, ``(N,)``, int32.
        where (Machine): Its ``out`` has the trial's folder, from which an interrupted trial
            resumes.
        observer (Observer): Called with every epoch.

    Raises:
        ChainerJoError: As for :func:`chainer_jo.training.trial.run`.
    """
    result = trial.run(described, where, observer, labels, dataset)
    trained = finished.read(described, where, dataset, labels)
    everything = trial_data.Part(dataset.train, None, labels)
    pictures = images.of(everything, trained.mean, trained.method.device)
    f = evaluation.outputs(trained.method, pictures)
    probabilities = chainer.get_device('@numpy').send(f)
    probabilities[trained.index] = (probabilities[trained.index] + trained.y) / 2
    held_out = np.ones(len(labels), bool)
    held_out[trained.index] = False
    net = SavedNet(
        trained.method.net,
        trained.mean,
        {
            'classes': list(dataset.classes),
            'settings': described.net,
            'precision': described.precision,
            'trial': described.trial,
            'data': dataset.digest,
        },
    )
    return Corrected(probabilities, held_out, result, net)
