"""Curves of one trial as paths of an SVG: no other pictures stay sharp and small at any width."""

WIDTH, HEIGHT, EDGE = 640, 220, 34


def curves(log, titles):
    """Returns ``(title, path of an SVG, last value)`` of each measure that the log has.

    Args:
        log (list of dict): A row for each epoch.
        titles (dict): Column of the log, a fraction, to the words for it.
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
