"""Describes where and by which code trials ran, from the ``environment`` of their results."""

import re
from collections import Counter

from chainer_jo.report.escape import escaped, plain

VERSIONS = ('chainer', 'numpy', 'python', 'version')


def place(result):
    """Returns device, processor and backend of a trial in words; all of them if it moved.

    Results of older versions contain neither the processor's model nor its instruction set.
    """
    return _listed(result, _one_place)


def _listed(result, named):
    # A trial that was killed may have resumed on another machine; results of older versions name
    # only the last one.
    environments = result.get('environments') or [result['environment']]
    return ', then '.join(dict.fromkeys(map(named, environments)))


def _one_place(environment):
    device = str(environment.get('device', 'unknown device'))
    machine = environment.get('machine', 'unknown kind')
    threads, processes = environment.get('threads'), environment.get('processes')
    backend = str(environment.get('backend', 'unknown backend'))
    words = [
        device,
        environment.get('gpu'),
        environment.get('processor') or f'{machine} (model not recorded)',
        environment.get('instruction_set'),
        backend,
        f'{threads} threads' if threads and 'thread' not in backend else None,
        f'{processes} processes' if processes else None,
    ]
    return plain(', '.join(named(str(word)) for word in words if word))


def named(word):
    """Returns the name of a device or backend (str) as people write it."""
    if word in ('@numpy', 'cpu'):
        return 'CPU'
    return re.sub(r'\b1 threads', '1 thread', word.replace('@cupy', 'cuda'))


def note(results):
    """Returns a line of Markdown on where the trials of a table ran; ``None`` for no trials.

    Trials with the same seed agree bit for bit only on the same kind of machine, so all kinds are
    listed.
    """
    places = Counter(place(result) for result in results)
    if not places:
        return None
    if len(places) == 1:
        return f'Run on: {escaped(next(iter(places)))}.'
    counted = '; '.join(f'{escaped(words)} ({places[words]})' for words in sorted(places))
    return (
        'Run on different machines, so the last digits can differ (number of trials in '
        f'parentheses): {counted}.'
    )


def code_note(results):
    """Returns a line of Markdown if different code trained the trials of a table, else ``None``.

    Code has its digest as name, which results of older versions do not contain.
    """
    codes = Counter(_listed(result, _code) for result in results)
    if len(codes) < 2:
        return None
    counted = '; '.join(f'{escaped(name)} ({codes[name]})' for name in sorted(codes))
    return (
        'Trained by different versions of the code, which are named by their digest (number of '
        f'trials in parentheses): {counted}.'
    )


def _code(environment):
    return plain(environment.get('source', 'not recorded'))


def precisions(results):
    """Returns the names of the precisions of trials, such as ``float32``."""
    return ', '.join(sorted({result['config'].get('precision', 'float32') for result in results}))
