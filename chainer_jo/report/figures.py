"""Training curves as figures, and as CSV files with exactly the plotted numbers."""

import io
import statistics

from chainer_jo.errors import count_of
from chainer_jo.report.data_notes import data_title
from chainer_jo.report.escape import plain
from chainer_jo.report.markdown import method_title, percent

# Okabe and Ito's colours, which can be told apart with colour blindness; when they are used up,
# lines are dashed.
COLOURS = ('#000000', '#0072B2', '#009E73', '#D55E00', '#CC79A7', '#E69F00', '#56B4E9')
DASHES = ('-', (0, (5, 1.5)), (0, (1.5, 1)))

TITLES = {
    'main/accuracy': 'main/accuracy (training images, labels in use)',
    'validation/main/accuracy': 'validation/main/accuracy',
    'test/main/accuracy': 'test accuracy',
    'label_accuracy': 'share of correct labels',
}
# The paper's figure has the first two. The share of correct labels cannot change in a last stage.
FIGURE3 = ('main/accuracy', 'validation/main/accuracy', 'test/main/accuracy')
LABELS = ('test/main/accuracy', 'label_accuracy')
COLUMNS = (
    'method',
    'modified',
    'stage',
    'epoch',
    'stage_epoch',
    'measure',
    'trials',
    'mean',
    'min',
    'max',
)

FIGURE3_SUBJECT = 'Accuracy in the last stage (Figure 3)'

STYLE = {
    'font.size': 9,
    'axes.titlesize': 9,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': '#888888',
    'axes.grid': True,
    'grid.color': '#e4e4e4',
    'grid.linewidth': 0.6,
    'lines.linewidth': 1.2,
}


def points(lines, measures):
    """Returns the points to plot, as dicts with the keys :data:`COLUMNS`; accuracies are fractions.

    Values that were not measured have no points, such as the test accuracy without a test set. The
    share of correct labels is left out if no method of the figure changes it, since all its lines
    would be constant.

    Args:
        lines (list of Line): Lines of a figure.
        measures (iterable of str): Columns of the log.
    """
    found = [
        point for line in lines for measure in measures for point in _line_points(line, measure)
    ]
    if _is_constant(_of(found, 'label_accuracy')):
        found = [point for point in found if point['measure'] != 'label_accuracy']
    return found


def _is_constant(points):
    ranges = {}
    for point in points:
        ranges.setdefault(_key(point), set()).add((point['min'], point['max']))
    return all(len(seen) == 1 for seen in ranges.values())


def _line_points(line, measure):
    for rows in zip(*line.logs, strict=True):
        values = [row.get(measure) for row in rows]
        if None not in values:
            yield {
                'method': line.cell.method,
                'modified': list(line.cell.modified),
                'stage': rows[0]['stage'],
                'epoch': rows[0]['epoch'],
                'stage_epoch': rows[0]['stage_epoch'],
                'measure': measure,
                'trials': len(values),
                'mean': statistics.mean(values),
                'min': min(values),
                'max': max(values),
            }


def figure3(grid, lines, points, others=0):
    """Returns Figure 3 as PNG bytes: accuracies against the epoch of the last stage.

    The paper's two panels, main/accuracy and validation/main/accuracy, come first and are large;
    the test accuracy follows. A line is the mean over trials, a band the range from lowest to
    highest. The same points give the same bytes.

    Args:
        grid (dict): With ``preset`` and ``titles`` (``{method: title}``, which fixes the colours).
        lines (list of Line): The return value of ``lines.last_stage``, for title and legend.
        points (list of dict): Their points, for the measures :data:`FIGURE3`.
        others (int): How many rows of the table are not among the lines.
    """
    measured = _measures(points, FIGURE3)
    large = [measure for measure in measured if measure in FIGURE3[:2]]
    small = [measure for measure in measured if measure not in large]
    # Each panel of the lower row spans all columns of the upper row.
    rows = [large, *([measure] * max(1, len(large)) for measure in small)]

    def draw(figure):
        panels = figure.subplot_mosaic(
            [row for row in rows if row], height_ratios=[2] * bool(large) + [1] * len(small)
        )
        for measure, panel in panels.items():
            _draw(panel, grid, lines, _of(points, measure), 'stage_epoch')
            panel.set_title(TITLES[measure], loc='left')
            panel.set_xlabel('epoch of the last stage')

    return _png(grid, lines, others, draw, size=(9, 6.4), subject=FIGURE3_SUBJECT)


def label_figure(grid, lines, points, others=0):
    """Returns test accuracy and share of correct labels over all epochs, as PNG bytes.

    A dot marks the last epoch before a method enters its next stage. Arguments are those of
    :func:`figure3`, with lines of all stages and the measures :data:`LABELS`.
    """

    def draw(figure):
        measured = _measures(points, LABELS)
        panels = figure.subplots(1, len(measured), sharex=True, squeeze=False).ravel()
        for panel, measure in zip(panels, measured, strict=True):
            _draw(panel, grid, lines, _of(points, measure), 'epoch')
            _mark_stages(panel, grid, lines, _of(points, measure))
            panel.set_title(TITLES[measure], loc='left')
            panel.set_xlabel('epoch of all stages (dot: change of stage)')

    return _png(grid, lines, others, draw, size=(9, 4.6), subject='Test accuracy and labels')


def _measures(points, wanted):
    return [measure for measure in wanted if _of(points, measure)]


def _of(points, measure):
    return [point for point in points if point['measure'] == measure]


def _by_line(lines, points):
    groups = {}
    for point in points:
        groups.setdefault(_key(point), []).append(point)
    by_key = {(line.cell.method, line.cell.modified): line for line in lines}
    return [(by_key[key], group) for key, group in groups.items()]


def _key(point):
    return point['method'], tuple(point['modified'])


def _draw(panel, grid, lines, points, x):
    # Imported here: importing matplotlib takes longer than printing a table.
    from matplotlib.ticker import MaxNLocator

    for line, group in _by_line(lines, points):
        colour, dash = _look(grid, line)
        epochs = [point[x] for point in group]
        panel.plot(epochs, [point['mean'] for point in group], color=colour, linestyle=dash)
        # No band around a single trial: it has no spread.
        if group[0]['trials'] > 1:
            low, high = ([point[end] for point in group] for end in ('min', 'max'))
            panel.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.yaxis.set_major_formatter(lambda value, _: percent(value, 0))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.tick_params(length=0)


def _mark_stages(panel, grid, lines, points):
    for line, group in _by_line(lines, points):
        for point, following in zip(group, group[1:], strict=False):
            if point['stage'] != following['stage']:
                colour, _ = _look(grid, line)
                panel.plot(point['epoch'], point['mean'], 'o', color=colour, markersize=4)


def _look(grid, line):
    """Returns colour and dash of a line: those of its method or variant in every figure."""
    variants = [tuple(sorted(variant)) for variant in grid.get('variants', [])]
    order = list(grid['titles'])
    if variants:
        # The few lines of a table of variants have colours before they have dashes.
        order = [*grid['methods'], *variants, *(m for m in order if m not in grid['methods'])]
    own = tuple(sorted(line.own))
    place = order.index(own if own in variants else line.cell.method)
    return COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]


def pairs_figure(grid, summaries):
    """Returns a figure of all paired differences, with their means and intervals, as PNG bytes.

    Each row of panels is a comparison, each column a measure, and each position on a panel's axis a
    noise setting.

    Args:
        grid (dict): With ``table`` and ``preset``.
        summaries (list of Summary): The return value of ``paired.summaries``, at least one.
    """
    comparisons = list(dict.fromkeys(summary.comparison for summary in summaries))
    measures = list(dict.fromkeys(summary.measure for summary in summaries))

    def draw(figure):
        panels = figure.subplots(len(comparisons), len(measures), squeeze=False, sharey=True)
        for comparison, row in zip(comparisons, panels, strict=True):
            for measure, panel in zip(measures, row, strict=True):
                shown = [s for s in summaries if (s.comparison, s.measure) == (comparison, measure)]
                _draw_pairs(panel, shown)
                panel.set_title(f'{comparison}: {measure}'.replace('$', r'\$'), loc='left')

    title = (
        'Pairs by seed: first minus second, in points of test accuracy; line: mean, bar: 95 % '
        f'interval\npreset {grid["preset"]}, table {grid["table"]}, dots in the order of the seeds'
    )
    return _picture(draw, (9, 1 + 2.6 * len(comparisons)), title)


def _draw_pairs(panel, summaries):
    panel.axhline(0, color='#888888', linewidth=0.8)
    for place, summary in enumerate(summaries):
        n = len(summary.differences)
        # Side by side, in the order of the seeds, so that equal values do not hide each other.
        beside = [place - 0.3 + 0.6 * (i + 0.5) / n for i in range(n)]
        values = [100 * difference for difference in summary.differences]
        panel.plot(beside, values, 'o', color=COLOURS[6], markersize=3)
        panel.plot(place, 100 * summary.mean, '_', color=COLOURS[0], markersize=16)
        if summary.interval:
            ends = [100 * end for end in summary.interval]
            panel.plot([place, place], ends, '-', color=COLOURS[0], linewidth=1.6)
    labels = [
        summary.noise.replace(', ', ',\n')
        if summary.rate is None
        else f'{summary.noise}\n{percent(summary.rate, 0)}'
        for summary in summaries
    ]
    panel.set_xticks(range(len(labels)), labels, fontsize=7)
    panel.grid(visible=False, axis='x')
    panel.tick_params(length=0)


def _png(grid, lines, others, draw, size, subject):
    def with_legend(figure):
        draw(figure)
        _legend(figure, grid, lines)

    return _picture(with_legend, size, _title(grid, lines, others, subject))


def _picture(draw, size, title):
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # 'default' first, so that a user's matplotlibrc has no effect.
    with matplotlib.style.context(['default', STYLE]):
        figure = Figure(figsize=size, dpi=150, layout='constrained')
        # Not pyplot, which looks for a display and keeps figures in memory.
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        figure.suptitle(title, fontsize=10, x=0.01, ha='left')
        buffer = io.BytesIO()
        # Without the version of matplotlib, so that equal points give equal bytes.
        canvas.print_png(buffer, metadata={'Software': None})
    return buffer.getvalue()


def _legend(figure, grid, lines):
    from matplotlib.lines import Line2D

    looks = [_look(grid, line) for line in lines]
    labels = [_named(grid, line) for line in lines]
    figure.legend(
        handles=[Line2D([], [], color=colour, linestyle=dash) for colour, dash in looks],
        labels=labels,
        loc='outside lower left',
        # As many as fit side by side; the names of variants are long.
        ncols=max(1, min(3, 120 // max(map(len, labels)))),
        frameon=False,
        handlelength=3,
    )


def _named(grid, line):
    words = [method_title(grid, line.cell.method), *map(plain, line.own)]
    # For matplotlib a dollar sign starts a formula.
    return ', '.join(words).replace('$', r'\$')


def _title(grid, lines, others, subject):
    cell = lines[0].cell
    trials = sorted({len(line.logs) for line in lines})
    count = f'{trials[0]} trial' + ('s' if trials[-1] > 1 else '')
    count = count if len(trials) == 1 else f'{trials[0]} to {trials[-1]} trials'
    rate = '' if cell.rate is None else f' {percent(cell.rate, 0)}'
    words = [
        data_title(cell.results[0]['data']),
        f'{cell.noise.removeprefix("file:")} noise{rate}',
        f'preset {grid["preset"]}' + _departure(lines[0]),
        count + (': mean and range' if trials[-1] > 1 else ''),
    ]
    missing = f', without {count_of(others, "other row")} of the table' if others else ''
    return f'{subject}{missing}\n{", ".join(words)}'.replace('$', r'\$')


def _departure(line):
    """Returns a mark for settings that depart from the preset; data and own settings are named."""
    departs = any(not item.startswith('data=') for item in line.shared)
    return ' (modified)' if departs else ''
