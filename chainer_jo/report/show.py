"""Shows one trial, as text or JSON: settings, command, result and the end of its log."""

import difflib
import json
import os
from pathlib import Path

from chainer_jo import store
from chainer_jo.errors import ConfigError, DataError, count_of, excerpt
from chainer_jo.report.collect import config_problem, read_log, read_result
from chainer_jo.report.data_notes import data_title
from chainer_jo.report.escape import plain
from chainer_jo.report.markdown import percent

LAST_ROWS = 5


def show(out, trial, command):
    """Returns all information on a trial, finished or not.

    Args:
        out (path): Output folder that contains ``runs``.
        trial (str): The trial id.
        command (callable): Maps the trial's configuration to its command.

    Returns:
        dict: ``trial``, ``state`` (``done`` or ``unfinished``), ``command``, ``config``, ``result``
        (``None`` while unfinished) and ``log``, the last rows of the log.

    Raises:
        ConfigError: There is no such trial.
        DataError: A file of the trial is damaged.
    """
    folder = Path(out) / 'runs' / trial
    done = (folder / 'result.json').exists()
    if not done and not (folder / 'config.json').exists():
        raise _unknown(out, trial)
    result = read_result(folder / 'result.json') if done else None
    # Committed trials have no config.json, but the result contains the configuration.
    config = result['config'] if done else _read_config(folder / 'config.json')
    return {
        'trial': trial,
        'state': 'done' if done else 'unfinished',
        'command': command(config),
        'config': config,
        'result': result,
        'log': read_log(folder, result)[-LAST_ROWS:] if (folder / 'log.jsonl').exists() else [],
    }


def _read_config(path):
    config, altered = store.read_unsealed(path)
    problem = config_problem(config) or altered
    if problem:
        raise DataError(
            f'{path} is damaged', seen=problem, fix='run the command of the trial again'
        )
    return config


def _unknown(out, trial):
    runs = Path(out) / 'runs'
    # Not Path.is_dir, which raises an error for a name that is too long.
    if not os.path.isdir(runs):
        return ConfigError(
            f'no trial {excerpt(trial)!r}',
            seen=f'no folder {excerpt(str(runs))}',
            fix='change to the folder in which the trial was run, or name the folder of the trial',
        )
    names = {path.parent.name for path in runs.glob('*/*.json')}
    # Folder names may contain any characters, and these go to a terminal.
    known = sorted(plain(name) for name in names)
    near = difflib.get_close_matches(trial, known, n=3, cutoff=0.4)
    fix = f'did you mean {" or ".join(near)}?' if near else f'name one of the folders in {runs}'
    seen = f'{count_of(len(known), "trial")} there'
    return ConfigError(f'no trial {excerpt(trial)!r} in {out}', seen=seen, fix=fix)


def to_text(shown):
    """Returns the result of :func:`show` as plain text, with accuracies in percent."""
    lines = [f'{shown["trial"]}: {shown["state"]}', '', f'  {shown["command"]}', '', 'config']
    lines += [f'  {plain(key)} = {value}' for key, value in _flat(shown['config'])]
    if shown['result']:
        lines += ['', 'result', *_result_lines(shown['result'])]
    if shown['log']:
        lines += ['', 'log', *(f'  {json.dumps(row)}' for row in shown['log'])]
    return '\n'.join(lines) + '\n'


def _flat(values, prefix=''):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield prefix + key, json.dumps(value)


def _result_lines(result):
    for which in ('best', 'last'):
        row = result[which]
        known = row['test_accuracy'] is not None
        test = f'test {percent(row["test_accuracy"])} %, ' if known else ''
        validation = f'validation {percent(row["validation_accuracy"])} %'
        yield f'  {which}: {test}{validation}, epoch {row["epoch"]}'
    if result['label_accuracy'] is not None:
        yield f'  correct labels: {percent(result["label_accuracy"])} %'
    yield f'  data: {data_title(result["data"])}'
    for key in ('data', 'noise', 'environment', 'digests', 'times'):
        yield from (f'  {name} = {value}' for name, value in _flat(result.get(key, {}), f'{key}.'))
