"""Chooses the rows of a table that are the lines of a figure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        cell (Cell): Its trials, at least one.
        logs (list): The rows of ``log.jsonl`` of each trial.
        own (tuple of str): Those departures of the cell that are settings of its method, or the
            variant of the grid that it is. All lines of a figure share the others.
        is_asked_for (bool): Whether it is the unchanged method or a variant of the grid.
    """

    cell: object
    logs: list
    own: tuple = ()
    is_asked_for: bool = True

    @property
    def shared(self):
        """The departures that concern every method, such as other data or another precision."""
        return tuple(item for item in self.cell.modified if item not in self.own)


def lines(grid, cells, noise, rate, logs):
    """Returns the lines of one noise setting, and how many other rows have a log.

    All lines have the same data, precision and general settings: those of the grid if any such row
    was run, and otherwise those of most rows. A method is drawn unchanged and in the variants of
    the grid. If it was run in neither, but in one other way, it is drawn in that.

    Args:
        grid (dict): With ``variants``, if it has any.
        cells (list of Cell): Cells of a table.
        noise (str): Kind of noise.
        rate (float): Its rate.
        logs (dict): Trial id to the rows of its log, one for each epoch.
    """
    run, groups = [], {}
    for cell in cells:
        found = [logs[result['trial']] for result in cell.results if result['trial'] in logs]
        if found and (cell.noise, cell.rate) == (noise, rate):
            run.append(Line(cell, found, *_own(grid, cell)))
    for line in run:
        groups.setdefault(line.shared, []).append(line)
    group = groups.get(()) or max(groups.values(), key=len, default=[])
    methods = [line.cell.method for line in group]
    drawn = [line for line in group if line.is_asked_for or methods.count(line.cell.method) == 1]
    return drawn, len(run) - len(drawn)


def _own(grid, cell):
    variants = [sorted(variant) for variant in grid.get('variants', [])]
    if sorted(cell.overrides) in variants:
        return cell.overrides, True
    own = tuple(item for item in cell.modified if item.startswith(f'{cell.method}.'))
    return own, not own


def last_stage(lines):
    """Returns the lines restricted to their last stage, without methods that have one stage."""
    return [
        Line(
            line.cell,
            [[row for row in log if row['stage'] == log[-1]['stage']] for log in line.logs],
            line.own,
        )
        for line in lines
        if line.logs[0][0]['stage'] != line.logs[0][-1]['stage']
    ]
