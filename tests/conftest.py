"""What every test shares."""

import os
import signal
import tempfile

import pytest
from hypothesis import Phase, settings

# Before NumPy and oneDNN start their threads: on the tests' nets these cost more than they bring,
# and on a busy machine they wait for each other.
os.environ.setdefault('OMP_NUM_THREADS', '1')

# Before Chainer too, which tests import first.
from chainer_jo import backends
from chainer_jo.backends import onednn

# Under nohup, or behind an `&` in a script, they are ignored, by the commands under test as well,
# and tests that send them would wait for ever.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, and no time limit on a busy one.
settings.register_profile('reproducible', deadline=None, derandomize=True)
settings.load_profile('reproducible')
# For mutations.sh: that a test fails is all it asks, and the smallest example takes a minute.
settings.register_profile(
    'mutations', settings.get_profile('reproducible'), phases=(Phase.explicit, Phase.generate)
)


@pytest.fixture(scope='session', autouse=True)
def temporary_folder_of_the_run(tmp_path_factory):
    """What tests and their processes leave in the temporary folder goes with the run's folders."""
    folder = tmp_path_factory.mktemp('temporary')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TMPDIR', str(folder))
        patch.setattr(tempfile, 'tempdir', str(folder))
        yield


@pytest.fixture(autouse=True)
def automatic_backend():
    """The backend is a choice of the whole process: every test starts from 'auto'."""
    yield
    backends.use('auto')


@pytest.fixture(scope='session')
def onednn_loaded():
    """Skips a test where oneDNN's wheel cannot be loaded."""
    try:
        onednn.load()
    except OSError as error:
        pytest.skip(str(error))
