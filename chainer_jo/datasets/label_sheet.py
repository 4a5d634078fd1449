"""Reads and writes CSV tables of paths and labels.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, and some do so
for the full-width forms of these characters. A file name may begin with any of them. Therefore
:func:`written` puts an apostrophe before such cells, and :func:`read` can remove it.
"""

import csv
import difflib
import io

from chainer_jo import store
from chainer_jo.errors import DataError, excerpt

#: A cell that begins with one of these gets an apostrophe. The apostrophe is among them, so that
#: reading is unambiguous.
RISKY = (*'=+-@', *'\uff1d\uff0b\uff0d\uff20', '\t', '\r', '\n', "'")
PATHS = ('path', 'file', 'filename', 'file_name', 'image', 'image_path', 'filepath', 'name')
LABELS = ('label', 'class', 'given_label', 'target', 'category', 'class_name', 'labels')
DELIMITERS = ',;\t|'
#: Enough for some millions of images, one per line.
MOST_BYTES = 2**28


def cell(value):
    """Returns a value as the text of a cell that no spreadsheet runs as a formula.

    Args:
        value (object): Text, or a number of at least 0; ``None`` gives an empty cell.
    """
    text = '' if value is None else str(value)
    return f"'{text}" if text.startswith(RISKY) else text


def value(text):
    """Returns the text from which :func:`cell` made a cell."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(RISKY) else text


def written(columns, rows):
    """Returns a table as the bytes of a CSV file.

    Args:
        columns (sequence of str): Names of the columns.
        rows (iterable of dict): Values by column. The cell of a missing value is empty.
    """
    lines = [map(cell, columns), *([cell(row.get(column)) for column in columns] for row in rows)]
    # A file name need not be UTF-8; surrogateescape writes its bytes unchanged.
    return ''.join(map(_line, lines)).encode('utf-8', 'surrogateescape')


def _line(cells):
    file = io.StringIO(newline='')
    # With this lineterminator csv quotes a CR or LF inside a cell; readers end a line at either.
    csv.writer(file, lineterminator='\r\n').writerow(cells)
    return file.getvalue().removesuffix('\r\n') + '\n'


def read(path, own=False):
    """Returns the rows of a CSV file as dicts from column name, in lower case, to text.

    Cells are separated by commas, semicolons, tabs or bars. A byte order mark, the kind of line
    ends, empty lines and empty columns at the end do not matter.

    Args:
        path (str or os.PathLike): The file, UTF-8.
        own (bool): Whether :func:`written` wrote it. Its apostrophes are then removed.

    Raises:
        DataError: The file is missing, is not text, has no rows, or has a row with more cells than
            columns.
        WriteError: The user has no permission to read it.
    """
    lines = _rows(path, _text(path))
    columns = [name.strip().lower() for name in lines[0][1]] if lines else []
    while columns and not columns[-1]:
        columns.pop()
    if len(lines) < 2:
        raise _refusal(path, 'no rows below the names of its columns', 'write a row for each image')
    if len(set(columns)) < len(columns):
        raise _refusal(path, f'columns {excerpt(", ".join(columns))}', 'name every column once')
    rows = []
    for number, cells in lines[1:]:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise _refusal(
                path,
                f'{len(cells)} cells in line {number}, but {len(columns)} columns',
                'put a cell with a delimiter in it into double quotes',
            )
        cells = [*cells, *[''] * len(columns)][: len(columns)]
        rows.append(dict(zip(columns, map(value, cells) if own else cells, strict=True)))
    return rows


def labels(path):
    """Reads a user's CSV file: returns ``{relative path: label}`` in the order of the file.

    Raises:
        DataError: As for :func:`read`; or there is no column of paths or of labels, or a path has
            two labels.
        WriteError: The user has no permission to read it.
    """
    rows = read(path)
    if any(row.get('final_label', '').strip() for row in rows):
        raise _refusal(
            path,
            'answers in the column final_label, which would be ignored',
            'put it into the folder of --out as labels.csv, without --labels; or delete the column',
        )
    images, given = _column(path, rows[0], PATHS, 'paths'), _column(path, rows[0], LABELS, 'labels')
    pairs = ((row[images].removeprefix('./'), row[given].strip()) for row in rows)
    return one_label_each(path, pairs)


def one_label_each(path, pairs):
    """Returns ``{image: label}`` of pairs from a table; raises DataError if an image has two."""
    found = {}
    for image, label in pairs:
        if image and found.setdefault(image, label) != label:
            first, second = (excerpt(name, 30) or 'none' for name in (found[image], label))
            raise _refusal(
                path,
                f'{excerpt(image)} has the labels {first} and {second}',
                'give every path one label',
            )
    return found


def require(path, rows, column):
    """Raises DataError if the rows that :func:`read` returned do not have a column."""
    if column not in rows[0]:
        raise _refusal(
            path,
            f'no column {column} among {excerpt(", ".join(rows[0]))}',
            'restore the column, or choose another folder with --out to start again',
        )


def _column(path, row, known, what):
    if name := next((name for name in known if name in row), None):
        return name
    near = [found for name in known for found in difflib.get_close_matches(name, row, 1)]
    raise _refusal(
        path,
        f'no column of {what} among {excerpt(", ".join(row))}',
        f'name the columns path and label in the first line{f" ({near[0]}?)" if near else ""}',
    )


def _text(path):
    try:
        content = store.read_regular(path, 'name a CSV file that exists', MOST_BYTES)
    except DataError as error:
        raise _refusal(path, error.seen, error.fix) from None
    except ValueError as error:  # The path contains a NUL.
        raise _refusal(path, str(error), 'name a CSV file that exists') from None
    if content.startswith((b'\xff\xfe', b'\xfe\xff')) or b'\0' in content:
        raise _refusal(path, 'not UTF-8 text', 'save it as "CSV UTF-8"')
    return content.removeprefix(b'\xef\xbb\xbf').decode('utf-8', 'surrogateescape')


def _rows(path, text):
    """Returns (line number, cells) of every line that is not empty."""
    # Spreadsheets write semicolons in countries whose decimal mark is the comma.
    first = text.partition('\n')[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise _refusal(
            path, f'{error} in line {reader.line_num}', 'fix the quotes, or save it again as CSV'
        ) from None


def _refusal(path, seen, fix):
    return DataError(f'cannot use the table {excerpt(path, 200)}', seen=seen, fix=fix)
