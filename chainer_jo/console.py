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
        names = {
            'loss': 'main/loss',
            'accuracy': 'main/accuracy',
            'validation': 'validation/main/accuracy',
            'test': 'test/main/accuracy',
            'labels': 'label_accuracy',
        }
        # A set without a test part or true labels has fewer of them.
        figures = '  '.join(f'{n} {row[key]:.3f}' for n, key in names.items() if key in row)
        if self._bars:
            self._bars.update(self._tasks[trial], completed=row['epoch'], figures=figures)
        else:
            count = f'epoch {row["epoch"]}/{self._epochs[trial]} {row["stage"]}'
            say(f'{trial}: {count}  {figures}  {row["seconds"]:.1f} s')

    def download(self, name, done, total):
        """So many bytes of a file are here."""
        if self._bars:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total, figures='')
            self._bars.update(self._tasks[name], completed=done)

    def finish(self, trial, result):
        """A trial is done."""
        self.done += 1
        # Another process may have finished it, and then there is no bar.
        if trial in self._tasks:
            self._bars.remove_task(self._tasks.pop(trial))
        say(
            f'{trial}: done ({self.done} of {self.total})  {figures(result)}',
            self._bars,
        )


def figures(result):
    """Returns the accuracies of a result in one line: of the test set, or else of validation."""
    part = 'test' if result['best']['test_accuracy'] is not None else 'validation'
    words = [f'{which} {result[which][f"{part}_accuracy"]:.4f}' for which in ('best', 'last')]
    if result['label_accuracy'] is not None:
        words.append(f'labels {result["label_accuracy"]:.4f}')
    return '  '.join(words)


def say(text, bars=None):
    """Writes a line to stderr, above the bars if there are any."""
    if bars:
        bars.console.print(text, highlight=False, markup=False)
    else:
        print(text, file=sys.stderr, flush=True)
