"""Seconds per epoch, as measured on this device, and the time of a whole table from them."""

import contextlib
import json
import re
from statistics import median

from chainer_jo import paper
from chainer_jo.training import machine

MOST_SECONDS = 1e7  # Of an epoch; a longer one is a damaged log.
LOGS = 3  # Logs read for each kind of stage: more add nothing, and a thousand take long to read.


class Paces:
    """Seconds per epoch by kind of stage, from logs of trials on this machine.

    Args:
        device (str): ``cpu``, ``cuda:N``, or ``auto``: a GPU if one was measured, else the CPU.
        threads (int): Number of threads on a CPU; logs with another number are ignored.
        backend (str): ``chainer``, or ``auto`` for the fastest that was measured.
        processes (int): Processes of a trial.
    """

    def __init__(self, device, threads, backend='auto', processes=1):
        self._device, self._threads = device, threads
        self._backend, self._processes = backend, processes
        self._processor = machine.processor()['processor']
        self._measured = {}

    def wants(self, config):
        """Returns whether another log of a trial of this kind is needed."""
        kinds = [_kind(config, stage) for stage in config.stages]
        return any(len(self._measured.get(kind, ())) < LOGS for kind in kinds)

    def add(self, config, places, log):
        """Adds the times of a trial if it was trained entirely on one device of this machine.

        Args:
            config (TrialConfig): The trial.
            places (list of dict): ``device``, ``processor``, ``threads``, ``backend`` and
                ``processes`` (1 if it is missing), each time it was begun or resumed.
            log (bytes): Content of its ``log.jsonl``.
        """
        # Both may have been edited, and have any form: such logs are ignored.
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            # Raises ValueError, which is ignored, if there were several.
            (where,) = {self._here(place) for place in places}
            by_stage = {stage: [] for stage in config.stages}
            for row in map(json.loads, log.splitlines()):
                if not 0 <= row['seconds'] < MOST_SECONDS:
                    return
                by_stage[row['stage']].append(round(row['seconds'], 3))
            for stage, seconds in by_stage.items():
                if seconds and where:
                    kind = _kind(config, stage)
                    # The median ignores epochs in which another program slowed the machine.
                    self._measured.setdefault(kind, []).append((*where, median(seconds)))

    def _here(self, place):
        """Returns device and backend of a place, or ``None``.

        It is ``None`` if the place is not this machine, or not what was asked for.
        """
        device, processes = str(place['device']), place.get('processes', 1)
        # A result has the backend with its version and why it was chosen.
        backend = str(place['backend']).partition(' ')[0]
        known = re.fullmatch('@numpy|@cupy:[0-9]+', device)
        own = place['processor'] == self._processor
        same = device != '@numpy' or place['threads'] == self._threads
        asked = self._backend in ('auto', backend) and processes == self._processes
        return (device, backend) if known and own and same and asked else None

    @property
    def device(self):
        """Chainer's name of the device whose times are used."""
        if self._device == 'auto':
            gpus = {d for seen in self._measured.values() for d, *_ in seen if d != '@numpy'}
            return min(gpus, default='@numpy')
        return self._device.replace('cuda', '@cupy').replace('cpu', '@numpy')

    @property
    def place(self):
        """A description of the device."""
        if self.device != '@numpy':
            return self.device.replace('@cupy', 'cuda')
        plural = '' if self._threads == 1 else 's'
        return f'CPU, {self._processor}, {self._threads} thread{plural}'

    def of_stage(self, config, stage):
        """Returns the seconds per epoch of a stage; ``None`` if not measured."""
        seen = {}
        for device, backend, seconds in self._measured.get(_kind(config, stage), ()):
            if device == self.device:
                seen.setdefault(backend, []).append(seconds)
        # Backends do not mix; `auto` chooses the fastest.
        return min(map(median, seen.values()), default=None)

    def of_trial(self, config):
        """Returns the seconds of all epochs of a trial, to a tenth; ``None`` if not measured."""
        epochs = {stage: settings['epochs'] for stage, settings in config.stages.items()}
        seconds = self.seconds(config, epochs)
        return None if seconds is None else round(seconds, 1)

    def seconds(self, config, epochs):
        """Returns the seconds of ``{stage: number of epochs}``; ``None`` if not measured."""
        paces = {stage: self.of_stage(config, stage) for stage, n in epochs.items() if n}
        if None in paces.values():
            return None
        return sum(paces[stage] * epochs[stage] for stage in paces)


def _kind(config, stage):
    """Returns a key of all settings that affect the time of a stage: no noise, seed or numbers."""
    # Words may select other code, such as mix_lambda; numbers such as a learning rate do not.
    words = {k: v for k, v in config.stages[stage].items() if isinstance(v, (str, bool))}
    return json.dumps(
        [config.dataset, config.precision, config.net, config.common, config.method, stage, words]
    )


def epochs_left(standings, ends, share=True):
    """Returns the epochs left of each unfinished trial, ``{stage: epochs}`` by trial id.

    A first stage that several trials share is counted for only one of them.

    Args:
        standings (list of Standing): All trials of a table.
        ends (bool): Whether the output folder has shared ends of first stages, for first stages
            that a trial has completed.
        share (bool): Whether trials share first stages at all.
    """
    first_stage = _first_stage if share else lambda config: config.trial
    at_hand = {
        first_stage(s.config)
        for s in standings
        if (ends if s.epochs_done >= _first_epochs(s.config) else s.epochs_done)
    }
    left = {}
    for standing in standings:
        if standing.state in ('done', 'damaged'):
            continue
        config, first = standing.config, first_stage(standing.config)
        taken = first in at_hand and not standing.epochs_done
        at_hand.add(first)
        left[config.trial] = _rest(config, _first_epochs(config) if taken else standing.epochs_done)
    return left


def _first_epochs(config):
    return next(iter(config.stages.values()))['epochs']


def _rest(config, done):
    rest = {}
    for stage, settings in config.stages.items():
        rest[stage] = max(0, settings['epochs'] - done)
        done = max(0, done - settings['epochs'])
    return rest


def _first_stage(config):
    """Returns a key that is equal for trials with the same first stage.

    It follows :mod:`chainer_jo.training.shared_stage`, whose digest needs Chainer and the data. A
    trial of one stage shares nothing.
    """
    if len(config.stages) == 1:
        return config.trial
    stage, settings = next(iter(config.stages.items()))
    updaters = paper.updaters(config.method, stage)
    # Methods with their own losses share nothing, even if their stages have the same name.
    method = None if 'label_correction' in updaters else config.method
    same = (config.dataset, config.noise, config.seed, config.common, config.net, config.precision)
    return json.dumps([*same, method, stage, settings, updaters])
