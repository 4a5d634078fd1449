"""The smallest trial, as a command line, and a command in a process of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NARROW = {
    'net.filters': '[2, 2, 2, 2]',
    'net.stem_stride': '2',
    'common.train_images': '128',
    'common.validation_images': '50',
    'cross_entropy.train.epochs': '2',
}
OVERRIDES = ' '.join(f"--set '{key}={value}'" for key, value in NARROW.items())
TRAIN = 'train --preset quick --dataset fashion_mnist --noise symmetric --method cross_entropy'
TINY = f'{TRAIN} --rate 0.5 {OVERRIDES}'
THREE_LINES = r'error: .+\n  seen: .+\n  fix:  .+\n'


def command(words, folder, **environment):
    """Runs one command in a process of its own."""
    return subprocess.run(
        [sys.executable, '-m', 'chainer_jo', *shlex.split(words)],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors='replace',
        check=False,
    )


def files(folder):
    """What is there, apart from locks, which stay when nobody holds them."""
    return {
        path: path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    }
