"""What commands cost, in seconds of a processor: a busy machine changes them little."""

import os
import time
from pathlib import Path

import children
import pytest
import tiny

from chainer_jo import config, store
from chainer_jo.commands import report

CONFIG = tiny.config('cross_entropy')
# Step 1 as long as two trials of the paper, so that early epochs can be set beside late ones.
LONG = tiny.config(
    'ours',
    'ours.correct.epochs=400',
    'ours.correct.begin=140',
    'ours.correct.window=10',
    'ours.fine_tune.epochs=200',
)


def used(pid=None):
    """Seconds of a processor: of this process, or of another without its children."""
    if pid is None:
        return time.process_time()
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def resident(pid):
    """Its resident memory in MiB."""
    return (
        int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGESIZE') / 2**20
    )


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


@pytest.mark.long
def test_over_600_epochs_memory_and_time_stay_flat(tmp_path, figure, monkeypatch):
    monkeypatch.setattr(children, 'PATIENCE', 600)
    child = children.Child(tiny.words(LONG, tmp_path), tmp_path / 'log', fresh=True)
    seconds, memory = {}, {}
    for epoch in (60, 200, 250, 390, 590):
        child.wait_for(f'epoch {epoch}/600')
        seconds[epoch], memory[epoch] = used(child.pid), resident(child.pid)
    assert child.wait() == 0
    early, late = seconds[200] - seconds[60], seconds[390] - seconds[250]
    grown = memory[590] - memory[60]
    figure(
        'bounds',
        f'600 tiny epochs: memory grows by {grown:.1f} of {memory[60]:.0f} MiB, '
        f'140 late epochs of step 1 take {late / early:.2f} of the time of 140 early ones',
    )
    # A log row is kept for each epoch, about a kilobyte.
    assert grown < 6
    assert late < 1.2 * early


@pytest.mark.long
def test_a_run_costs_less_than_1_percent_of_its_training(tmp_path, figure, monkeypatch):
    monkeypatch.setattr(children, 'PATIENCE', 600)
    words = ['run', 'table2', '--preset', 'quick', '--only', 'cross_entropy', '--rates', '0.5']
    words += ['--trials', '1', '--jobs', '1', '--device', 'cpu', '--out', str(tmp_path)]
    runner = children.Child(words, tmp_path / 'log', fresh=True)
    own, clock = {}, {}
    for epoch in (2, 22):
        runner.wait_for(f'epoch {epoch}/24')
        own[epoch], clock[epoch] = used(runner.pid), time.monotonic()
    assert runner.wait() == 0
    # Set beside the clock, because the runner looks at its trials several times a second.
    share = (own[22] - own[2]) / (clock[22] - clock[2])
    figure('bounds', f'a run takes {100 * share:.2f} % of the time of its trial')
    assert share < 0.01
