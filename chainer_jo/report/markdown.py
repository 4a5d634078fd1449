"""Rows of a table as Markdown in the paper's layout, with the footnotes that its numbers need."""

import string

from chainer_jo import datasets, paper

DATASETS = {'clothing1m': 'Clothing1M'} | datasets.TITLES


def to_markdown(grid, rows, cells):
    """Returns the table in the paper's layout.

    A column is a noise rate; a method has the lines best, last and labels. Percent with two
    decimals: mean ± standard deviation (trials), under it the paper's number and the difference.
    """
    columns, shown = paper.columns(grid), _shown(rows)
    marks = marks_of(row for row in shown if not _is_asked_for(grid, row['modified']))
    by_method = {}
    for row in shown:
        by_method.setdefault((row['method'], tuple(row['modified'])), []).append(row)
    lines = [f'**{grid["caption"]}**{_where(grid)}', '']
    lines += header(['method', ''] + [column_title(grid, column) for column in columns])
    for (method, modified), group in by_method.items():
        name = method_title(grid, method) + _sign(group, shown)
        if modified:
            name += f' [{marks[modified]}]' if modified in marks else f', {code(modified)}'
        lines += _method_lines(name, columns, group)
    return '\n'.join([*lines, '', *_footnotes(grid, shown, cells, marks)]) + '\n'


def _is_asked_for(grid, modified):
    """Whether a row's departures are a variant of the grid, and so its very subject."""
    return sorted(modified) in [sorted(variant) for variant in grid.get('variants', [])]


def _shown(rows):
    """All rows; only the modified ones where nothing else has been run."""
    modified = [row for row in rows if row['modified']]
    as_printed = any(row['trials'] for row in rows if not row['modified'])
    return rows if as_printed or not modified else modified


def header(titles):
    """Returns the two lines that open a Markdown table."""
    return [f'| {" | ".join(titles)} |', '| ' + ' | '.join('---' for _ in titles) + ' |']


def column_title(grid, column):
    """Returns the words for a ``(noise, rate)`` column."""
    noise, rate = column
    if rate is None:
        return noise
    return percent(rate, 0) if isinstance(grid['noise'], str) else f'{noise} {percent(rate, 0)}'


def method_title(grid, method):
    """Returns the title that people read."""
    return grid['titles'][method]


def marks_of(rows):
    """Returns ``{modified: a, b, …}``: a short sign for every set of departures in the rows."""
    kinds = dict.fromkeys(tuple(row['modified']) for row in rows if row['modified'])
    return {kind: _letters(number) for number, kind in enumerate(kinds)}


def _letters(number):
    more = _letters(number // 26 - 1) if number >= 26 else ''
    return more + string.ascii_lowercase[number % 26]


def _sign(group, rows):
    """A star marks a method that the paper's table does not have."""
    method = group[0]['method']
    printed = {row['method'] for row in rows if row['paper_best'] is not None}
    return '' if method in printed or not printed else ' \\*'


def _method_lines(name, columns, group):
    by_column = {(row['noise'], row['rate']): row for row in group}
    lines = []
    for which in ('best', 'last', 'labels'):
        texts = (_cell_text(by_column.get(column), which) for column in columns)
        lines.append(f'| {name} | {which} | {" | ".join(texts)} |')
        name = ''
    return lines


def _cell_text(row, which):
    if row is None:
        return ''
    if which == 'labels':
        return percent(row['label_accuracy_mean'])
    mean, std, paper = row[f'{which}_mean'], row[f'{which}_std'], row[f'paper_{which}']
    if mean is None:
        return 'not run' + (f'<br>paper {percent(paper)}' if paper is not None else '')
    text = percent(mean) + (f' ± {percent(std)}' if std is not None else '')
    text += f' ({row["trials"]})'
    if paper is not None:
        text += f'<br>paper {percent(paper)}, {points(mean - paper)}'
    return text


def percent(fraction, decimals=2):
    """Returns a fraction in percent, without the sign where it has decimals; nothing for `None`."""
    if fraction is None:
        return ''
    return f'{100 * fraction:.{decimals}f}' if decimals else f'{100 * fraction:g} %'


def points(difference):
    """Returns a difference of fractions in signed percentage points."""
    return f'{100 * difference:+.2f}'.replace('-', '−')


def _where(grid):
    """What a preset changes of the caption, which is the paper's."""
    if grid['preset'] == 'paper':
        return ''
    return f'; here: preset {grid["preset"]}, {dataset_title(grid["dataset"])}'


def _footnotes(grid, rows, cells, marks):
    notes = [
        'Test accuracy in percent: mean ± sample standard deviation (trials). best: at the epoch '
        'of the best validation accuracy; last: after the last epoch; labels: share of correct '
        'labels in the label store at the end.'
    ]
    if any(row['paper_best'] is not None for row in rows):
        notes.append(_about_the_paper(grid))
    if any(_sign([row], rows) for row in rows):
        notes.append("\\* not in the paper's table; added here.")
    notes += [f'[{m}] departs from the preset: {code(kind)}.' for kind, m in marks.items()]
    notes += _data_notes(cells)
    notes += grid.get('notes', [])
    notes.append(f'Made by `{table_command(grid, cells)}`.')
    return [line for note in notes for line in (note, '')][:-1]


def _about_the_paper(grid):
    text = "Under it: the paper's printed number, which has no spread, and the difference in points"
    if grid['preset'] == 'paper':
        return text + '; a row marked with a letter departs from the paper and is no comparison.'
    return (
        text + f'. **Not comparable**: preset {grid["preset"]} uses other data, a smaller net and '
        "a shorter schedule; the paper's numbers are for CIFAR-10."
    )


def code(modified):
    """Returns overrides as Markdown code spans."""
    return ', '.join(f'`{override}`' for override in modified)


def _data_notes(cells):
    notes = dict.fromkeys(data_note(result) for cell in cells for result in cell.results)
    return list(notes) or ['No trial of this table has been run.']


def data_note(result):
    """Returns one sentence about the data and the validation labels of a trial."""
    data, common = result['data'], result['config']['common']
    return (
        f'Data: {data_title(data)}, digest `{data["digest"][:16]}`; {data["train"]:,} training, '
        f'{data["validation"]:,} validation and {data["test"]:,} test images; '
        f'validation labels: {common.get("validation_labels", "clean")}.'
    )


def data_title(data):
    """Returns the name and variant of a data set, such as ``CIFAR-10 (official)``."""
    return f'{dataset_title(data["name"])} ({data["variant"]})'


def dataset_title(name):
    """Returns the name of a data set as people write it."""
    return DATASETS.get(name, name)


def table_command(grid, cells=()):
    """Returns the command that runs a table, or the part of it that the cells have results of."""
    run = [cell for cell in cells if cell.results]
    command = f'python -m chainer_jo run {grid["table"]} --preset {grid["preset"]}'
    trials = max((len(cell.results) for cell in run), default=grid['trials'])
    for option, seen, usual in (
        ('only', _different(cell.method for cell in run), grid['methods']),
        ('rates', _different(cell.rate for cell in run), grid['rates']),
        ('trials', [trials], [grid['trials']]),
    ):
        if seen and set(seen) != set(usual):
            command += f' --{option} {",".join(map(str, seen))}'
    return command + ('' if grid['dataset'] == 'fashion_mnist' else ' --data DIR')


def _different(values):
    return list(dict.fromkeys(values))
