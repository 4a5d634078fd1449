"""Rows of a table as Markdown in the paper's layout, with footnotes."""

import string

from chainer_jo import paper
from chainer_jo.report import least_p, machines, made_by, tables
from chainer_jo.report.data_notes import data_note, dataset_title, weights_note
from chainer_jo.report.escape import code

LINES = {'best': 'best_mean', 'last': 'last_mean', 'labels': 'label_accuracy_mean'}
UNKNOWN = {
    'best': 'test accuracy (there is no test set)',
    'last': 'test accuracy (there is no test set)',
    'labels': 'share of correct labels (the true labels are not known)',
}


def to_markdown(grid, rows, cells, reference=None, out=None):
    """Returns the table in the paper's layout.

    Each column is a noise rate, and each method has the lines best, last and labels. A cell has the
    mean ± standard deviation (trials) in percent with two decimals; below it are the committed run
    and the paper's number, if they can be compared. Lines without any value are left out, and a
    footnote names them.

    Args:
        grid (dict): ``paper.grid`` with ``table``, ``preset`` and ``titles``.
        rows (list of dict): The return value of ``tables.rows``.
        cells (list of Cell): The cells of these rows.
        reference (Reference): Committed runs to show as well, if there are any.
        out (str): Value of ``--out``; ``None`` for the preset's own folder.
    """
    columns, shown = paper.columns(grid), shown_rows(rows)
    marks = marks_of(row for row in shown if not _is_asked_for(grid, row['modified']))
    which = [name for name in LINES if not _is_unknown(shown, name)]
    by_method = {}
    for row in shown:
        by_method.setdefault((row['method'], tuple(row['modified'])), []).append(row)
    lines = [
        f'**{grid["caption"]}**: {dataset_title(grid["dataset"])}, preset {grid["preset"]}',
        '',
    ]
    lines += header(['method', ''] + [column_title(grid, column) for column in columns])
    for (method, modified), group in by_method.items():
        name = method_title(grid, method) + _sign(group, shown)
        if modified:
            name += f' [{marks[modified]}]' if modified in marks else f', {codes(modified)}'
        lines += _method_lines(grid, name, columns, group, which, reference)
    notes = _footnotes(grid, shown, cells, marks, which, reference, out)
    return '\n'.join([*lines, '', *[line for note in notes for line in (note, '')][:-1]]) + '\n'


def _is_unknown(rows, which):
    """Returns whether trials were run, but none of them has a value for this line."""
    run = [row for row in rows if row['trials']]
    return bool(run) and all(row[LINES[which]] is None for row in run)


def _is_asked_for(grid, modified):
    """Returns whether a row's departures are a variant that the grid asks for."""
    return sorted(modified) in [sorted(variant) for variant in grid.get('variants', [])]


def shown_rows(rows):
    """Returns all rows, or only the modified ones if no other was run."""
    modified = [row for row in rows if row['modified']]
    as_printed = any(row['trials'] for row in rows if not row['modified'])
    return rows if as_printed or not modified else modified


def header(titles):
    """Returns the two header lines of a Markdown table."""
    return [f'| {" | ".join(titles)} |', '| ' + ' | '.join('---' for _ in titles) + ' |']


def column_title(grid, column):
    """Returns the title of a ``(noise, rate)`` column."""
    noise, rate = column
    if rate is None:
        return {'none': 'labels as they are'}.get(noise, noise.removeprefix('file:'))
    return percent(rate, 0) if isinstance(grid['noise'], str) else f'{noise} {percent(rate, 0)}'


def method_title(grid, method):
    """Returns the title of a method, for people."""
    return grid['titles'][method]


def marks_of(rows):
    """Returns ``{modified: letter}``: a letter for every set of departures in the rows."""
    kinds = dict.fromkeys(tuple(row['modified']) for row in rows if row['modified'])
    return {kind: _letters(number) for number, kind in enumerate(kinds)}


def _letters(number):
    # After z comes aa, as in a spreadsheet.
    more = _letters(number // 26 - 1) if number >= 26 else ''
    return more + string.ascii_lowercase[number % 26]


def _sign(group, rows):
    """Returns a star for a method that is not in the paper's table."""
    method = group[0]['method']
    printed = {row['method'] for row in rows if row['paper_best'] is not None}
    return '' if method in printed or not printed else ' \\*'


def _method_lines(grid, name, columns, group, which, reference):
    by_column = {(row['noise'], row['rate']): row for row in group}
    lines = []
    for line in which:
        texts = (_cell_text(grid, by_column.get(column), line, reference) for column in columns)
        lines.append(f'| {name} | {line} | {" | ".join(texts)} |')
        # Only the first line of a method has its name.
        name = ''
    return lines


def _cell_text(grid, row, which, reference):
    if row is None:
        return ''
    committed = reference and reference.row(row)
    texts = [own_text(row, which)]
    if committed:
        texts.append(f'reference {own_text(committed, which)}')
    texts += _paper_text(grid, row, which)
    return '<br>'.join(text for text in texts if text)


def own_text(row, which):
    """Returns mean ± standard deviation (trials) in percent; for labels only the mean."""
    mean, std = row[LINES[which]], row.get(f'{which}_std')
    if which == 'labels':
        return percent(mean)
    if mean is None:
        return 'unknown' if row['trials'] else 'not run'
    return percent(mean) + (f' ± {percent(std)}' if std is not None else '') + f' ({row["trials"]})'


def _paper_text(grid, row, which):
    """Returns the printed number, and the difference if the row is the paper's experiment."""
    printed = row.get(f'paper_{which}')
    if printed is None or grid['compare'] == 'none':
        return []
    text = f'paper {percent(printed)}'
    if is_compared(grid, row) and row[LINES[which]] is not None:
        text += f', {points(row[LINES[which]] - printed)}'
    return [text]


def is_compared(grid, row):
    """Returns whether a row's difference from the paper is meaningful."""
    # With any changed setting it is another experiment.
    return grid['compare'] == 'verdict' and not row['modified']


def percent(fraction, decimals=2):
    """Returns a fraction in percent, with a sign only if it has no decimals; '' for ``None``."""
    if fraction is None:
        return ''
    return f'{100 * fraction:.{decimals}f}' if decimals else f'{100 * fraction:g} %'


def points(difference):
    """Returns a difference of fractions in signed percentage points."""
    # A minus sign instead of a hyphen: as wide as the plus, and no line breaks after it.
    return f'{100 * difference:+.2f}'.replace('-', '−')


def _footnotes(grid, rows, cells, marks, which, reference, out):
    results = [result for cell in cells for result in cell.results]
    notes = [*_about_the_lines(which), *_left_out(which), *_about_the_paper(grid, rows)]
    if reference:
        notes.append(_about_the_reference(reference))
    if any(_sign([row], rows) for row in rows):
        notes.append("\\* not in the paper's table; added here.")
    notes += [f'[{m}] departs from the preset: {codes(kind)}.' for kind, m in marks.items()]
    notes.append(least_p.sentence(row['trials'] for row in rows))
    notes += dict.fromkeys(map(data_note, results)) or ['No trial of this table has been run.']
    notes += dict.fromkeys(map(weights_note, results))
    notes.append(_about_the_label_sets(grid, cells))
    notes += [machines.note(results), machines.code_note(results)]
    # Notes on printed numbers, where any are shown.
    notes += [] if grid['compare'] == 'none' else grid.get('paper_notes', [])
    if any(list(pair) in grid.get('without', []) for pair in _pairs(grid)):
        notes.append(grid['without_because'])
    commands = made_by.commands(grid, cells, out)
    listed = ', '.join(code(command, longest=2000) for command in commands)
    notes.append(f'{_made(grid, cells, results)} by {listed}.')
    return [note for note in notes if note]


def _made(grid, cells, results):
    if not results:
        return 'To be made'
    if made_by.are_whole(grid, cells):
        return 'Made'
    return 'To be made again, together with trials that are missing here,'


def _pairs(grid):
    return [(method, rate) for method in grid['methods'] for _, rate in paper.columns(grid)]


def _about_the_lines(which):
    meanings = {
        'best': 'best: at the epoch with the best validation accuracy',
        'last': 'last: after the last epoch',
        'labels': 'labels: share of correct labels at the end',
    }
    if which:
        yield (
            'Test accuracy in percent: mean ± sample standard deviation (number of trials). '
            + '; '.join(meanings[name] for name in which)
            + '.'
        )


def _left_out(which):
    missing = dict.fromkeys(UNKNOWN[name] for name in LINES if name not in which)
    if missing:
        yield f'Left out: {"; ".join(missing)}.'


def _about_the_label_sets(grid, cells):
    told = []
    for name in paper.label_sets(grid):
        own = [cell for cell in cells if cell.noise == f'file:{name}' and not _other_labels(cell)]
        # The training images differ by seed, and so does their share of wrong labels.
        share, _ = tables.mean_and_std([r['noise']['wrong'] for c in own for r in c.results])
        told += [f'{name} {percent(share)}'] if share is not None else []
    return f'Wrong labels in percent, as measured: {", ".join(told)}.' if told else ''


def _other_labels(cell):
    return any(item.startswith(('labels=', 'data=')) for item in cell.modified)


def _about_the_paper(grid, rows):
    if all(row['paper_best'] is None for row in rows):
        return
    if grid['compare'] == 'verdict':
        yield (
            'paper: the printed number, which has no spread, and the difference in points. A row '
            "that departs from the preset is not the paper's experiment: only `diff` prints its "
            'difference, without a verdict.'
        )
    elif grid['compare'] == 'orientation':
        yield (
            'paper: the printed number, for orientation only. It may differ because preset '
            f"{grid['preset']} is not the paper's experiment: {grid['differs']}."
            + (' Rows with a letter depart further.' if any(r['modified'] for r in rows) else '')
        )
    else:
        yield (
            f"The paper's numbers are not shown: preset {grid['preset']} cannot be compared with "
            f'them, because {grid["differs"]}.'
        )


def _about_the_reference(reference):
    return (
        f'reference: the committed trials in {code(reference.name)}. '
        f'{machines.note(reference.results)} Another processor gives other last digits.'
    )


def codes(modified):
    """Returns overrides as Markdown code spans."""
    return ', '.join(map(code, modified))
