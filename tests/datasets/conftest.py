"""The real CIFAR-10 variant, where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[3] / 'shared/data/cifar10'


@pytest.fixture(scope='session')
def real_cifar10(tmp_path_factory):
    """A folder or archive with real images: ``CHAINER_JO_TEST_CIFAR10``, or an unpacked variant."""
    named = os.environ.get('CHAINER_JO_TEST_CIFAR10')
    if named:
        return Path(named)
    if not (PACK / 'unpack.py').is_file():
        pytest.skip('no CIFAR-10 here: name one with CHAINER_JO_TEST_CIFAR10')
    folder = tmp_path_factory.mktemp('cifar10')
    command = [sys.executable, str(PACK / 'unpack.py'), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder
