"""What is here needs a GPU; without one every test says why it is skipped.

``on_cpu/run.sh`` runs it where the CPU stands in for one.
"""

from pathlib import Path

import chainer
import pytest

from chainer_jo.training import device

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    found = device.describe()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if found.startswith('none'):
                item.add_marker(pytest.mark.skip(reason=f'GPU: {found}'))


@pytest.fixture(autouse=True)
def on_the_gpu():
    """Every test starts on the first GPU, with the fastest backend, and ends on the CPU."""
    chainer.get_device('@cupy:0').use()
    yield
    chainer.get_device('@numpy').use()
