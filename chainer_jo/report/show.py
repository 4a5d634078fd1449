"""One trial for people and programs: settings, command, result, the end of its log."""

import difflib
import json
from pathlib import Path

from chainer_jo import store
from chainer_jo.errors import ConfigError, excerpt
from chainer_jo.report.collect import read_log
from chainer_jo.report.markdown import percent

LAST_ROWS = 5


def show(out, trial, command):
    """Returns what is known of a trial, finished or not.

    Args:
        out (path): Output folder that holds ``runs``.
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
    done, begun = ((folder / f'{name}.json').exists() for name in ('result', 'config'))
    if not (done or begun):
        raise _unknown(out, trial)
    result = store.read_json(folder / 'result.json') if done else None
    # Of a trial that came with the repository there is only the result, which has it all.
    config = store.read_json(folder / 'config.json') if begun else result['config']
    return {
        'trial': trial,
        'state': 'done' if done else 'unfinished',
        'command': command(config),
        'config': config,
        'result': result,
        'log': read_log(folder)[-LAST_ROWS:] if (folder / 'log.jsonl').exists() else [],
    }


def _unknown(out, trial):
    runs = Path(out) / 'runs'
    files = [*runs.glob('*/config.json'), *runs.glob('*/result.json')]
    known = sorted({path.parent.name for path in files})
    near = difflib.get_close_matches(trial, known, n=3, cutoff=0.4)
    fix = f'did you mean {" or ".join(near)}?' if near else f'name one of the folders in {runs}'
    return ConfigError(
        f'no trial {excerpt(trial)!r} in {out}', seen=f'{len(known)} trials there', fix=fix
    )


def to_text(shown):
    """Returns what :func:`show` returned as plain text; accuracies in percent."""
    lines = [f'{shown["trial"]}: {shown["state"]}', '', f'  {shown["command"]}', '', 'config']
    lines += [f'  {key} = {value}' for key, value in _flat(shown['config'])]
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
        yield (
            f'  {which}: test {percent(row["test_accuracy"])} %, '
            f'validation {percent(row["validation_accuracy"])} %, epoch {row["epoch"]}'
        )
    if result['label_accuracy'] is not None:
        yield f'  correct labels: {percent(result["label_accuracy"])} %'
    for key in ('data', 'noise', 'environment', 'digests', 'times'):
        yield from (f'  {name} = {value}' for name, value in _flat(result[key], f'{key}.'))
