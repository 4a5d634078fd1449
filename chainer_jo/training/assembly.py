"""Builds a trial: the method, the data on the device, and the updater of each stage."""

from dataclasses import replace
from functools import partial

import chainer
import numpy as np

from chainer_jo import backends, methods, paper
from chainer_jo.datasets.streams import rng
from chainer_jo.links.resnet50 import ResNet50
from chainer_jo.training import device as devices
from chainer_jo.training import epoch_tables, images, nets, updaters
from chainer_jo.training.extensions import Evaluate
from chainer_jo.training.optimizer import MomentumSGD
from chainer_jo.training.processes import ALONE


def assemble(config, data, machine, weights=None):
    """Returns the :class:`Assembly` of a trial, and makes its device the current one.

    Args:
        config (TrialConfig): Method, net and settings.
        data (TrialData): The images and labels.
        machine (Machine): Device, backend, and whether steps are captured.
        weights (Weights): Initial weights of the net; see
            :func:`chainer_jo.training.nets.weights`.

    Raises:
        ConfigError: The device or the backend is not available.
    """
    ranks = machine.ranks or ALONE
    device = chainer.get_device(_device(machine, ranks))
    device.use()
    ranks.connect(device)
    # Communication between processes cannot be part of a CUDA graph.
    captures = machine.graph and ranks.size == 1
    capturer = backends.capturer(device.name) if captures else None
    return Assembly(config, data, device, capturer, weights, ranks)


def _device(machine, ranks):
    name = devices.choose(machine.device, machine.backend)
    if ranks.size == 1 or name == '@numpy':
        return name
    devices.check_shared(machine.device, ranks.size)
    return devices.of_rank(ranks.local_rank, ranks.local_size)


class Assembly:
    """The parts of a trial, ready to train; made by :func:`assemble`.

    Attributes:
        device (chainer.Device): The device that trains.
        capturer (callable): Captures training steps, see :func:`chainer_jo.backends.capturer`;
            ``None`` if they are not captured.
        ranks (Alone or Ranks): The processes that train the trial together.
        method (Method): The method, with the initial weights and the noisy labels, on the device.
        train (ResidentImages or StreamedImages): The training images.
        true_labels (array): Their true labels, ``(n,)``, int32, on the device, or ``None``.
        evaluators (list of Evaluate): ``validation``, and ``test`` if there is a test set.
    """

    def __init__(self, config, data, device, capturer, weights, ranks):
        self.config, self.device, self.capturer, self.ranks = config, device, capturer, ranks
        self._shape, self._n_class, self._weights = data.train.source.shape, data.n_class, weights
        self._margin, self._given_labels = data.train.source.margin, data.train.labels
        net = self.net('init')
        # A mean per channel is expanded to an image, the only shape that the kernels take.
        mean = np.array(np.broadcast_to(_mean(net, data), self._shape), 'f')
        self.method = ranks.share_labels(lambda: _method(config, net, data).to_device(device))
        self.method.gather = ranks.gather
        if ranks.size > 1:
            self.method.mean = ranks.mean
        self.train = images.of(data.train, mean, device)
        self.true_labels = None if data.true_labels is None else device.send(data.true_labels)
        parts = {'validation': data.validation, 'test': data.test}
        self.evaluators = [
            self._evaluate(name, part, mean) for name, part in parts.items() if part is not None
        ]

    def _evaluate(self, name, part, mean):
        # Each rank evaluates its share of the images, and the hits are summed.
        own = self.ranks.share(len(part))
        part = replace(part, index=part.places(own), labels=part.labels[own])
        labels = self.device.send(part.labels)
        shown = images.of(part, mean, self.device)
        return Evaluate(name, shown, labels, self.method, self.ranks.total)

    def net(self, purpose):
        """Returns a net on the host, with initial weights drawn for ``purpose``."""
        config, random = self.config, rng(self.config.seed, purpose)
        return nets.build(
            config.net, self._shape, self._n_class, config.precision, self._weights, random
        )

    def updater(self, stage):
        """Sets the method to the stage named ``stage``, and returns a new updater for it."""
        common, names = self.config.common, paper.updaters(self.config.method, stage)
        self.method.begin(stage)
        # A new optimizer for each stage, so that its momentum starts at 0 (D-16).
        optimizer = MomentumSGD(common['momentum'], common['weight_decay']).setup(self.method)
        draw = partial(self._draw, stage, 'mix_up' in names)
        # `epoch` counts from 0 in each stage, so its tables do not depend on the length of others.
        n = epoch_tables.images_per_epoch(len(self.train), common)
        iterator = self.train.iterate(
            draw, common['batch_size'], common['pad'], self.device, n, self.ranks.size
        )
        return updaters.kind(names)(iterator, optimizer, self.capturer, self.ranks)

    def start_anew(self, stage):
        """Gives the method's net new initial weights, for a stage that starts with a fresh net."""
        # Copied, with the running statistics of batch normalisation: a new Link would have other
        # addresses, and the optimizer is set up with the old one.
        self.method.net.copyparams(self.net(f'init/{stage}').to_device(self.device))

    def _draw(self, stage, mixes, epoch):
        config, settings = self.config, self.config.stages[stage]
        mixing = {'a': settings['a'], 'per': settings['mix_lambda']} if mixes else None
        drawn = epoch_tables.draw(
            config.seed,
            stage,
            epoch,
            len(self.train),
            config.common,
            self._margin,
            mixing,
            self._given_labels,
        )
        return drawn if self.ranks.size == 1 else drawn.part(self.ranks.rank, self.ranks.size)


def _method(config, net, data):
    kind = methods.load(config.method)
    method = kind(net, data.train.labels, data.n_class, config.stages, data.T)
    if data.known is not None:
        method.labels.pin(data.known)
    return method


def _mean(net, data):
    """Returns the mean to subtract from images: that of the net, the data set or the split."""
    if isinstance(net, ResNet50):
        return net.mean
    # From the training split alone: evaluation images do not influence the net (D-25).
    return images.pixel_mean(data.train) if data.mean is None else data.mean
