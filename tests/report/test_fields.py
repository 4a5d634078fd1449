import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from chainer_jo.report import fields

RESULTS = Path(__file__).parents[2] / 'results'
TRAIN = (
    'train --json --preset quick --dataset fashion_mnist --noise symmetric --rate 0.5 '
    "--method ours --set 'net.filters=[2, 2, 2, 2]' --set net.stem_stride=2 "
    '--set common.train_images=128 --set common.validation_images=50 '
    '--set ours.correct.epochs=1 --set ours.fine_tune.epochs=1'
)
REFERENCE = sorted(RESULTS.glob('reference/*/runs/*/result.json'))


def keys(values, prefix=''):
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys(value, f'{prefix}{key}.')


def leaves(values):
    groups = {key.rpartition('.')[0] for key in keys(values)}
    return [key for key in keys(values) if key not in groups]


def is_explained(key):
    """Returns whether the key of a result, ``a.b.c``, or a group that holds it, is explained."""
    parts = key.split('.')
    return any('.'.join(parts[:end]) in fields.RESULT for end in range(1, len(parts) + 1))


def test_every_field_of_every_committed_result_is_explained():
    found = {key for path in REFERENCE for key in leaves(json.loads(path.read_text()))}

    assert len(found) > 50
    assert [key for key in sorted(found) if not is_explained(key)] == []


def test_every_column_of_every_committed_log_is_explained():
    logs = [path.with_name('log.jsonl') for path in REFERENCE]
    found = {
        key for path in logs for line in path.read_text().splitlines() for key in json.loads(line)
    }

    # The committed trials have lost no image.
    assert found == set(fields.LOG) - {'unreadable'}


def test_a_trial_of_today_has_no_field_that_is_not_explained(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'chainer_jo', *shlex.split(TRAIN)],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(RESULTS.parent), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    result, rows = lines[-1]['result'], [line for line in lines if 'epoch' in line]

    assert [key for key in leaves(result) if not is_explained(key)] == []
    assert [key for key in rows[0] if key not in fields.LOG] == []


def test_the_page_over_the_committed_runs_holds_the_explanations():
    assert fields.to_markdown() in (RESULTS / 'README.md').read_text()
