"""The state of each trial of a table, from the files in its folder."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from chainer_jo import store
from chainer_jo.config import TrialConfig
from chainer_jo.errors import DataError, WriteError, excerpt
from chainer_jo.training import failure

#: What ``config.json`` has beside the place of a trial, and a result among its environment.
HOW = ('threads', 'processes')


@dataclass(frozen=True)
class Standing:
    """The state of one trial of a table.

    Attributes:
        config (TrialConfig): The trial.
        state (str): ``done``; ``running``, in any process; ``failed``, at its last attempt;
            ``begun``; ``to do``; or ``damaged``: done, but altered since.
        epochs_done (int): Epochs in its log.
        detail (str): For ``running`` the process, ``pid N on HOST``; for ``failed`` the reason; for
            ``damaged`` the problem; else ``None``.
        bytes (int): Size of its files.
        made_from (dict): For ``done`` the digests of its ``data`` and ``weights``.
        seconds (float): Training time of the whole trial, from epochs of its kind measured on this
            device; ``None`` if nothing was measured.
    """

    config: TrialConfig
    state: str
    epochs_done: int = 0
    detail: str | None = None
    bytes: int = 0
    made_from: dict = field(default_factory=dict)
    seconds: float | None = None

    def as_dict(self):
        """Returns the row of ``plan --json``."""
        return {
            'trial': self.config.trial,
            'state': self.state,
            'epochs': self.config.epochs,
            'seconds': self.seconds,
        }


def of(configs, out, paces):
    """Returns a :class:`Standing` for every TrialConfig, by the files in ``out``.

    Args:
        configs (list of TrialConfig): The trials.
        out (path): The output folder.
        paces (Paces): Collects the times of the epochs found.
    """
    found = [_look(config, Path(out) / 'runs' / config.trial, paces) for config in configs]
    # In a second pass: the time of a trial also comes from others of its kind.
    return [Standing(**facts, seconds=paces.of_trial(facts['config'])) for facts in found]


def _look(config, folder, paces):
    """Returns the fields of a Standing except its time, which needs the logs of all trials."""
    sizes = _sizes(folder)
    facts = {'config': config, 'bytes': sum(sizes.values())}
    if 'result.json' in sizes:
        return facts | _look_at_result(config, folder, paces)
    log = _content(folder / 'log.jsonl') if 'log.jsonl' in sizes else b''
    facts['epochs_done'] = log.count(b'\n')
    if log and paces.wants(config):
        paces.add(config, _places(folder / 'config.json'), log)
    # `.holder` first: it costs no lock, and most trials have none.
    if '.holder' in sizes and (holder := store.holder(folder)):
        return facts | {'state': 'running', 'detail': excerpt(holder)}
    if failure.NAME in sizes and (reason := failure.reason(folder)):
        return facts | {'state': 'failed', 'detail': reason}
    return facts | {'state': 'begun' if 'config.json' in sizes else 'to do'}


def _sizes(folder):
    sizes = {}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            # A running trial may rename a file at any moment.
            with contextlib.suppress(OSError):
                sizes[path.name] = path.lstat().st_size
    return sizes


def _look_at_result(config, folder, paces):
    try:
        result = store.read_sealed(folder / 'result.json')
        if result['trial'] != config.trial:
            return {'state': 'damaged', 'detail': f'it is the result of {result["trial"]}'}
        log = store.read_known(folder / 'log.jsonl', result['digests']['log'])
        made_from = {'data': result['data']['digest'], 'weights': result.get('weights')}
    except (DataError, WriteError) as error:
        return {'state': 'damaged', 'detail': f'{error.problem}: {error.seen}'}
    except (AttributeError, KeyError, TypeError):
        return {'state': 'damaged', 'detail': f'{folder}/result.json is not a result'}
    if paces.wants(config):
        paces.add(config, result.get('environments') or [result.get('environment')], log)
    return {'state': 'done', 'epochs_done': log.count(b'\n'), 'made_from': made_from}


def _content(path):
    with contextlib.suppress(DataError, WriteError):
        return store.read_regular(path, most=store.MOST_LOG)
    return b''


def _places(path):
    """Returns where an unfinished trial trains, as a shorter form of a result's environments."""
    with contextlib.suppress(DataError, WriteError, KeyError, TypeError):
        begun = store.read_sealed(path)
        return [begun['place'] | {name: begun[name] for name in HOW if name in begun}]
    return []
