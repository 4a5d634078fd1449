"""Adds the digests that this version checks to results of older versions, without other changes.

    .venv/bin/python reproduce/seal_results.py FOLDER

Every ``result.json`` below FOLDER that has no digest gets the digest of its content and that of its
``log.jsonl``. A result that contradicts its log or itself is listed and not changed.
"""

import sys
from pathlib import Path

from chainer_jo import store
from chainer_jo.errors import ChainerJoError
from chainer_jo.report.collect import log_problem, read_doubtful, read_log
from chainer_jo.report.integrity import misfits


def main(folder):
    paths = sorted(Path(folder).glob('**/runs/*/result.json'))
    unsealed = [path for path in paths if not store.SEAL.search(path.read_bytes())]
    problems = {path: problem for path in unsealed if (problem := _seal(path))}
    for path, problem in problems.items():
        print(f'left alone: {path}: {problem}')
    print(f'{len(paths)} results, {len(unsealed) - len(problems)} sealed')
    return 3 if problems else 0


def _seal(path):
    """Adds the digests to a result; returns the reason if it cannot, or ``None``."""
    try:
        result, log = store.read_unsealed(path)[0], (path.parent / 'log.jsonl').read_bytes()
        result['digests']['log'] = store.sha256(log)
        unlike_log = log_problem(read_log(path.parent), result)
        if wrong := [unlike_log] if unlike_log else misfits(result, path.parent):
            return '; '.join(wrong)
        store.write_sealed(path, result)
        return read_doubtful(path)[1]
    except (ChainerJoError, OSError, KeyError, TypeError) as error:
        return str(error)


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
