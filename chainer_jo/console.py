"""Output for the user: results on stdout, progress and warnings on stderr.

A run first says what it is going to do. On a terminal a single trial has a live bar; several trials
have a table with one line each, and the expected end of all of them below. Elsewhere each epoch has
a line, and a long epoch a line per minute.
"""

import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from chainer_jo.errors import WriteError, count_of
from chainer_jo.report.machines import place
from chainer_jo.sweep.arrival import Arrival

FIGURES = {
    'main/loss': 'loss',
    'main/accuracy': 'accuracy',
    'label_accuracy': 'labels',
    'validation/main/accuracy': 'validation',
    'test/main/accuracy': 'test',
}
TRIAL_COLUMNS = ('trial', 'stage', 'epoch', 'accuracy', 'labels', 'left')
PLAIN_SECONDS = 60  # Least time between two progress lines within epochs, over all trials.
JSON_SECONDS = 1  # Least time between two step lines for another program.

# Of the ranks of one trial only rank 0 reports; the others are silent.
_silent = False


def prepare():
    """Makes the streams accept any text; raises WriteError if stdout is closed."""
    # The parent may have closed either stream, as cron and some daemons do.
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:
            # The next file opened would get the descriptor of the closed stream, and output of
            # libraries would end up in that file.
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(descriptor, 'w'))
            if name == 'stdout':
                raise _unwritable('it is closed')
        elif hasattr(stream, 'reconfigure'):
            # A character that the encoding lacks must not prevent the rest of the output.
            stream.reconfigure(errors='replace')


def silence():
    """Turns off all output, because another process reports for this one."""
    global _silent
    _silent = True


def show(text):
    """Writes a result to stdout.

    Raises:
        WriteError: It cannot be written, as on a full disk.
        BrokenPipeError: The reader has closed the pipe.
    """
    if _silent:
        return
    with _written():
        # Flushed, so that a full disk raises here and not in Python's own flush at exit.
        print(text, flush=True)


def show_json(value):
    """Writes a result (plain JSON values) to stdout. Raises as :func:`show`."""
    show(json.dumps(value, indent=1, allow_nan=False))


def flush():
    """Writes the buffered output to stdout. Raises as :func:`show`."""
    with _written():
        sys.stdout.flush()


def abandon_stdout():
    """Discards further output to stdout, so that Python does not fail when it flushes at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _written():
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # The text is still in the buffer, and would raise again at exit.
        abandon_stdout()
        raise _unwritable(error.strerror) from None


def _unwritable(seen):
    return WriteError(
        'the result cannot be written to stdout',
        seen=seen,
        fix='make room or redirect stdout, then run the same command again',
    )


def say(text, always=False):
    """Writes a line to stderr; errors are ignored, such as a closed stderr or a full disk."""
    if _silent and not always:
        return
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


class JsonLines:
    """Reports the progress of a trial to another program, as one line of JSON per event on stdout.

    The lines are ``{"begin": facts}``; ``{"start": rows}`` with the epochs of earlier runs;
    ``{"step": progress}``, at most once a second; ``{"warning": text}``; and the log row of each
    epoch. :func:`forward` reads them.

    Args:
        needs_reader (bool): Whether the process ends if the reader closes the pipe.
    """

    def __init__(self, needs_reader=True):
        self._due, self._ignored = 0.0, () if needs_reader else BrokenPipeError

    def _show(self, value):
        with suppress(self._ignored):
            show(json.dumps(value))

    def begin(self, facts):
        self._show({'begin': facts})

    def start(self, epochs, rows):
        self._show({'start': rows})

    def step(self, progress):
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + JSON_SECONDS
            self._show({'step': progress})

    def warn(self, text):
        self._show({'warning': text})

    def epoch(self, row):
        self._show(row)


def forward(progress):
    """Returns a function (TrialConfig, line) that shows the JsonLines of another process."""

    def on_line(config, line):
        watched = progress.of(config.trial)
        if 'begin' in line:
            watched.begin(line['begin'])
        elif 'start' in line:
            watched.start(config.epochs, line['start'])
        elif 'step' in line:
            watched.step(line['step'])
        elif 'warning' in line:
            # Some warnings begin with the trial already, because `train` adds nothing to them.
            text = line['warning'].removeprefix(f'{config.trial}: ')
            progress.say(f'{config.trial}: {text}')
        elif 'result' in line:
            progress.finish(config.trial, line['result'])
        # A log row has no wrapper, and is recognised by its column.
        elif 'epoch' in line:
            watched.epoch(line)
        elif 'end' in line:
            progress.end(config.trial)
        elif 'failed' in line:
            progress.arrival.give_up(config.trial)

    return on_line


class TrialProgress:
    """Shows the progress of one or several trials.

    Args:
        total (int): Number of trials, including finished ones.
        done (int): Number of finished trials.
        work (dict): Remaining work of the others, as for :class:`Arrival`.
    """

    def __init__(self, total=1, done=0, work=()):
        self.total, self.done = total, done
        self.arrival = Arrival(work)
        self.running, self.downloads, self._said = {}, {}, {}
        self.live = None

    @contextmanager
    def shown(self):
        """Draws bars while the block runs, if stderr is a terminal."""
        with _drawing(self._drawn) as self.live:
            yield self
        self.live = None

    def of(self, trial):
        """Returns the display of one trial, which has the methods of an Observer."""
        return self.running.setdefault(trial, _Watched(trial, self))

    def finish(self, trial, result):
        """Shows that a trial is done; ``result`` is its ``result.json``."""
        self.done += 1
        self.arrival.finish(trial)
        # The bar disappears; the line printed next stays on the screen.
        self.end(trial)
        self.say(f'{trial}: done ({self.done} of {self.total})  {accuracies(result)}')

    def end(self, trial):
        """Removes a trial whose process has ended, done or not."""
        self.running.pop(trial, None)

    def download(self, name, done, total):
        """Shows that ``done`` of ``total`` bytes of a file are downloaded."""
        if not self.live:
            self.say_once('download', f'downloading {name}, {total / 1e6:,.0f} MB')
        self.downloads[name] = done, total
        # Removed at the end, so that the bar does not stay during training.
        if done >= total:
            del self.downloads[name]

    def say(self, text):
        """Writes a line to stderr, above the bars if there are any."""
        if self.live:
            # Through rich, which redraws the bars below. Without markup: texts have brackets.
            self.live.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            say(text)

    def say_once(self, key, text):
        """Writes a line unless it repeats the last line of the same ``key``, as trials often do."""
        if self._said.get(key) != text:
            self._said[key] = text
            self.say(text)

    def pass_on(self, config, text):
        """Writes other output of a trial's process once: libraries print the same in each."""
        self.say_once('passed on', text)

    def _drawn(self):
        from rich.console import Group

        # Copied, because trials start and end in other threads while it is drawn.
        running = list(self.running.values())
        rows = [drawn for watched in running for drawn in watched.drawn()]
        if self.total > 1:
            rows = [_trial_table(watched.cells() for watched in running)] if running else []
        for name, (done, total) in self.downloads.copy().items():
            rows.append(_bar(name, done, total, f'{done / 1e6:,.0f}/{total / 1e6:,.0f} MB', ''))
        if self.total > 1:
            rows.append(_line(f'{self.done} of {self.total} trials done{self._arrival()}', 'bold'))
        return Group(*rows)

    def _arrival(self):
        seconds = self.arrival.seconds(
            max((watched.seconds_left or 0 for watched in list(self.running.values())), default=0)
        )
        if seconds is None:
            return ''
        at = time.strftime('%a %d %b %H:%M', time.localtime(time.time() + seconds))
        return f', {timedelta(seconds=round(seconds))} left, about {at}'


class _Watched:
    """One running trial on the screen."""

    def __init__(self, trial, shown):
        self.trial, self._shown = trial, shown
        self._epochs, self._done, self._row, self._step = None, 0, {}, None
        self._minute = time.monotonic()
        self.seconds_left = None

    def begin(self, facts):
        """Shows what the trial is about to do.

        Args:
            facts (dict): ``trial``, ``data``, ``variant``, ``images``, ``wrong`` (fraction or
                ``None``), ``method``, ``stages`` (epochs by name), ``steps_per_epoch``,
                ``environment`` (as in its result) and ``out``.
        """
        self._epochs = sum(facts['stages'].values())
        shown = self._shown
        shown.say_once(
            'data',
            f'data     {facts["data"]}, {facts["variant"]}; {facts["images"]:,} training images',
        )
        shown.say_once('machine', f'machine  {place(facts)}')
        # Trials of a sweep have sub-folders of one folder, which is shown once.
        folder = Path(facts['out'])
        folder = folder.parent if shown.total > 1 and folder.name == self.trial else folder
        shown.say_once('out', f'results  {folder}')
        wrong = facts['wrong']
        labels = 'wrong labels unknown' if wrong is None else f'{100 * wrong:.1f} % wrong labels'
        stages = ', '.join(f'{name} {epochs}' for name, epochs in facts['stages'].items())
        shown.say(
            f'{self.trial}: {facts["method"]}; {labels}; epochs: {stages}; '
            f'{count_of(facts["steps_per_epoch"], "step")} per epoch'
        )

    def start(self, epochs, rows):
        """Shows the start of a trial of ``epochs`` epochs, or its resumption after ``rows``."""
        self._epochs, self._done = epochs, len(rows)
        self._shown.arrival.place(self.trial, self._done, epochs)
        if rows:
            self._row = rows[-1]
            self._shown.say(f'{self.trial}: resumes after epoch {len(rows)} of {epochs}')

    def step(self, progress):
        """Shows the progress after a training step.

        Args:
            progress (dict): ``stage``, ``stage_epoch`` (from 1), ``step`` of ``steps``,
                ``epochs_done`` of ``epochs``, ``seconds_left`` (or ``None``) and ``loss``.
        """
        self._step, self._epochs = progress, progress['epochs']
        self.seconds_left = progress['seconds_left']
        self._done = progress['epochs_done']
        self._shown.arrival.place(self.trial, self._done + self._within(), self._epochs)
        # The running trials share the one line per minute.
        share = PLAIN_SECONDS * max(1, len(self._shown.running))
        if not self._shown.live and time.monotonic() - self._minute >= share:
            self._minute = time.monotonic()
            self._shown.say(f'{self.trial}: {self._place()}  {_loss(progress)}  {self._left()}')

    def epoch(self, row):
        """Shows a completed epoch; ``row`` is its row of the log."""
        self._row, self._step, self._done = row, None, row['epoch']
        if self._epochs:
            self._shown.arrival.place(self.trial, self._done, self._epochs)
        self._minute = time.monotonic()
        if not self._shown.live:
            count = f'epoch {row["epoch"]}/{self._epochs} {row["stage"]}'
            self._shown.say(f'{self.trial}: {count}  {_figures(row)}  {row["seconds"]:.1f} s')

    def drawn(self):
        """Yields the lines of the trial for a terminal: a bar, and below it the figures."""
        count = f'{self._done}/{self._epochs or "?"}'
        done = self._done + self._within()
        yield _bar(self.trial, done, self._epochs or 1, count, self._left())
        if self._step:
            yield _line(f'  {self._place()}  {_loss(self._step)}')
        if self._row:
            yield _line(f'  {_figures(self._row)}', 'dim')

    def cells(self):
        """Returns the trial's cells in the table of several trials, by ``TRIAL_COLUMNS``."""
        row, seconds = self._row or {}, self.seconds_left
        # The user's own images have no test set.
        accuracy = row.get('test/main/accuracy', row.get('validation/main/accuracy'))
        return (
            self.trial,
            (self._step or row).get('stage', ''),
            f'{self._done}/{self._epochs or "?"}',
            *('' if v is None else f'{v:.3f}' for v in (accuracy, row.get('label_accuracy'))),
            '' if seconds is None else f'{timedelta(seconds=round(seconds))}',
        )

    def _within(self):
        """Returns the trained fraction of the current epoch; 0 after its last step."""
        # `epochs_done` already counts an epoch whose last step is done.
        return self._step['step'] / self._step['steps'] % 1 if self._step else 0

    def _place(self):
        step = self._step
        return (
            f'epoch {step["epochs_done"] + (step["step"] < step["steps"])}/{step["epochs"]} '
            f'{step["stage"]}, '
            f'step {step["step"]}/{step["steps"]}'
        )

    def _left(self):
        seconds = self.seconds_left
        return '' if seconds is None else f'{timedelta(seconds=round(seconds))} left'


@contextmanager
def counting(title):
    """Yields a function (done, total) that shows a count, its rate, and the time left.

    It draws a bar on a terminal, and elsewhere writes a line per minute and one at the end.
    """
    begun, due, place = time.monotonic(), PLAIN_SECONDS, (0, 1)

    def words(done, total):
        seconds = max(time.monotonic() - begun, 1e-3)
        left = timedelta(seconds=round((total - done) * seconds / max(done, 1)))
        return f'{done:,}/{total:,}, {done / seconds:,.0f} per second', f'{left} left'

    def drawn():
        return _bar(title, *place, *words(*place))

    def count(done, total):
        nonlocal due, place
        place = done, total
        seconds = time.monotonic() - begun
        if (seconds >= due and not live) or done == total:
            due = seconds + PLAIN_SECONDS
            say(f'{title}: {", ".join(words(*place))}')

    with _drawing(drawn) as live:
        yield count


@contextmanager
def _drawing(drawn):
    """Redraws ``drawn()`` on a terminal while the block runs; else yields ``None``."""
    # isatty() of the stream decides: with FORCE_COLOR rich takes even a file for a terminal.
    if not sys.stderr.isatty() or os.environ.get('TERM') == 'dumb':
        yield None
        return
    # Imported on use, because without a terminal rich is not needed.
    from rich.console import Console
    from rich.live import Live

    screen = Console(file=_Unfailing(sys.stderr))
    with Live(console=screen, get_renderable=drawn, transient=True) as live:
        yield live


class _Unfailing:
    """A stream whose errors are ignored, because the terminal may go away while trials run."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self):
        with suppress(OSError, ValueError):
            self._stream.flush()


def accuracies(result):
    """Returns the accuracies in a ``result.json`` as text: on test or else validation images."""
    part = 'validation' if result['best'].get('test_accuracy') is None else 'test'
    words = [f'{which} {result[which][f"{part}_accuracy"]:.4f}' for which in ('best', 'last')]
    if result.get('label_accuracy') is not None:
        words.append(f'labels {result["label_accuracy"]:.4f}')
    return '  '.join(words)


def _bar(name, done, total, count, left):
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    row = Table.grid(padding=(0, 1), expand=True)
    # Name and bar share the space left by the figures. A long name is cut off with an ellipsis.
    row.add_column(ratio=3, no_wrap=True, overflow='ellipsis')
    row.add_column(ratio=2)
    row.add_column(no_wrap=True, justify='right')
    row.add_column(no_wrap=True, justify='right', min_width=12)
    row.add_row(name, ProgressBar(total=total, completed=done), count, left)
    return row


def _trial_table(rows):
    """Returns a table with one line per trial; names are cut off to fit the figures."""
    from rich.table import Table

    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style='dim')
    for name in TRIAL_COLUMNS:
        table.add_column(
            name,
            ratio=1 if name == 'trial' else None,
            no_wrap=True,
            overflow='ellipsis',
            justify='left' if name in ('trial', 'stage') else 'right',
        )
    for cells in rows:
        table.add_row(*cells)
    return table


def _figures(row):
    named = ((name, row.get(key)) for key, name in FIGURES.items())
    return '  '.join(f'{name} {value:.3f}' for name, value in named if value is not None)


def _loss(progress):
    return '' if progress['loss'] is None else f'loss {progress["loss"]:.3f}'


def _line(text, style=''):
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow='ellipsis')
