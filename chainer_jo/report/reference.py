"""The committed runs in ``results/reference``, for comparison with a user's own runs."""

from dataclasses import dataclass
from pathlib import Path

from chainer_jo import paper
from chainer_jo.report import tables
from chainer_jo.report.cells import cells
from chainer_jo.report.collect import read_all

FOLDER = 'reference'


@dataclass(frozen=True)
class Reference:
    """A table's committed trials.

    Attributes:
        name (str): Their folder, such as ``results/reference/quick``.
        rows (dict): Maps ``(method, noise, rate, modified)`` to the row of :func:`tables.rows`, for
            cells of the user's table that were run.
        results (list of dict): The contents of their ``result.json``.
    """

    name: str
    rows: dict
    results: list

    def row(self, like):
        """Returns the committed row with the method, noise, rate and overrides of ``like``."""
        return self.rows.get(_key(like))


def is_reference(out):
    """Returns whether ``out`` (path) is itself a folder of committed runs."""
    return Path(out).parent.name == FOLDER


def find(out, grid, published, standard, own):
    """Returns the Reference for a table in ``out``, or ``None``.

    Its folder is in ``reference`` next to ``out``, and has the name of ``out`` or else that of the
    preset: ``results/reference/quick`` for ``results/quick`` and for ``results/mine``. Where a grid
    takes any data, committed trials on other data than those in ``out`` are left out.

    Args:
        own (list of Cell): The cells of ``out``; the others as for :func:`cells`.
    """
    out = Path(out)
    # Committed runs would be compared with themselves.
    if is_reference(out):
        return None
    data = {r['data']['digest'] for cell in own for r in cell.results if not cell.modified}
    shown = {(cell.method, cell.noise, cell.rate, cell.modified) for cell in own}
    # First the folder of the same name: results/quick_3_trials has one of its own.
    for name in dict.fromkeys([out.name, paper.folder(grid['table'], grid['preset'])]):
        folder = out.parent / FOLDER / name
        results = read_all(folder)[0]
        if grid.get('any_data') and data:
            results = [result for result in results if result['data']['digest'] in data]
        found = cells(grid, published, results, standard)
        rows = {_key(row): row for row in tables.rows(grid, published, found) if row['trials']}
        # Of trials on other data, for example, no number would stand in the table.
        rows = {key: row for key, row in rows.items() if key in shown}
        if rows:
            results = [r for cell in found if _key(vars(cell)) in rows for r in cell.results]
            return Reference(str(folder), rows, results)
    return None


def _key(row):
    return row['method'], row['noise'], row['rate'], tuple(row['modified'])
