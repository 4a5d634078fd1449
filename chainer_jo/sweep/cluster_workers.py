"""The workers of a Dask cluster: which are present, and which may train."""

import importlib
import operator
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chainer_jo.errors import ChainerJoError, ConfigError
from chainer_jo.sweep import on_worker

ANSWER_SECONDS = 10.0  # Until a scheduler that does not answer counts as gone.
ASK_SECONDS = 1.0
AGAIN_SECONDS = 60.0  # Until a worker that was refused is examined again.


class RefusedError(ChainerJoError):
    """A worker may not train.

    Args:
        place (str): Name and address of the worker.
        reason (dict): See :func:`chainer_jo.sweep.on_worker.examine`.
    """

    def __init__(self, place, reason):
        super().__init__(
            f'worker {place} is refused: {reason["problem"]}',
            seen=reason['seen'],
            fix=reason['fix'],
        )
        self.exit_code = reason['exit_code']


@dataclass
class Worker:
    """One worker.

    Attributes:
        place (str): Name and address, for messages.
        host (str): The worker's host.
        cores (int): Number of tasks that it runs at a time.
        gpus (int): Its Dask resource ``GPU``.
        accepted (bool): Whether it may train.
        due (float): Time of its next examination, on the monotonic clock.
        examination (Future): The running examination, or ``None``.
        refusals (list of RefusedError): Refusals since it was last accepted.
    """

    place: str
    host: str
    cores: int
    gpus: int
    accepted: bool = False
    due: float = 0.0
    examination: Any = None
    refusals: list = field(default_factory=list)

    def slots(self, gpu):
        """Returns the number of trials that it trains at a time."""
        return self.gpus if gpu else self.cores


class Workers:
    """Tracks the workers of a cluster, and examines each before it trains.

    Args:
        client (distributed.Client): The connection to the scheduler.
        order (dict): Argument of :func:`chainer_jo.sweep.on_worker.examine`.
        say (callable): Called with messages for the user.

    Attributes:
        present (dict): :class:`Worker` by address.
    """

    def __init__(self, client, order, say):
        self._client, self._order, self._say = client, order, say
        self.present, self._due, self._examinations = {}, 0.0, 0

    @property
    def accepted(self):
        """The workers in :attr:`present` that may train."""
        return {address: worker for address, worker in self.present.items() if worker.accepted}

    def update(self):
        """Updates :attr:`present` and the results of examinations.

        Raises:
            OSError: The scheduler does not answer.
        """
        now = time.monotonic()
        if now >= self._due:
            self._due = now + ASK_SECONDS
            self._look()
        for address, worker in self.present.items():
            if worker.examination:
                if worker.examination.done():
                    self._judge(worker)
            elif not worker.accepted and now >= worker.due:
                self._examine(address, worker)

    def place(self, address):
        """Returns the name and address of a worker, for messages."""
        worker = self.present.get(address)
        return worker.place if worker else address or 'no worker'

    def doubt(self, address):
        """Has a worker on which a trial failed examined again before it gets another trial."""
        if worker := self.present.get(address):
            worker.accepted, worker.due = False, 0.0

    def hopeless(self):
        """Returns the RefusedError of a worker if all have been refused twice, else ``None``."""
        # Twice, because a mount or an installation may be completed meanwhile.
        if self.present and all(len(w.refusals) > 1 for w in self.present.values()):
            return next(iter(self.present.values())).refusals[-1]
        return None

    def per_host(self, gpu):
        """Returns the largest number of trials that one host trains at a time."""
        hosts = Counter()
        for worker in self.accepted.values():
            hosts[worker.host] += worker.slots(gpu)
        return max(hosts.values(), default=1)

    def _look(self):
        # Not Client.scheduler_info, which has no timeout and could wait forever.
        identity = self._client.sync(
            self._client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS
        )
        self.present = {
            address: self.present.get(address) or _worker(address, facts)
            for address, facts in identity['workers'].items()
        }

    def _examine(self, address, worker):
        # Only built-in types are sent: a worker dies if it cannot import what a task refers to.
        self._examinations += 1
        there = self._ask(importlib.import_module, on_worker.__name__, address)
        examine = operator.methodcaller('examine', self._order)
        worker.examination = self._ask(examine, there, address)

    def _ask(self, function, argument, address):
        name = getattr(function, '__name__', 'examine')
        key = f'{name}-{self._order["run"]}-{self._examinations}'
        return self._client.submit(function, argument, key=key, pure=False, workers=[address])

    def _judge(self, worker):
        examination, worker.examination = worker.examination, None
        if examination.status not in ('finished', 'error'):
            return
        if error := examination.exception(timeout=ANSWER_SECONDS):
            reason = _unfit(error)
        else:
            reason = examination.result(timeout=ANSWER_SECONDS)
        worker.accepted = reason is None
        if worker.accepted:
            worker.refusals.clear()
            return
        refusal = RefusedError(worker.place, reason)
        # Said once: the worker is examined again every minute.
        if str(refusal) not in map(str, worker.refusals):
            self._say(str(refusal))
        worker.refusals.append(refusal)
        worker.due = time.monotonic() + AGAIN_SECONDS


def _worker(address, facts):
    name = facts['name']
    return Worker(
        place=address if name in (address, None) else f'{name} ({address})',
        host=facts['host'],
        cores=facts['nthreads'],
        gpus=int(facts['resources'].get('GPU', 0)),
    )


def _unfit(error):
    """Returns the reason to refuse a worker whose examination failed, often by an import error."""
    return {
        'problem': 'it could not be examined',
        'seen': f'{type(error).__name__}: {error}',
        'fix': on_worker.INSTALL,
        'exit_code': ConfigError.exit_code,
    }
