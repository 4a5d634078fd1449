"""The backend is a choice of the whole process: every test starts from 'auto'."""

import pytest

from chainer_jo import backends
from chainer_jo.backends import onednn


@pytest.fixture(autouse=True)
def automatic_backend():
    yield
    backends.use('auto')


@pytest.fixture(scope='session')
def onednn_loaded():
    """Skips a test where oneDNN's wheel cannot be loaded."""
    try:
        onednn.load()
    except OSError as error:
        pytest.skip(str(error))
