"""Progress for people, on stderr: live bars on a terminal, one plain line an epoch elsewhere."""

import sys
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrialProgress:
    """Shows the epochs of several trials.

    Args:
        total (int): Number of trials, done ones included.
        done (int): How many of them are done.
    """

    def __init__(self, total=1, done=0):
        self.total, self.done = total, done
        self._bars, self._tasks, self._epochs = None, {}, {}

    @contextmanager
    def shown(self):
        """Draws bars while the block runs, if stderr is a terminal."""
        console = Console(stderr=True)
        if not console.is_terminal:
            yield self
            return
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.completed:.0f}/{task.total:.0f}'),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn('{task.fields[figures]}'),
        )
        with Progress(*columns, console=console) as self._bars:
            yield self

    def start(self, trial, epochs, rows):
        """A trial of ``epochs`` epochs begins, or goes on after ``rows``."""
        self._epochs[trial] = epochs
        if self._bars:
            self._tasks[trial] = self._bars.add_task(
                trial, total=epochs, completed=len(rows), figures=''
            )
        elif rows:
            say(f'{trial}: goes on after epoch {len(rows)} of {epochs}')

    def epoch(self, trial, row):
        """An epoch of a trial is over."""
        figures = (
            f'loss {row["main/loss"]:.3f}  accuracy {row["main/accuracy"]:.3f}  '
            f'validation {row["validation/main/accuracy"]:.3f}  '
            f'test {row["test/main/accuracy"]:.3f}  labels {row["label_accuracy"]:.3f}'
        )
        if self._bars:
            self._bars.update(self._tasks[trial], completed=row['epoch'], figures=figures)
        else:
            count = f'epoch {row["epoch"]}/{self._epochs[trial]} {row["stage"]}'
            say(f'{trial}: {count}  {figures}  {row["seconds"]:.1f} s')

    def finish(self, trial, result):
        """A trial is done."""
        self.done += 1
        # Another process may have finished it, and then there is no bar.
        if trial in self._tasks:
            self._bars.remove_task(self._tasks.pop(trial))
        say(
            f'{trial}: done ({self.done} of {self.total})  '
            f'best {result["best"]["test_accuracy"]:.4f}  '
            f'last {result["last"]["test_accuracy"]:.4f}  labels {result["label_accuracy"]:.4f}',
            self._bars,
        )


def say(text, bars=None):
    """Writes a line to stderr, above the bars if there are any."""
    if bars:
        bars.console.print(text, highlight=False, markup=False)
    else:
        print(text, file=sys.stderr, flush=True)
