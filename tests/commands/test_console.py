"""What a run shows: facts first, then progress inside an epoch, on a terminal and off one."""

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import tiny
from narrow import ROOT
from rich.console import Console

from chainer_jo import console
from chainer_jo.sweep import arrival

FACTS = {
    'trial': 'ours-symmetric-0.7-s0-12345678',
    'data': 'Fashion-MNIST',
    'variant': 'embedded subset',
    'images': 5000,
    'wrong': 0.63,
    'method': 'Mix-up with KL entropy',
    'stages': {'correct': 12, 'fine_tune': 8},
    'steps_per_epoch': 40,
    'environment': {
        'device': '@numpy',
        'processor': 'AMD EPYC',
        'backend': 'onednn (oneDNN 3.2.0, 1 threads)',
        'threads': 1,
    },
    'out': 'results/quick',
}
ROW = {
    'epoch': 3,
    'stage': 'correct',
    'stage_epoch': 3,
    'learning_rate': 0.08,
    'main/loss': 1.2345,
    'main/accuracy': 0.5,
    'validation/main/accuracy': 0.6,
    'test/main/accuracy': 0.7,
    'label_accuracy': 0.37,
    'seconds': 12.3,
}
RESULT = {
    'best': {'test_accuracy': 0.71},
    'last': {'test_accuracy': 0.7},
    'label_accuracy': 0.8,
}


def step(number=10, left=125.0, **others):
    return {
        'stage': 'correct',
        'stage_epoch': 4,
        'step': number,
        'steps': 40,
        'epochs_done': 3,
        'epochs': 20,
        'seconds_left': left,
        'loss': 1.5,
    } | others


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test turns by hand."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(console.time, 'monotonic', lambda: Clock.now)
    return Clock


@pytest.fixture
def said(capsys):
    """The lines on stderr since it was last asked; stdout stays empty."""

    def lines():
        captured = capsys.readouterr()
        assert captured.out == ''
        assert '\x1b' not in captured.err
        return captured.err.splitlines()

    return lines


def test_a_trial_says_at_once_what_it_does(said):
    console.TrialProgress().of('a').begin(FACTS)
    assert said() == [
        'data     Fashion-MNIST, embedded subset; 5,000 training images',
        'machine  CPU, AMD EPYC, onednn (oneDNN 3.2.0, 1 thread)',
        'results  results/quick',
        'a: Mix-up with KL entropy; 63.0 % wrong labels; epochs: correct 12, fine_tune 8; '
        '40 steps per epoch',
    ]


def test_what_trials_share_is_said_once_and_again_where_it_differs(said):
    progress = console.TrialProgress(3)
    progress.of('a').begin(FACTS)
    said()
    elsewhere = {'environment': FACTS['environment'] | {'processor': 'Intel Xeon'}}
    progress.of('b').begin(FACTS | elsewhere | {'wrong': None})
    assert said() == [
        'machine  CPU, Intel Xeon, onednn (oneDNN 3.2.0, 1 thread)',
        'b: Mix-up with KL entropy; wrong labels unknown; epochs: correct 12, fine_tune 8; '
        '40 steps per epoch',
    ]
    progress.of('c').begin(FACTS | elsewhere)
    assert len(said()) == 1


def test_trials_in_one_folder_say_it_once(said):
    progress = console.TrialProgress(2)
    for name in 'ab':
        progress.of(name).begin(FACTS | {'out': f'results/quick/runs/{name}'})
    assert [line for line in said() if line.startswith('results')] == [
        'results  results/quick/runs'
    ]


def test_a_download_is_said_once_or_has_a_bar(said):
    progress = console.TrialProgress()
    for done in range(0, 170_000_000, 10_000_000):
        progress.download('cifar-10-binary.tar.gz', done, 170_052_171)
    assert said() == ['downloading cifar-10-binary.tar.gz, 170 MB']
    (bar,) = drawn(progress, 80)
    assert bar.startswith('cifar-10-binary.tar.gz')
    assert '160/170 MB' in bar
    progress.download('cifar-10-binary.tar.gz', 170_052_171, 170_052_171)
    assert drawn(progress, 80) == []


def test_the_last_step_of_an_epoch_belongs_to_it(said, clock):
    watched = console.TrialProgress().of('a')
    clock.now += 100
    watched.step(step(40, epochs_done=4))
    assert 'epoch 4/20 correct, step 40/40' in said()[0]


def test_off_a_terminal_a_long_epoch_has_a_line_a_minute(said, clock):
    watched = console.TrialProgress().of('a')
    watched.start(20, [])
    for second in range(200):
        clock.now = 1000.0 + second
        watched.step(step(second, steps=200))
    lines = said()
    assert lines == [
        f'a: epoch 4/20 correct, step {number}/200  loss 1.500  0:02:05 left'
        for number in (60, 120, 180)
    ]


def test_off_a_terminal_short_epochs_have_a_line_each_and_none_inside(said, clock):
    watched = console.TrialProgress().of('a')
    watched.start(20, [])
    for epoch in range(1, 4):
        for number in range(40):
            clock.now += 1
            watched.step(step(number, epochs_done=epoch - 1))
        watched.epoch(ROW | {'epoch': epoch})
    lines = said()
    assert len(lines) == 3
    assert lines[2] == (
        'a: epoch 3/20 correct  loss 1.234  accuracy 0.500  labels 0.370  validation 0.600  '
        'test 0.700  12.3 s'
    )


def test_many_trials_share_the_line_a_minute(said, clock):
    progress = console.TrialProgress(8)
    for second in range(600):
        clock.now = 1000.0 + second
        for trial in 'abcdefgh':
            progress.of(trial).step(step(second, steps=600))
    assert 7 <= len(said()) <= 10


def test_a_time_or_figure_that_nobody_knows_is_left_out(said, clock):
    watched = console.TrialProgress().of('a')
    clock.now += 100
    watched.step(step(left=None, loss=None))
    assert [line.rstrip() for line in said()] == ['a: epoch 4/20 correct, step 10/40']
    row = {key: value for key, value in ROW.items() if key != 'test/main/accuracy'}
    watched.epoch(row | {'label_accuracy': None})
    (line,) = said()
    assert 'test' not in line
    assert 'labels' not in line


def test_a_trial_that_goes_on_says_after_which_epoch(said):
    console.TrialProgress().of('a').start(20, [ROW] * 3)
    assert said() == ['a: resumes after epoch 3 of 20']


def test_a_finished_trial_is_counted_with_what_is_known_of_it(said):
    progress = console.TrialProgress(3, 1)
    progress.finish('a', RESULT)
    unknown = {'test_accuracy': None, 'validation_accuracy': 0.6}
    progress.finish('b', {'best': unknown, 'last': unknown, 'label_accuracy': None})
    assert said() == [
        'a: done (2 of 3)  best 0.7100  last 0.7000  labels 0.8000',
        'b: done (3 of 3)  best 0.6000  last 0.6000',
    ]


def drawn(progress, width, encoding='utf-8'):
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors='replace')
    screen = Console(file=stream, width=width, force_terminal=True, color_system='standard')
    screen.print(progress._drawn())
    stream.seek(0)
    # Without colours the part of a bar that is to come would be blank.
    return re.sub(r'\x1b\[[\d;]*m', '', stream.read()).splitlines()


NAMES = 'a', 'cross_entropy-asymmetric-0.123456789-s0-12345678', 'x' * 300


def long_trial(progress, name, begun):
    watched = progress.of(name)
    watched.begin(FACTS)
    watched.start(320, [ROW] * 3)
    watched.epoch(ROW)
    if begun == 'inside':
        watched.step(step(epochs=320, left=360_000.0))


@pytest.mark.parametrize('width', [60, 80, 100, 200])
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('begun', ['inside', 'between'])
def test_the_bar_the_count_and_the_time_stay_on_a_terminal_of_any_width(width, name, begun):
    progress = console.TrialProgress()
    long_trial(progress, name, begun)
    lines = drawn(progress, width)
    assert all(len(line) <= width for line in lines)
    bar = lines[0]
    assert len(re.findall('[━╸╺]', bar)) >= 10
    assert '3/320' in bar
    assert bar.startswith(name[:5])
    assert ('4 days, 4:00:00 left' in bar) == (begun == 'inside')
    assert any('loss 1.234  accuracy 0.500  labels 0.370' in line for line in lines)
    assert any('epoch 4/320 correct, step 10/40' in line for line in lines) == (begun == 'inside')


@pytest.mark.parametrize('width', [60, 80, 200])
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('begun', ['inside', 'between'])
def test_a_trial_of_several_has_one_line_with_all_that_counts(width, name, begun):
    progress = console.TrialProgress(10, 3)
    long_trial(progress, name, begun)
    head, line, total = drawn(progress, width)
    assert head.split() == list(console.TRIAL_COLUMNS)
    assert len(line) <= width
    assert line.startswith(name[:5])
    # Of the test images if there are any.
    figures = ['correct', '3/320', '0.700', '0.370']
    assert line.split()[1:5] == figures
    assert ('4 days, 4:00:00' in line) == (begun == 'inside')
    assert total.strip() == '3 of 10 trials done'


def test_every_running_trial_has_its_line_and_one_that_has_ended_has_none(capsys):
    progress = console.TrialProgress(4)
    for name in 'abcd':
        progress.of(name).start(20, [])
    progress.finish('b', RESULT)
    console.forward(progress)(SimpleNamespace(trial='d'), {'end': 8})
    assert [line[0] for line in drawn(progress, 80)[1:-1]] == ['a', 'c']


def test_the_time_of_arrival_is_that_of_all_that_is_left(clock, monkeypatch, said):
    monkeypatch.setattr(console.time, 'time', lambda: 0.0)
    monkeypatch.setattr(console.time, 'localtime', console.time.gmtime)
    progress = console.TrialProgress(5, 1, dict.fromkeys('abcd', 300.0))
    for name in 'ab':
        # Of what an earlier run has trained nothing counts.
        progress.of(name).start(20, [ROW] * 10)
    assert drawn(progress, 80)[-1].strip() == '1 of 5 trials done'
    clock.now += 100
    for name in 'ab':
        progress.of(name).step(step(left=None, epochs_done=15, step=40))
    # A half of two trials took 100 s: three are left.
    left = '1 of 5 trials done, 0:05:00 left, about Thu 01 Jan 00:05'
    assert drawn(progress, 80)[-1].strip() == left
    # One that another run has done meanwhile is neither left nor a measure.
    progress.finish('d', RESULT)
    left = '2 of 5 trials done, 0:03:20 left, about Thu 01 Jan 00:03'
    assert drawn(progress, 80)[-1].strip() == left
    # One that has failed is not left either; what it trained still is a measure.
    console.forward(progress)(SimpleNamespace(trial='b'), {'failed': 5})
    left = '2 of 5 trials done, 0:02:30 left, about Thu 01 Jan 00:02'
    assert drawn(progress, 80)[-1].strip() == left
    # No trial can be divided.
    progress.of('a').step(step(left=900.0, epochs_done=15, step=40))
    left = '2 of 5 trials done, 0:15:00 left, about Thu 01 Jan 00:15'
    assert drawn(progress, 80)[-1].strip() == left


def test_the_time_of_arrival_can_be_asked_for_while_trials_begin(monkeypatch):
    # Threads take turns as often as they can.
    before = sys.getswitchinterval()
    monkeypatch.setattr(arrival, 'SECONDS', 0)
    asked, ended = arrival.Arrival({}), threading.Event()

    def begin_many():
        for trial in range(20_000):
            asked.place(trial, 0, 1)
        ended.set()

    begins = threading.Thread(target=begin_many)
    try:
        sys.setswitchinterval(1e-6)
        begins.start()
        while not ended.is_set():
            asked.seconds()
    finally:
        sys.setswitchinterval(before)
        begins.join()


def test_a_terminal_that_is_not_utf_8_has_a_bar_too():
    progress = console.TrialProgress()
    progress.of('a').step(step())
    assert drawn(progress, 80, 'ascii')[0].count('-') >= 10


DRIVER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import test_console as t
from chainer_jo import console
progress = console.TrialProgress()
with progress.shown():
    watched = progress.of('long-name-' * 9)
    watched.begin(t.FACTS)
    watched.start(20, [])
    watched.step(t.step())
    progress.live.refresh() if progress.live else None
    watched.epoch(t.ROW)
    progress.say('warning: this')
    progress.finish('long-name-' * 9, t.RESULT)
"""


def run_driver(stderr, **environment):
    folder = os.path.dirname(__file__)
    script = DRIVER.format(root=str(ROOT), tests=os.path.join(str(ROOT), 'tests'))
    return subprocess.Popen(
        [sys.executable, '-c', f'import sys; sys.path.insert(0, {folder!r})\n{script}'],
        stderr=stderr,
        env=os.environ | {'COLUMNS': '80'} | environment,
    )


def on_terminal(**environment):
    return output_of(lambda stderr: run_driver(stderr, **environment))


def output_of(start):
    """All that a process, which is started with a terminal for stderr, writes there."""
    ours, theirs = pty.openpty()
    process, output = start(theirs), b''
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.1)[0]:
            output += os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0
    return output.decode(errors='replace')


def test_a_run_on_a_terminal_has_a_line_for_each_running_trial_below_what_is_said(tmp_path):
    words = 'run table2 --preset quick --only cross_entropy --rates 0.5 --trials 2 --jobs 2'
    words = [*words.split(), '--device', 'cpu', '--out', str(tmp_path / 'out')]
    # So many epochs that the screen is drawn in the middle of some.
    overrides = [*tiny.overrides('cross_entropy'), 'cross_entropy.train.epochs=40']
    words += [word for text in overrides for word in ('--set', text)]

    def start(stderr):
        return subprocess.Popen(
            [sys.executable, '-m', 'chainer_jo', *words],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=os.environ | {'COLUMNS': '100', 'TERM': 'xterm', 'OMP_NUM_THREADS': '1'},
        )

    shown = re.sub(r'\x1b\[[\d;?]*[a-zA-Z]', '', output_of(start))
    assert re.search(r'^trial +stage +epoch +accuracy +labels +left', shown, re.M)
    line = r'^cross_entropy-symmetric-0\.5-s\d-\w+ +train +\d+/40 +0\.\d{3} +0\.\d{3}'
    assert re.search(line, shown, re.M)
    assert '0 of 2 trials done' in shown
    assert 'done (2 of 2)' in shown
    # The lines of epochs are for those who do not see them live.
    assert 'epoch 1/3' not in shown


def test_on_a_terminal_a_live_bar_is_drawn_below_the_lines():
    shown = on_terminal(TERM='xterm')
    assert '\x1b' in shown
    assert '━' in shown
    assert 'step 10/40' in shown
    assert '5,000 training images' in shown
    assert 'warning: this' in shown
    assert 'done (1 of 1)' in shown


def test_what_is_said_to_a_terminal_that_is_gone_raises_nothing(monkeypatch):
    ours, theirs = pty.openpty()
    terminal = os.fdopen(theirs, 'w')
    monkeypatch.setattr(sys, 'stderr', terminal)
    monkeypatch.setenv('TERM', 'xterm')
    with console.TrialProgress(3).shown() as progress:
        assert progress.live
        os.close(ours)
        progress.say('x')
        # As a thread does, whose errors would not be seen here.
        progress.live.refresh()
    assert sys.stderr is terminal
    with pytest.raises(OSError, match='Input/output error'):
        terminal.close()


def test_a_trial_whose_terminal_goes_away_is_trained_to_its_end(tmp_path):
    ours, theirs = pty.openpty()
    config = tiny.config('cross_entropy', 'cross_entropy.train.epochs=40')
    words = [sys.executable, '-m', 'chainer_jo', *tiny.words(config, tmp_path)]
    environment = os.environ | {'TERM': 'xterm', 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs, env=environment
    )
    # Otherwise nobody would notice here if the trial ended early.
    os.close(theirs)
    output = b''
    while b'epochs: train 40' not in output:
        output += os.read(ours, 10_000)
    os.close(ours)
    assert process.wait(100) == 0
    assert (tiny.folder(config, tmp_path) / 'result.json').exists()


def test_on_a_dumb_terminal_there_are_plain_lines():
    shown = on_terminal(TERM='dumb')
    assert '\x1b' not in shown
    assert 'epoch 3/20 correct' in shown


def test_a_file_gets_plain_lines_even_where_colours_are_forced(tmp_path):
    with open(tmp_path / 'log', 'w') as file:
        assert run_driver(file, FORCE_COLOR='1', TERM='xterm').wait() == 0
    shown = (tmp_path / 'log').read_text()
    assert '\x1b' not in shown
    assert 'epoch 3/20 correct' in shown


def test_what_a_child_tells_is_shown_as_if_it_were_here(capsys, clock):
    config = tiny.config('cross_entropy')
    told, there = console.JsonLines(), console.TrialProgress()
    told.begin(FACTS)
    told.start(20, [ROW])
    told.step(step())
    told.epoch(ROW)
    console.show(json.dumps({'result': RESULT}))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [next(iter(line)) for line in lines] == ['begin', 'start', 'step', 'epoch', 'result']
    forward = console.forward(there)
    for line in lines:
        forward(config, line)
    here = console.TrialProgress()
    shown = capsys.readouterr().err
    watched = here.of(config.trial)
    watched.begin(FACTS)
    watched.start(config.epochs, [ROW])
    watched.step(step())
    watched.epoch(ROW)
    here.finish(config.trial, RESULT)
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize('words', ['{}: waited for a core', 'waited for a core'])
def test_a_child_s_warning_begins_with_its_trial_once(capsys, words):
    config = tiny.config('cross_entropy')
    console.forward(console.TrialProgress())(config, {'warning': words.format(config.trial)})
    assert capsys.readouterr().err == f'{config.trial}: waited for a core\n'


def test_steps_are_told_to_a_program_once_a_second(capsys, clock):
    told = console.JsonLines()
    for tick in range(100):
        clock.now = 1000 + tick / 20
        told.step(step(tick))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line['step']['step'] for line in lines] == [0, 20, 40, 60, 80]
