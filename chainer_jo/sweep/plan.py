"""The trials of a table, which of them are done, and how long the rest will take."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from chainer_jo import config, paper, store
from chainer_jo.errors import ConfigError, DataError, WriteError


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a table, and how far it is.

    Attributes:
        config (TrialConfig): The trial.
        state (str): ``done``, ``begun``, ``to do``, or ``damaged``: done, and altered since.
        epochs_done (int): Epochs in its log.
        seconds (float): Training time of the whole trial, measured on it or, per epoch, on others
            of its method in the same folder; ``None`` where nothing was measured.
        problem (str): What is wrong with a damaged one, else ``None``.
    """

    config: config.TrialConfig
    state: str
    epochs_done: int
    seconds: float | None
    problem: str | None = None

    def as_dict(self):
        """Returns the row of ``plan --json``."""
        return {
            'trial': self.config.trial,
            'state': self.state,
            'epochs': self.config.epochs,
            'seconds': self.seconds,
        }


def trials(
    table,
    preset,
    only=None,
    rates=None,
    count=None,
    overrides=(),
    precision='float32',
    labels=None,
):
    """Returns the TrialConfigs of a table, in the order of its rows.

    Args:
        only (sequence of str): Methods to run; default those of the preset.
        rates (sequence of float): Those of the table's noise rates to run; default all.
        count (int): Trials a cell instead of the table's.
        labels (dict): What :func:`chainer_jo.sweep.label_sets.read` returned, for a table of
            sets of labels; a set that is not in it is left out.

    Raises:
        ConfigError: A name, rate or override is wrong, or there is no trial left.
    """
    grid = paper.grid(table, preset)
    configs = [
        config.trial(
            method,
            grid['dataset'],
            # A column may name a set of labels besides: file:<its name>.
            noise.partition(':')[0],
            rate,
            seed,
            preset,
            [*variant, *overrides],
            precision,
            *(labels or {}).get(noise, ()),
        )
        for variant in [[], *grid.get('variants', [])]
        for method in _methods(grid, table, only)
        for noise, rate in _columns(grid, table, preset, rates)
        if labels is None or noise in labels
        if _makes_sense(grid, method, rate, overrides)
        for seed in range(count or grid['trials'])
    ]
    if not configs:
        left_out = ', '.join(
            f'{method} at rate {rate:g}' for method, rate in grid.get('without', [])
        )
        raise ConfigError(
            'no trial is left to run', seen=f'{table} leaves out {left_out}', fix='choose others'
        )
    # An override of another method leaves a trial as it is.
    return list({config.trial: config for config in configs}.values())


def _methods(grid, table, only):
    known = grid['methods'] + grid['others']
    for method in only or ():
        if method not in known:
            raise paper.unknown(f'method of {table}', method, known)
    return [method for method in known if method in only] if only else grid['methods']


def _columns(grid, table, preset, rates):
    """The columns of the rates; what a report has no column for is not trained."""
    columns = paper.columns(grid)
    known = grid['rates']
    for rate in rates or ():
        if rate in known:
            continue
        config.check_rate(rate)
        if known == [None]:
            seen, fix = 'the labels are those of the data set', 'leave out --rates'
        else:
            seen = f'its rates are {", ".join(f"{other:g}" for other in known)}'
            fix = f'choose among them, or train single trials: train --rate {rate:g}'
        raise ConfigError(f'{table} of preset {preset} has no rate {rate:g}', seen=seen, fix=fix)
    return [column for column in columns if column[1] in rates] if rates else columns


def _makes_sense(grid, method, rate, overrides):
    changed = any(override.startswith(f'{method}.') for override in overrides)
    return changed or [method, rate] not in grid.get('without', [])


def planned(configs, out):
    """Returns a :class:`PlannedTrial` for every TrialConfig, by what lies under ``out``."""
    folders = [Path(out) / 'runs' / trial.trial for trial in configs]
    problems = [_problem(folder) for folder in folders]
    logs = [
        [] if problem else _log_seconds(folder)
        for folder, problem in zip(folders, problems, strict=True)
    ]
    pace = {}
    for trial, seconds in zip(configs, logs, strict=True):
        pace.setdefault(trial.method, []).extend(seconds)
    states = [_state(*found) for found in zip(folders, problems, strict=True)]
    totals = [_total(t, log, pace[t.method]) for t, log in zip(configs, logs, strict=True)]
    return list(map(PlannedTrial, configs, states, map(len, logs), totals, problems))


def _problem(folder):
    """Returns what is wrong with the files of a finished trial, or ``None``."""
    try:
        if (folder / 'result.json').exists():
            result = store.read_sealed(folder / 'result.json')
            if log := result.get('digests', {}).get('log'):
                store.check_sha256(folder / 'log.jsonl', log)
    except (DataError, WriteError) as error:
        return f'{error.problem}: {error.seen}'
    return None


def _state(folder, problem):
    if problem:
        return 'damaged'
    if (folder / 'result.json').exists():
        return 'done'
    return 'begun' if (folder / 'config.json').exists() else 'to do'


def _log_seconds(folder):
    try:
        lines = (folder / 'log.jsonl').read_text().splitlines()
        return [json.loads(line)['seconds'] for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _total(trial, log, others):
    seconds = log or others
    return round(median(seconds) * trial.epochs, 1) if seconds else None


def summary(trials):
    """Returns one line: how many trials are done, and how long the others take one by one."""
    count = Counter(trial.state for trial in trials)
    states = ', '.join(f'{count[state]} {state}' for state in ('done', 'begun', 'to do'))
    states += f', {count["damaged"]} damaged' if count['damaged'] else ''
    line = f'{len(trials)} trials: {states}'
    left = [trial for trial in trials if trial.state in ('begun', 'to do')]
    if left and all(trial.seconds is not None for trial in left):
        seconds = sum(t.seconds * (1 - t.epochs_done / t.config.epochs) for t in left)
        line += f', about {timedelta(seconds=round(seconds))} of training left'
    return line


def as_text(trials):
    """Returns a line a trial and the summary."""
    lines = [
        f'{trial.state:7} {trial.epochs_done:4}/{trial.config.epochs} epochs  '
        f'{_pace(trial):>12}  {trial.config.trial}'
        for trial in trials
    ]
    return '\n'.join([*lines, summary(trials)])


def _pace(trial):
    if trial.seconds is None:
        return 'not measured'
    return f'{trial.seconds / trial.config.epochs:.1f} s/epoch'
