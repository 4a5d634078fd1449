"""What a given number of trials can show about two methods that are compared seed by seed."""

USUAL_LEVEL = 0.05


def least_p(trials):
    """Returns the smallest two-sided p that a sign-flip test over ``trials`` (int) pairs can give.

    If two methods do not differ, all ``2**trials`` patterns of signs of the paired differences are
    equally likely, and the two extreme patterns are always at least as extreme as the observed one.
    """
    return min(1.0, 2.0 ** (1 - trials))


def sentence(trials):
    """Returns a sentence on what a table with these numbers of trials can show, or ``None``.

    Args:
        trials (iterable of int): Number of trials of each cell; 0 if it was not run.
    """
    counts = sorted({count for count in trials if count})
    if not counts:
        return None
    most = counts[-1]
    if most == 1:
        return 'One trial per cell has no spread, and cannot show that two methods differ.'
    number = f'{counts[0]} to {most}' if len(counts) > 1 else str(most)
    # For the cells with the most trials: what these cannot show, no cell can.
    p = least_p(most)
    verdict = 'can' if p <= USUAL_LEVEL else 'cannot'
    return (
        f'With {number} trials per cell, paired by seed, the two-sided p of a sign-flip test, '
        f'which assumes nothing about the spread, is at least {p:.4g}: with it, a difference '
        f'between two methods {verdict} reach the usual {USUAL_LEVEL:g}.'
    )
