"""F-22: memory that is full ends a trial with one message, and nothing is lost."""

import resource

import children
import tiny

from chainer_jo.errors import OutOfMemoryError

LIMIT = 4 << 30


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


def test_memory_that_is_full_is_one_message_and_exit_code_7(tmp_path, figure):
    # A weight of the last part alone is larger than the limit.
    config = tiny.config('cross_entropy', 'net.filters=[4, 4, 4, 16384]')
    child = children.Child(tiny.words(config, tmp_path), tmp_path / 'log', limit_memory)
    assert child.wait() == OutOfMemoryError.exit_code == 7
    assert 'error: the memory of this machine is full' in child.said()
    assert 'with fewer --jobs, which resumes' in child.said()
    assert '--set common.batch_size=28' in child.said()
    assert 'Traceback' not in child.said()
    figure('F-22', 'memory full: exit code 7')
