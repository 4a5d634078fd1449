"""What probabilities say of given labels: how good each is, and which are to be changed."""

from dataclasses import dataclass

import numpy as np

#: A label whose probability is below this, and not the largest, is taken for wrong.
THRESHOLD = 0.05


@dataclass(frozen=True, eq=False)
class Judgement:
    """A judgement of each of ``N`` labels.

    Attributes:
        predicted: The most likely class, ``(N,)``, int32.
        score: The probability of the given label, ``(N,)``, float32 in ``[0, 1]``; low is bad.
        issue: Whether the given label is taken for wrong, ``(N,)``, bool.
        corrected: ``predicted`` where there is an issue, else the given label, ``(N,)``, int32.
        entropy: Of the probabilities, in nats, ``(N,)``, float32.
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
    p = probabilities.astype(np.float64)
    conflict = np.zeros(len(labels), bool)
    for group in np.unique(groups[groups > 0]):
        members = np.flatnonzero(groups == group)
        p[members] = p[members].mean(axis=0)
        conflict[members] = len(np.unique(labels[members])) > 1
        if known[members].any():
            # Who has looked at one of them has looked at all of them.
            p[members] = np.eye(p.shape[1])[labels[members[known[members]][0]]]
    predicted = p.argmax(axis=1).astype(np.int32)
    score = p[np.arange(len(labels)), labels]
    # Of equals it is the given label, unless images that are the same have several.
    kept = known | (~conflict & (score == p.max(axis=1)))
    predicted[kept] = labels[kept]
    alone = np.bincount(labels, minlength=p.shape[1])[labels] == 1
    issue = (predicted != labels) & (conflict | (score < threshold)) & ~known & ~alone
    with np.errstate(divide='ignore', invalid='ignore'):
        entropy = -np.where(p > 0, p * np.log(p), 0).sum(axis=1)
    corrected = np.where(issue, predicted, labels).astype(np.int32)
    return Judgement(predicted, score.astype('f'), issue, corrected, entropy.astype('f'))
