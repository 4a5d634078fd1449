"""Clothing1M where it cannot be written, and on a disk that fills while it is verified."""

import shutil
import sys
from collections import namedtuple

import children
import clothing_files
import pytest
from test_full_disk import NoFileLargerThan

from chainer_jo import store
from chainer_jo.datasets import clothing1m
from chainer_jo.errors import WriteError

Usage = namedtuple('Usage', 'total used free')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clothing') / 'copy'
    clothing_files.make(folder, (60, 8, 8))
    return folder


def verify(folder, index, log, fault):
    words = ['data', 'verify', 'clothing1m', '--data', str(folder), '--limit', '0.5']
    return children.Child([*words, '--index', str(index)], log, fault)


def test_a_disk_that_fills_while_it_is_verified_is_one_message_and_keeps_the_older_index(
    folder, tmp_path, figure
):
    index = tmp_path / 'x.index'
    index.write_bytes(store.MAGIC + b'older')
    child = verify(folder, index, tmp_path / 'log', NoFileLargerThan(3000))
    assert child.wait() == 6
    assert f'error: cannot write {index}\n  seen: File too large' in child.said()
    assert 'Traceback' not in child.said()
    assert [path.name for path in tmp_path.iterdir() if path.name != 'log'] == ['x.index']
    assert index.read_bytes() == store.MAGIC + b'older'
    figure('verification', 'a disk that fills: exit code 6, the older index is kept')


def test_a_disk_that_is_too_full_is_said_before_anything_is_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: Usage(10**9, 10**9, 5000))
    read = []
    with pytest.raises(WriteError, match='cannot write in') as refused:
        clothing_files.verify(folder, tmp_path / 'x.index', on_file=lambda *one: read.append(one))
    assert refused.value.seen.endswith(' bytes to write, 5,000 free')
    assert read == []
    monkeypatch.undo()
    facts = clothing_files.verify(folder, tmp_path / 'x.index')
    # What is said to be needed is what is written, but for the heads of arrays.
    paths = store.read_arrays(tmp_path / 'x.index')['text'].nbytes
    expected = paths + clothing1m.INDEX_BYTES * facts['files']
    assert expected <= (tmp_path / 'x.index').stat().st_size <= expected + 8000


def test_an_archive_in_place_of_the_folder_is_one_message(folder, tmp_path):
    archive = shutil.make_archive(str(tmp_path / 'clothing'), 'tar', folder)
    child = verify(archive, tmp_path / 'x.index', tmp_path / 'log', None)
    assert child.wait() == 3
    assert child.said() == (
        f'error: {archive} is not a folder\n'
        '  seen: an archive\n'
        '  fix:  unpack it and name the folder with --data\n'
    )


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs capabilities')
def test_a_folder_that_may_only_be_read_is_verified_and_keeps_no_index(folder, tmp_path):
    copy, kept = tmp_path / 'copy', tmp_path / 'kept'
    shutil.copytree(folder, copy)
    places = [path for path in (copy, *copy.rglob('*')) if path.is_dir()]
    for path in places:
        path.chmod(0o555)
    child = verify(copy, tmp_path / 'x.index', tmp_path / 'log', children.without_privileges)
    assert child.wait() == 0, child.said()
    kept.mkdir(mode=0o555)
    child = verify(copy, kept / 'x.index', tmp_path / 'log', children.without_privileges)
    assert child.wait() == 6
    assert f'error: cannot write in {kept}\n  seen: Permission denied' in child.said()
    # Said at once: nothing was read for it.
    assert 'verified' not in child.said()
    for path in places:
        path.chmod(0o755)
