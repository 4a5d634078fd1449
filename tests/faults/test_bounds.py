"""What a trial and a report cost, in seconds of a processor: a busy machine changes them little."""

import os
import time

import children
import pytest
import tiny

from chainer_jo import config, store
from chainer_jo.commands import report

CONFIG = tiny.config('cross_entropy')


def used(pid=None):
    """Seconds of a processor: of this process, or of another with its children so far."""
    if pid is None:
        return time.process_time()
    with open(f'/proc/{pid}/stat') as file:
        fields = file.read().rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


@pytest.mark.long
def test_a_report_of_1000_results_takes_less_than_2_seconds(tmp_path, figure):
    tiny.run(CONFIG, tmp_path / 'one')
    folder = tiny.folder(CONFIG, tmp_path / 'one')
    result, log = store.read_sealed(folder / 'result.json'), (folder / 'log.jsonl').read_bytes()
    for seed in range(1000):
        result['config']['seed'] = seed
        result['trial'] = config.from_dict(result['config']).trial
        copy = tmp_path / 'out/runs' / result['trial']
        copy.mkdir(parents=True)
        store.write_sealed(copy / 'result.json', result)
        (copy / 'log.jsonl').write_bytes(log)
    begun = used()
    made = report.write('table2', 'quick', tmp_path / 'out')
    seconds = used() - begun
    assert made.unreadable == []
    figure('bounds', f'a report of 1,000 results: {seconds:.1f} s of a processor')
    assert seconds < 2


@pytest.mark.long
def test_a_trial_begins_in_less_than_3_seconds(tmp_path, figure):
    child = children.Child(tiny.words(CONFIG, tmp_path), tmp_path / 'log', fresh=True)
    child.wait_for('epoch 1/')
    seconds = used(child.pid)
    assert child.wait() == 0
    figure('bounds', f'from the command to the end of a tiny epoch: {seconds:.1f} s of a processor')
    assert seconds < 3
