"""What git keeps of `results/`: the committed runs, and nothing of a user's own."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def is_ignored(path):
    done = subprocess.run(['git', 'check-ignore', '--no-index', '-q', path], cwd=ROOT, check=False)
    if done.returncode > 1:
        pytest.skip('no git repository here')
    return done.returncode == 0


@pytest.mark.parametrize(
    'path',
    [
        'results/quick/table2.md',
        'results/quick/README.md',
        'results/quick/runs/ours-s0/result.json',
        'results/mine/table2-curves-symmetric-0.7.png',
        'results/benchmarks/cpu.json',
        'results/reference/quick/runs/ours-s0/snapshot-3.arrays',
        'results/reference/quick/runs/ours-s0/model.arrays',
        'results/reference/quick/runs/ours-s0/.lock',
    ],
)
def test_git_ignores(path):
    assert is_ignored(path)


@pytest.mark.parametrize(
    'path',
    [
        'results/README.md',
        'results/reference/quick/table2.md',
        'results/reference/quick/table2-curves-symmetric-0.7.png',
        'results/reference/quick/runs/ours-s0/result.json',
        'results/reference/quick/runs/ours-s0/log.jsonl',
        'results/reference/benchmarks/cpu.json',
    ],
)
def test_git_keeps(path):
    assert not is_ignored(path)
