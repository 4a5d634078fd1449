"""Gives results of older versions the digests that this one checks; their numbers stay as they are.

    .venv/bin/python reproduce/seal_results.py FOLDER

Every ``result.json`` below FOLDER that has no digest gets that of its own content and that of the
``log.jsonl`` beside it. One that contradicts its log or itself is named and left alone.
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
    """Adds the digests to a result; returns what speaks against it, or ``None``."""
    try:
        result, log = store.read_json(path), (path.parent / 'log.jsonl').read_bytes()
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
