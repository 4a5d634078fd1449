"""A results folder that may not be entered."""

import sys

import children
import pytest
import tiny

from chainer_jo.errors import excerpt

PLAN = ['table2', '--preset', 'quick', '--only', 'cross_entropy', '--rates', '0.5']


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs capabilities')
@pytest.mark.parametrize(
    'words',
    [
        ['plan', *PLAN],
        ['run', *PLAN, '--device', 'cpu'],
        tiny.words(tiny.config('cross_entropy'), 'another'),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize('closed', ['out', 'out/runs'])
def test_a_results_folder_that_may_not_be_entered_is_one_message(words, closed, tmp_path):
    out = tmp_path / 'out'
    (out / 'runs').mkdir(parents=True)
    (tmp_path / closed).chmod(0)
    child = children.Child(
        [*words, '--out', str(out)], tmp_path / 'log', children.without_privileges
    )
    assert child.wait() == 6
    (tmp_path / closed).chmod(0o700)
    assert child.said().splitlines() == [
        f'error: cannot use the folder {excerpt(out)}',
        '  seen: Permission denied',
        '  fix:  choose another folder with --out',
    ]


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs capabilities')
@pytest.mark.parametrize(
    ('command', 'code'), [('train', 6), ('show', 6), ('verify', 3), ('report', 3)]
)
def test_a_trial_that_may_not_be_entered_is_named(command, code, tmp_path):
    config, out = tiny.config('cross_entropy'), tmp_path / 'out'
    folder = tiny.folder(config, out)
    folder.mkdir(parents=True)
    folder.chmod(0)
    words = {
        'train': tiny.words(config, out),
        'show': ['show', str(folder)],
        'verify': ['verify', str(out)],
        'report': ['report', 'table2', '--preset', 'quick', '--out', str(out)],
    }[command]
    child = children.Child(words, tmp_path / 'log', children.without_privileges)
    assert child.wait() == code
    folder.chmod(0o700)
    assert folder.name in child.said()
    assert child.said().count('Permission denied') == 1


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs capabilities')
def test_verify_does_not_pass_over_a_folder_that_may_not_be_entered(tmp_path):
    closed = tmp_path / 'results' / 'paper'
    closed.mkdir(parents=True)
    closed.chmod(0)
    words = ['verify', str(tmp_path / 'results')]
    child = children.Child(words, tmp_path / 'log', children.without_privileges)
    assert child.wait() == 6
    closed.chmod(0o700)
    assert f'{closed}' in child.said()
    assert 'Permission denied' in child.said()
