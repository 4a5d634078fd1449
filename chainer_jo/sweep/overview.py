"""An overview of a table: trials done and left in each cell, with time and disk space."""

import os
import shutil
from collections import Counter
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from statistics import median

from chainer_jo import paper
from chainer_jo.errors import count_of
from chainer_jo.sweep import local, pace, standing
from chainer_jo.training.machine import SHARED

COUNTED = ('done', 'running', 'failed', 'begun', 'to do')
WORDS = ('method', 'noise', 'rate', 'set')


class Overview:
    """The state of the trials of a table, and the work that is left.

    Args:
        configs (list of TrialConfig): The trials.
        out (path): The output folder.
        device (str): Device whose measured times are used: ``cpu``, ``cuda:N``, or ``auto`` for a
            GPU if one was measured.
        threads (int): Number of threads of the times used, on a CPU.
        backend (str), processes (int): As for :class:`chainer_jo.sweep.pace.Paces`.
        share (bool): Whether trials share first stages.

    Attributes:
        trials (list of Standing): The state of each trial.
    """

    def __init__(
        self, configs, out, device='auto', threads=1, backend='auto', processes=1, share=True
    ):
        self._out = Path(out)
        self._paces = pace.Paces(device, threads, backend, processes)
        # Several processes of a trial take no part in the sharing.
        self._threads, self._share = threads, share and processes == 1
        self.trials = standing.of(configs, out, self._paces)

    @cached_property
    def epochs_left(self):
        """The epochs that each trial has left, ``{stage: epochs}`` by trial id."""
        shared = self._out / SHARED
        ends = os.path.isdir(shared) and any(shared.glob('*.arrays'))
        return pace.epochs_left(self.trials, ends, self._share)

    @cached_property
    def seconds_left(self):
        """The seconds of training that each trial has left by trial id; ``None`` if unknown."""
        return {
            trial.config.trial: self._paces.seconds(
                trial.config, self.epochs_left[trial.config.trial]
            )
            for trial in self.trials
            if trial.config.trial in self.epochs_left
        }

    def work_left(self):
        """Returns the work left by trial id, in seconds; in epochs if any time is unknown."""
        if None not in self.seconds_left.values():
            return self.seconds_left
        return {trial: sum(epochs.values()) for trial, epochs in self.epochs_left.items()}

    def summary(self):
        """Returns one line: the number of trials in each state, and the training time left."""
        left = list(self.seconds_left.values())
        known = left and None not in left
        return self._states() + (f', about {_time(sum(left))} of training left' if known else '')

    def _states(self):
        count = Counter(trial.state for trial in self.trials)
        states = [f'{count[state]} {state}' for state in ('done', 'begun', 'to do')]
        states += [f'{count[s]} {s}' for s in ('running', 'failed', 'damaged') if count[s]]
        return f'{count_of(len(self.trials), "trial")}: {", ".join(states)}'

    def as_text(self):
        """Returns text: one row per cell, running and failed trials, and totals with the time."""
        trials = [
            f'{trial.state:8} {trial.config.trial}: {trial.detail}'
            + (f', {trial.epochs_done}/{trial.config.epochs} epochs' * (trial.state == 'running'))
            for trial in self.trials
            if trial.state in ('running', 'failed', 'damaged')
        ]
        whole = [self._states(), f'time     {self._time()}', f'disk     {self._disk()}']
        return '\n'.join([*self._cells(), *trials, *whole])

    def _cells(self):
        cells = {}
        for trial in self.trials:
            config = trial.config
            noise, rate = paper.column({'noise': config.noise, 'labels_file': config.labels_file})
            key = (config.method, noise, '' if rate is None else f'{rate:g}')
            cells.setdefault((*key, ' '.join(config.modified)), []).append(trial)
        counted = COUNTED + ('damaged',) * any(trial.state == 'damaged' for trial in self.trials)
        rows = [(*WORDS, *counted, 's/epoch')]
        for key, trials in cells.items():
            count = Counter(trial.state for trial in trials)
            rows.append((*key, *(str(count[s] or '-') for s in counted), _pace(trials[0])))
        # Columns without any entry are left out: most tables have no column of settings.
        kept = [place for place, column in enumerate(zip(*rows[1:], strict=True)) if any(column)]
        return _aligned([[row[place] for place in kept] for row in rows])

    def _time(self):
        known = [seconds for seconds in self.seconds_left.values() if seconds is not None]
        unknown = len(self.seconds_left) - len(known)
        if not self.seconds_left:
            return 'no training left'
        if not known:
            return f'unknown until an epoch of each stage has run on {self._paces.place}'
        text = f'{_time(sum(known))} of training left'
        side_by_side = min(local.default_jobs(self._paces.device, self._threads), len(known))
        if side_by_side > 1:
            # The longest trial is a lower bound, because no trial can be divided.
            wall = max(sum(known) / side_by_side, *known)
            text += f', {_time(wall)} with {side_by_side} trials side by side'
        text += f', as measured on {self._paces.place}'
        text += '; shared first stages count once' if self._share else ''
        without = count_of(unknown, 'trial')
        return text + (f'; without {without} of kinds not measured' if unknown else '')

    def _disk(self):
        now = sum(trial.bytes for trial in self.trials)
        text = f'{_megabytes(now)} now'
        done, others = {}, []
        for trial in self.trials:
            if trial.state == 'done':
                done.setdefault(_size(trial.config), []).append(trial.bytes)
            # A damaged trial is not trained again, so its size stays.
            elif trial.state != 'damaged':
                others.append(_size(trial.config))
        if others and all(size in done for size in others):
            kept = sum(trial.bytes for trial in self.trials if trial.state in ('done', 'damaged'))
            end = kept + sum(median(done[size]) for size in others)
            text += f', about {_megabytes(end)} when all is done'
        elif others:
            text += '; the final size is unknown, as no trial of this size is done'
        # The output folder may not exist yet: its nearest parent is on the same disk.
        there = next(path for path in (self._out, *self._out.absolute().parents) if path.exists())
        return f'{text}; {_megabytes(shutil.disk_usage(there).free)} free'


def _size(config):
    """Returns the settings that decide the disk space of a finished trial."""
    return config.dataset, str(config.net), config.common.get('train_images')


def _pace(trial):
    if trial.seconds is None:
        return 'not measured'
    return f'{trial.seconds / trial.config.epochs:.1f}'


def _aligned(rows):
    """Returns lines of aligned columns: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names = rows[0]
    return [
        '  '.join(
            f'{cell:<{width}}' if name in WORDS else f'{cell:>{width}}'
            for cell, width, name in zip(row, widths, names, strict=True)
        ).rstrip()
        for row in rows
    ]


def _time(seconds):
    return str(timedelta(seconds=round(seconds)))


def _megabytes(count):
    return f'{count / 1e6:,.1f} MB' if count < 1e9 else f'{count / 1e9:,.1f} GB'
