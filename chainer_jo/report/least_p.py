"""What a number of trials can show about two methods that are compared seed by seed."""

USUAL_LEVEL = 0.05


def least_p(trials):
    """Returns the least two-sided p that a sign-flip test over ``trials`` (int) pairs can give.

    If two methods do not differ, each of the ``2**trials`` patterns of signs of the paired
    differences is equally likely, and the two extreme ones are always as extreme as what was seen.
    """
    return min(1.0, 2.0 ** (1 - trials))


def sentence(trials):
    """Returns what tables with these numbers of trials per cell can show; ``None`` for no trials.

    Args:
        trials (iterable of int): Number of trials of each cell that was run.
    """
    counts = sorted({count for count in trials if count})
    if not counts:
        return None
    most = counts[-1]
    if most == 1:
        return 'With one trial per cell there is no spread: no difference of two methods is shown.'
    number = f'{counts[0]} to {most}' if len(counts) > 1 else str(most)
    # For the cells with most trials: what they cannot show, no cell can.
    p = least_p(most)
    verdict = 'can reach' if p <= USUAL_LEVEL else 'cannot reach'
    return (
        f'With {number} trials per cell, paired by seed, a sign-flip test, which assumes nothing '
        f'about the spread, gives no two-sided p below {p:.4g}: by it, a difference of two methods '
        f'{verdict} the usual {USUAL_LEVEL:g}.'
    )
