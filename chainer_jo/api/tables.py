"""Finished trials as rows, for a notebook or a data frame. Imports neither Chainer nor CuPy."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from chainer_jo import paper
from chainer_jo.api import checks
from chainer_jo.report import publish
from chainer_jo.report.collect import read_all


def table(
    name: str, preset: str = 'paper', out: str | PathLike[str] | None = None
) -> list[dict[str, Any]]:
    """Returns a table of the paper as ``report TABLE --json`` prints it: one row per cell.

    Args:
        name: A table that ``python -m chainer_jo report --help`` lists, such as ``'table2'``.
        preset: The preset of the grid and the settings.
        out: Folder of the trials; that of the command by default: ``results/<preset>``, or
            ``results/<preset>_<table>`` for a table of variants.

    Returns:
        Dicts with ``table, method, noise, rate, trials, best_mean, best_std, last_mean, last_std,
        label_accuracy_mean, paper_best, paper_last, modified``. Rates and accuracies are
        fractions. ``None`` means not run, not in the paper, or not known.

    Raises:
        ConfigError: There is no such table or preset, or ``out`` does not exist.

    >>> import chainer_jo
    >>> rows = chainer_jo.table('table2', 'quick', out='results/reference/quick')
    >>> [(r['method'], r['last_mean']) for r in rows if r['rate'] == 0.7][-1]
    ('ours', 0.798)
    """
    report = publish.read(
        name,
        preset,
        Path('results') / paper.folder(name, preset) if out is None else checks.folder(out),
    )
    _warn(report.unreadable)
    return report.rows


def results(out: str | PathLike[str]) -> list[dict[str, Any]]:
    """Returns the finished trials in a results folder: one row per trial, sorted by trial id.

    Args:
        out: The folder, such as ``results/quick`` or the ``out`` of :func:`chainer_jo.train`.

    Returns:
        Dicts with ``trial, method, dataset, variant, noise, rate, seed, preset, modified, wrong,
        best_test, last_test, best_validation, last_validation, label_accuracy, epochs, seconds``.
        Rates, accuracies and the share of wrong labels are fractions, and ``None`` where they are
        unknown; ``seconds`` is the training time.

    Raises:
        ConfigError: The folder does not exist.

    >>> import chainer_jo
    >>> rows = chainer_jo.results('results/reference/quick')
    >>> max(rows, key=lambda row: row['seed'])['preset']
    'quick'
    """
    found, unreadable = read_all(checks.folder(out))
    _warn(unreadable)
    return [_row(result) for result in found]


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Returns rows as a dict of columns, as ``pandas.DataFrame`` and others take it.

    >>> import chainer_jo
    >>> chainer_jo.columns([{'rate': 0.5, 'trials': 3}, {'rate': 0.7, 'trials': 1}])
    {'rate': [0.5, 0.7], 'trials': [3, 1]}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _row(result):
    config, best, last = result['config'], result['best'], result['last']
    return {
        'trial': result['trial'],
        'method': config['method'],
        'dataset': config['dataset'],
        'variant': result['data']['variant'],
        'noise': config['noise']['kind'],
        'rate': config['noise']['rate'],
        'seed': config['seed'],
        'preset': config['preset'],
        'modified': config['modified'],
        'wrong': result['noise']['wrong'],
        'best_test': best['test_accuracy'],
        'last_test': last['test_accuracy'],
        'best_validation': best['validation_accuracy'],
        'last_validation': last['validation_accuracy'],
        'label_accuracy': result['label_accuracy'],
        'epochs': result['epochs'],
        'seconds': result['times'].get('training_seconds'),
    }


def _warn(unreadable):
    for file in unreadable:
        warnings.warn(f'left out {file["path"]}: {file["problem"]}', stacklevel=3)
