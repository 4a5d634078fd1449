"""What a net's probabilities say of given labels: how good each is, and which are to be changed."""

from dataclasses import dataclass

import numpy as np

#: A label with a score below this, and not the likeliest class, is taken for wrong (D-53).
THRESHOLD = 0.8
ROUNDS = 4
#: No class is impossible: a net's 0 is a rounding error.
LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Judgement:
    """A judgement of each of ``N`` labels.

    Attributes:
        predicted: The most likely class, ``(N,)``, int32.
        score: The probability that the given label is right, ``(N,)``, float32 in ``[0, 1]``.
        issue: Whether the given label is taken for wrong, ``(N,)``, bool.
        corrected: The given label, but where there is an issue the class of the highest posterior
            probability, ``(N,)``, int32. That may be the given one: a label can be doubtful, and
            yet more probable than any other.
        entropy: Of the net's probabilities, in nats, ``(N,)``, float32.
    """

    predicted: np.ndarray
    score: np.ndarray
    issue: np.ndarray
    corrected: np.ndarray
    entropy: np.ndarray


def judge(probabilities, labels, threshold=THRESHOLD, groups=None, known=None):
    """Returns the :class:`Judgement` of labels.

    Images that are the same have one label: if theirs differ, those are wrong that are not the most
    likely one by their mean probabilities, whatever the threshold. The only image of a class is
    never taken for wrong, since no other could have shown what the class is.

    Args:
        probabilities (numpy.ndarray): ``(N, C)``, float32, rows that sum to 1.
        labels (numpy.ndarray): As given, ``(N,)``, int32 in ``[0, C)``.
        threshold (float): In ``[0, 1]``; see :data:`THRESHOLD`.
        groups (numpy.ndarray): Of the same images, ``(N,)``, integers; 0 for none. None at all by
            default.
        known (numpy.ndarray): Which labels are known to be right, ``(N,)``, bool; none by default.
    """
    known = np.zeros(len(labels), bool) if known is None else known
    groups = np.zeros(len(labels), np.int64) if groups is None else groups
    p, conflict = _together(probabilities, labels, groups, known)
    places = np.arange(len(labels))
    predicted = p.argmax(axis=1).astype(np.int32)
    # On a tie it is the given label, unless identical images have several.
    kept = known | (~conflict & (p[places, labels] == p.max(axis=1)))
    predicted[kept] = labels[kept]
    q = posterior(p, labels)
    score = q[places, labels]
    score[known] = 1
    alone = np.bincount(labels, minlength=p.shape[1])[labels] == 1
    issue = (predicted != labels) & (conflict | (score < threshold)) & ~known & ~alone
    # Identical images get the same label, and the posterior depends on the given one.
    best = np.where(conflict, predicted, q.argmax(axis=1))
    corrected = np.where(issue, best, labels).astype(np.int32)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    return Judgement(predicted, score, issue, corrected, entropy + 0)


def _together(probabilities, labels, groups, known):
    """Returns probabilities that are one for images that are the same, and whose labels differ."""
    p, conflict = probabilities.astype(np.float32), np.zeros(len(labels), bool)
    for group in np.unique(groups[groups > 0]):
        members = np.flatnonzero(groups == group)
        p[members] = p[members].mean(axis=0)
        conflict[members] = len(np.unique(labels[members])) > 1
        if known[members].any():
            # An answer for one of several identical images holds for all of them.
            p[members] = np.eye(p.shape[1])[labels[members[known[members]][0]]]
    return p, conflict


def posterior(probabilities, labels, rounds=ROUNDS):
    """Returns ``P(true = k | image, given label)`` of each image: ``(N, C)``, float32.

    By Bayes from what the net sees and from ``T[k, j] = P(given = j | true = k)``, which is counted
    in the posteriors themselves, in turns (EM). So where a coat is often called a dress, less is
    needed to doubt a dress, and where labels are clean, much.

    Args:
        probabilities (numpy.ndarray): ``P(true = k | image)``, ``(N, C)``, rows that sum to 1.
        labels (numpy.ndarray): As given, ``(N,)``, int32 in ``[0, C)``.
        rounds (int): How often ``T`` is counted. Few, as with many a net that is sure of itself
            talks itself into ever more noise.
    """
    p, n_class = np.maximum(probabilities, LEAST, dtype=np.float32), probabilities.shape[1]
    T = 0.9 * np.eye(n_class, dtype='f') + np.float32(0.1 / n_class)
    order = np.argsort(labels, kind='stable')
    present, starts = np.unique(labels[order], return_index=True)
    for turn in range(rounds):
        q = p * T.T[labels]
        q /= q.sum(axis=1, keepdims=True)
        if turn + 1 < rounds:
            # One right label is added per class, so that no row is empty.
            T = np.eye(n_class, dtype='f')
            T[:, present] += np.add.reduceat(q[order], starts).T
            T /= T.sum(axis=1, keepdims=True)
    return q
