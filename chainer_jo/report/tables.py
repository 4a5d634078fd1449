"""The cells of a table as rows of numbers, and as CSV."""

import csv
import io
import json
import statistics

COLUMNS = (
    'table',
    'method',
    'noise',
    'rate',
    'trials',
    'best_mean',
    'best_std',
    'last_mean',
    'last_std',
    'label_accuracy_mean',
    'paper_best',
    'paper_last',
    'modified',
)


def rows(grid, published, cells):
    """Returns a dict with the keys :data:`COLUMNS` for every cell.

    Accuracies are fractions, not rounded. ``None`` means not run, not in the paper, or not known
    (without a test set or true labels); the standard deviation of a single trial is ``None`` too.
    """
    printed = {(row['method'], row['noise'], row['rate']): row for row in published}
    return [_row(grid['table'], cell, printed) for cell in cells]


def _row(table, cell, printed):
    paper = printed.get((cell.method, cell.noise, cell.rate), {})
    best_mean, best_std = mean_and_std([r['best']['test_accuracy'] for r in cell.results])
    last_mean, last_std = mean_and_std([r['last']['test_accuracy'] for r in cell.results])
    return {
        'table': table,
        'method': cell.method,
        'noise': cell.noise,
        'rate': cell.rate,
        'trials': len(cell.results),
        'best_mean': best_mean,
        'best_std': best_std,
        'last_mean': last_mean,
        'last_std': last_std,
        'label_accuracy_mean': mean_and_std([r['label_accuracy'] for r in cell.results])[0],
        'paper_best': paper.get('best'),
        'paper_last': paper.get('last'),
        'modified': list(cell.modified),
    }


def mean_and_std(values):
    """Returns mean and sample standard deviation; ``None`` if they cannot be computed."""
    # A mean over only the known values would be another quantity under the same name.
    if None in values:
        return None, None
    mean = statistics.mean(values) if values else None
    # With n - 1: the trials are a sample of all possible ones.
    return mean, statistics.stdev(values) if len(values) > 1 else None


def to_csv(rows, columns=COLUMNS):
    """Returns rows as CSV: numbers are not rounded, lists are JSON, and ``None`` is empty."""
    file = io.StringIO()
    # By default the csv module ends lines with \r\n.
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(columns)
    for row in rows:
        values = (row[column] for column in columns)
        writer.writerow(json.dumps(v) if isinstance(v, list) else v for v in values)
    return file.getvalue()
