"""Where trials ran, in words, from the ``environment`` of their results."""

from collections import Counter

from chainer_jo.report.escape import escaped, plain

VERSIONS = ('chainer', 'numpy', 'python', 'version')


def place(result):
    """Returns device, processor and backend of a trial in plain words.

    Results of older versions name neither the processor's model nor its instruction set.
    """
    environment = result['environment']
    device = str(environment.get('device', 'unknown device'))
    words = ['CPU' if device in ('@numpy', 'cpu') else device.replace('@cupy', 'cuda')]
    if environment.get('gpu'):
        words.append(_words(environment['gpu']))
    processor = environment.get('processor')
    machine = environment.get('machine', 'unknown kind')
    words.append(_words(processor) if processor else f'{machine} (model not recorded)')
    for key in ('instructions', 'instruction_set'):
        if environment.get(key):
            words.append(_words(environment[key]))
    backends = environment.get('backends') or environment.get('backend', 'unknown backend')
    words.append(_words(backends))
    threads = environment.get('threads')
    if threads is not None and 'thread' not in words[-1]:
        words.append(f'{_words(threads)} threads')
    return plain(', '.join(words).replace(' 1 threads', ' 1 thread'))


def _words(value):
    return ' and '.join(map(str, value)) if isinstance(value, list) else str(value)


def note(results):
    """Returns one line, in Markdown, about where the trials of a table ran; ``None`` for no trials.

    Trials of one seed agree bit for bit on one kind of machine only, so a mixture is named.
    """
    places = Counter(place(result) for result in results)
    if not places:
        return None
    if len(places) == 1:
        return f'Run on: {escaped(next(iter(places)))}.'
    counted = '; '.join(f'{escaped(words)} ({places[words]})' for words in sorted(places))
    return f'Run on different machines, whose last digits differ (number of trials): {counted}.'


def precisions(results):
    """Returns the precisions of trials in words, such as ``float32``."""
    return ', '.join(sorted({result['config'].get('precision', 'float32') for result in results}))
