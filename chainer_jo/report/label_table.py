"""``labels.csv``: a row for every image, to be reviewed and corrected in a spreadsheet."""

import codecs
import os
from pathlib import Path

from chainer_jo.datasets import label_sheet

#: Named as in cleanlab, where it has such a column.
COLUMNS = (
    'path', 'given_label', 'predicted_label', 'corrected_label', 'final_label', 'label_score',
    'is_label_issue', 'entropy', 'duplicate_group', 'split', 'reason',
)  # fmt: skip
NAME = 'labels.csv'


def finals(path):
    """Returns what a user wrote into the column ``final_label``: ``{path of image: label}``.

    Args:
        path (pathlib.Path): The file; if it does not exist, the result is empty.

    Raises:
        DataError: The file is not a table any more, lacks a column, or has two answers for an
            image.
        WriteError: There is no permission to read the file.
    """
    if not os.path.exists(path):
        return {}
    rows = label_sheet.read(path, own=True)
    for column in ('path', 'final_label'):
        label_sheet.require(path, rows, column)
    # Not stripped: a class is a folder, whose name may end with a space.
    answers = ((row['path'], row['final_label']) for row in rows if row['final_label'].strip())
    return label_sheet.one_label_each(path, answers)


def notes(path):
    """Returns what a user wrote into columns of their own: ``{path of image: {column: text}}``.

    Args:
        path (pathlib.Path): The file, as for :func:`finals`, which checks it.
    """
    if not os.path.exists(path):
        return {}
    return {
        row['path']: {column: text for column, text in row.items() if column not in COLUMNS}
        for row in label_sheet.read(path, own=True)
    }


def rows(found, classes, judgement, groups, held_out):
    """Returns the rows of the table: dicts by column.

    Args:
        found (Folder): Every image.
        classes (sequence of str): Names of the classes.
        judgement (Judgement): Judgement of the usable images, in the order of ``found.usable``.
        groups (numpy.ndarray): Group of identical images, ``(N,)``, integers; 0 for none.
        held_out (numpy.ndarray): Which images were held out, ``(N,)``, bool.
    """
    table = [
        {
            'path': row.path,
            'given_label': row.label,
            'corrected_label': row.believed,
            'final_label': row.final,
            'reason': row.reason,
        }
        for row in found.rows
    ]
    members = {}
    for i, group in zip(found.usable, groups, strict=True):
        members.setdefault(group, []).append(found.rows[i])
    for n, i in enumerate(found.usable):
        row, seen = found.rows[i], table[i]
        predicted = classes[judgement.predicted[n]]
        score = float(judgement.score[n])
        # An image without a given label is answered, not corrected.
        issue = bool(row.label and judgement.issue[n])
        if row.final:
            # The user's answer replaces the net's judgement.
            issue = row.label not in ('', row.final)
            score = float(not issue)
        seen |= {
            'predicted_label': predicted,
            'corrected_label': row.final or classes[judgement.corrected[n]],
            'label_score': f'{score:.4f}',
            'is_label_issue': issue,
            'entropy': f'{float(judgement.entropy[n]):.4f}',
            'duplicate_group': int(groups[n]) or None,
            'split': 'held out' if held_out[n] else 'train',
        }
        if groups[n]:
            other = next((o for o in members[groups[n]] if o.believed != row.believed), None)
            if other:
                seen['reason'] = f'the same image as {other.path}, which is {other.believed}'
    return table


def written(table):
    """Returns the rows as the bytes of ``labels.csv``; columns of the user's own come last."""
    columns = dict.fromkeys([*COLUMNS, *(column for row in table for column in row)])
    # With the mark, a spreadsheet knows that names such as "café" are UTF-8, and saves them so.
    return codecs.BOM_UTF8 + label_sheet.written(columns, table)


def summary(table):
    """Returns counts of rows by what was found, as plain JSON values."""
    return {
        'images': len(table),
        'judged': sum('label_score' in row for row in table),
        'issues': sum(row.get('is_label_issue', False) for row in table),
        'changed': sum(
            row.get('is_label_issue', False) and row['corrected_label'] != row['given_label']
            for row in table
        ),
        'answered': sum(bool(row['final_label']) for row in table),
        'duplicates': sum(bool(row.get('duplicate_group')) for row in table),
        'conflicts': len(
            {row['duplicate_group'] for row in table if row['reason'].startswith('the same')}
        ),
        'left_out': sum('label_score' not in row for row in table),
    }


def cleaned(table):
    """Returns a tree with each judged image in the folder of its label, as ``(path, image)`` pairs.

    Args:
        table (list of dict): The return value of :func:`rows`.
    """
    judged = [row for row in table if 'label_score' in row]
    # Images that stay in their class come first, so that they keep their names.
    judged.sort(key=lambda row: row['corrected_label'] != row['given_label'])
    tree = {}
    for row in judged:
        first, slash, rest = row['path'].partition('/')
        inner = rest if slash and first == row['given_label'] else row['path']
        path = Path(_folder(row['corrected_label'])) / inner
        # Images from different folders may have the same name.
        for number in range(1, len(judged) + 1):
            if str(path) not in tree:
                break
            path = path.with_name(f'{Path(inner).stem} ({number}){Path(inner).suffix}')
        tree[str(path)] = row['path']
    return list(tree.items())


def _folder(label):
    """Returns a label as a valid name of a single folder."""
    # A slash would make sub-folders, and '.' and '..' would name other folders.
    label = label.replace('%', '%25').replace('/', '%2F')
    return label.replace('.', '%2E') if label.strip('.') == '' else label
