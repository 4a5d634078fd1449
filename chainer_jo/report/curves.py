"""Curves of one trial as SVG paths, which stay sharp and small at any width."""

WIDTH, HEIGHT, EDGE = 640, 220, 34


def curves(log, titles):
    """Returns ``(title, SVG path, last value)`` for each measure that the log contains.

    Args:
        log (list of dict): A row for each epoch.
        titles (dict): Maps a column of the log, whose values are fractions, to its title.
    """
    drawn = []
    for name, title in titles.items():
        points = [(row['epoch'], row[name]) for row in log if row.get(name) is not None]
        if points:
            last = max(epoch for epoch, _ in points)
            at = [
                (
                    EDGE + (WIDTH - 2 * EDGE) * (epoch - 1) / max(1, last - 1),
                    HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * value,
                )
                for epoch, value in points
            ]
            line = 'M' + ' L'.join(f'{x:.1f} {y:.1f}' for x, y in at)
            drawn.append((title, line, points[-1][1]))
    return drawn
