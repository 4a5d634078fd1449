import json
import subprocess
import sys
import time

from test_side_by_side import small

from chainer_jo.benchmark import neighbour
from chainer_jo.training.machine import cores


def test_every_system_is_measured_alone_and_beside_a_busy_process(tmp_path, monkeypatch):
    peer = neighbour.pytorch(str(tmp_path / 'no-peer'), 'cpu')
    two = neighbour.plain('chainer_jo', 'cpu', 'auto'), peer
    monkeypatch.setattr(neighbour, '_systems', lambda peer: two)
    said = []
    report = neighbour.run(2, None, tmp_path, said.append, small)
    assert json.loads((tmp_path / 'neighbour-cpu.json').read_text()) == report
    assert {row['threads'] for row in report['rows']} == {1, cores()}
    for row in report['rows']:
        assert row['times'] == row['seconds_beside'] / row['seconds_alone']
        assert f'{row["threads"]} thread' in row['versions']
        assert row['turns'] == 2
    # Without PyTorch the rest is measured.
    assert {row['system'] for row in report['rows']} == {'chainer_jo'}
    assert all('pytorch channels_last' in note for note in report['notes'])
    page = (tmp_path / 'neighbour-cpu.md').read_text()
    assert '| chainer_jo | float32 | 1 |' in page
    assert said[-1] == 'round 2 of 2'


def test_the_neighbour_is_busy_and_goes_with_whoever_started_it():
    starter = f"""
import sys, time
sys.path.insert(0, {str(neighbour.__file__).rpartition('/chainer_jo/')[0]!r})
from chainer_jo.benchmark.neighbour import busy_neighbour
with busy_neighbour() as process:
    print(process.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, '-c', starter], stdout=subprocess.PIPE) as started:
        pid = int(started.stdout.readline())
        end = time.monotonic() + 20
        while _processor_seconds(pid) < 0.2 and time.monotonic() < end:
            time.sleep(0.02)
        assert _processor_seconds(pid) >= 0.2
        started.kill()
    while _processor_seconds(pid) is not None and time.monotonic() < end:
        time.sleep(0.02)
    assert _processor_seconds(pid) is None


def _processor_seconds(pid):
    """Those that a process has used, or ``None`` if it is no more."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            fields = file.read().rpartition(') ')[2].split()
    except FileNotFoundError:
        return None
    return None if fields[0] == 'Z' else (int(fields[11]) + int(fields[12])) / 100
