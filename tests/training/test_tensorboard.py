"""What TensorBoard is given is what log.jsonl says, each epoch once."""

import importlib.util
import json
import struct

import pytest
import tiny
from test_resume import run_until_done

from chainer_jo.errors import ConfigError
from chainer_jo.training import trial

CONFIG = tiny.config('ours')


def points(folder):
    """All points in the event files of a trial: ``[(column, epoch, value)]``."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob('tensorboard/events.*')):
        content, place = path.read_bytes(), 0
        while place < len(content):
            # Length, its checksum, the event, its checksum.
            (length,) = struct.unpack_from('<Q', content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return sorted(found)


def logged(folder):
    rows = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    return sorted(
        (name, row['epoch'], value)
        for row in rows
        for name, value in row.items()
        if isinstance(value, int | float) and name != 'epoch'
    )


def assert_same(folder):
    found, expected = points(folder), logged(folder)
    assert [point[:2] for point in found] == [point[:2] for point in expected]
    assert [p[2] for p in found] == pytest.approx([p[2] for p in expected], rel=1e-6)


def test_the_points_are_the_columns_of_the_log_and_change_nothing_of_the_trial(tmp_path):
    trial.run(CONFIG, tiny.machine(tmp_path / 'a', tensorboard=True), tiny.SILENT)
    assert_same(tiny.folder(CONFIG, tmp_path / 'a'))
    tiny.run(CONFIG, tmp_path / 'b')
    assert not (tiny.folder(CONFIG, tmp_path / 'b') / 'tensorboard').exists()
    for name in ('model.arrays', 'labels.arrays'):
        files = [tiny.folder(CONFIG, tmp_path / out) / name for out in 'ab']
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_trial_that_was_stopped_and_goes_on_has_every_point_once(sigterm_at, tmp_path):
    sigterm_at(range(1, 2 * tiny.STEPS, 3))
    run_until_done(CONFIG, tmp_path, tensorboard=True)
    assert_same(tiny.folder(CONFIG, tmp_path))


def test_without_the_package_nothing_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ConfigError, match='pip install tensorboardX'):
        trial.run(CONFIG, tiny.machine(tmp_path, tensorboard=True), tiny.SILENT)
    assert not list(tmp_path.iterdir())
