"""The trials of a table, which of them are done, and how long the rest will take."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from chainer_jo import config, paper


@dataclass(frozen=True)
class Cell:
    """One trial of a table.

    Attributes:
        config (TrialConfig): The trial.
        state (str): ``done``, ``begun`` or ``to do``.
        epochs_done (int): Epochs in its log.
        seconds (float): Training time of the whole trial, measured on it or, per epoch, on others
            of its method in the same folder; ``None`` where nothing was measured.
    """

    config: config.TrialConfig
    state: str
    epochs_done: int
    seconds: float | None

    def as_dict(self):
        """Returns the row of ``plan --json``."""
        return {
            'trial': self.config.trial,
            'state': self.state,
            'epochs': self.config.epochs,
            'seconds': self.seconds,
        }


def trials(table, preset, only=None, rates=None, count=None, overrides=(), precision='float32'):
    """Returns the TrialConfigs of a table, in the order of its rows.

    Args:
        only (sequence of str): Methods to run; default those of the preset.
        rates (sequence of float): Noise rates instead of the table's.
        count (int): Trials a cell instead of the table's.

    Raises:
        ConfigError: A name, rate or override is wrong.
    """
    grid = paper.grid(table, preset)
    known = grid['methods'] + grid['others']
    for method in only or ():
        if method not in known:
            raise paper.unknown(f'method of {table}', method, known)
    methods = [method for method in known if method in only] if only else grid['methods']
    columns = paper.columns(grid)
    if rates and isinstance(grid['noise'], str):
        columns = [(grid['noise'], rate) for rate in rates]
    elif rates:
        columns = [column for column in columns if column[1] in rates]
    variants = [[], *grid.get('variants', [])]

    def makes_sense(method, rate):
        changed = any(override.startswith(f'{method}.') for override in overrides)
        return changed or [method, rate] not in grid.get('without', [])

    return [
        config.trial(
            method,
            grid['dataset'],
            noise,
            rate,
            seed,
            preset,
            [*variant, *overrides],
            precision,
        )
        for variant in variants
        for method in methods
        for noise, rate in columns
        if makes_sense(method, rate)
        for seed in range(count or grid['trials'])
    ]


def cells(configs, out):
    """Returns a :class:`Cell` for every TrialConfig, by what lies under ``out``."""
    folders = [Path(out) / 'runs' / trial.trial for trial in configs]
    logs = [_log_seconds(folder) for folder in folders]
    pace = {}
    for trial, seconds in zip(configs, logs, strict=True):
        pace.setdefault(trial.method, []).extend(seconds)
    return [
        Cell(trial, _state(folder), len(log), _total(trial, log, pace[trial.method]))
        for trial, folder, log in zip(configs, folders, logs, strict=True)
    ]


def _state(folder):
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


def summary(cells):
    """Returns one line: how many trials are done, and how long the others take one by one."""
    count = Counter(cell.state for cell in cells)
    line = (
        f'{len(cells)} trials: {count["done"]} done, {count["begun"]} begun, {count["to do"]} to do'
    )
    left = [cell for cell in cells if cell.state != 'done']
    if left and all(cell.seconds is not None for cell in left):
        seconds = sum(c.seconds * (1 - c.epochs_done / c.config.epochs) for c in left)
        line += f', about {timedelta(seconds=round(seconds))} of training left'
    return line


def as_text(cells):
    """Returns a line a trial and the summary."""
    lines = [
        f'{cell.state:6} {cell.epochs_done:4}/{cell.config.epochs} epochs  '
        f'{_pace(cell):>12}  {cell.config.trial}'
        for cell in cells
    ]
    return '\n'.join([*lines, summary(cells)])


def _pace(cell):
    if cell.seconds is None:
        return 'not measured'
    return f'{cell.seconds / cell.config.epochs:.1f} s/epoch'
