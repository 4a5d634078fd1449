"""Judges given labels by a net's probabilities: a score for each, and which to change."""

from dataclasses import dataclass

import numpy as np

#: A label counts as wrong if its score is below this and another class is likelier (D-53).
THRESHOLD = 0.8
ROUNDS = 4
#: Least probability of a class: a net's 0 is a rounding error, not an impossibility.
LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Judgement:
    """A judgement of each of ``N`` labels.

    Attributes:
        predicted: The most likely class, ``(N,)``, int32.
        score: The probability that the given label is right, ``(N,)``, float32 in ``[0, 1]``. For
            identical images with different labels it is their mean probability of that label.
        issue: Whether the given label is judged wrong, ``(N,)``, bool.
        corrected: ``predicted`` where there is an issue and the :func:`posterior` of that class is
            above the score, else the given label, ``(N,)``, int32.
        entropy: Entropy of the net's probabilities, in nats, ``(N,)``, float32.
    """

    predicted: np.ndarray
    score: np.ndarray
    issue: np.ndarray
    corrected: np.ndarray
    entropy: np.ndarray


def judge(probabilities, labels, threshold=THRESHOLD, groups=None, known=None):
    """Returns the :class:`Judgement` of labels.

    Identical images must have one label. If their labels differ, their mean probabilities choose
    the label and all others are judged wrong, whatever the threshold. The only image of a class is
    never judged wrong, because no other image has shown the net what the class is.

    Args:
        probabilities (numpy.ndarray): ``(N, C)``, float32, rows that sum to 1.
        labels (numpy.ndarray): The given labels, ``(N,)``, int32 in ``[0, C)``.
        threshold (float): In ``[0, 1]``; see :data:`THRESHOLD`.
        groups (numpy.ndarray): Groups of identical images, ``(N,)``, integers from 1; 0 for images
            without a duplicate. No duplicates by default.
        known (numpy.ndarray): Which labels are known to be right, ``(N,)``, bool; none by default.
    """
    known = np.zeros(len(labels), bool) if known is None else known
    groups = np.zeros(len(labels), np.int64) if groups is None else groups
    p, conflict = _together(probabilities, labels, groups, known)
    places = np.arange(len(labels))
    predicted = p.argmax(axis=1).astype(np.int32)
    # argmax takes the lowest class on a tie. Here the given label wins, unless identical images
    # have different labels.
    kept = known | (~conflict & (p[places, labels] == p.max(axis=1)))
    predicted[kept] = labels[kept]
    q = posterior(p, labels)
    # A posterior knows one label, and could call all the different labels of one image likely.
    score = np.where(conflict, p[places, labels], q[places, labels])
    score[known] = 1
    alone = np.bincount(labels, minlength=p.shape[1])[labels] == 1
    issue = (predicted != labels) & (conflict | (score < threshold)) & ~known & ~alone
    # Other issues deserve a look, but stay: on data that the net finds hard, replacing them too
    # would damage more labels than it corrects (D-53).
    replaced = issue & (conflict | (q[places, predicted] > score))
    corrected = np.where(replaced, predicted, labels).astype(np.int32)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    # Adding 0 turns -0.0, which a certain net gives, into 0.0.
    return Judgement(predicted, score, issue, corrected, entropy + 0)


def _together(probabilities, labels, groups, known):
    """Returns probabilities averaged over identical images, and which images' labels conflict."""
    p, conflict = probabilities.astype(np.float32), np.zeros(len(labels), bool)
    for group in np.unique(groups[groups > 0]):
        members = np.flatnonzero(groups == group)
        p[members] = p[members].mean(axis=0)
        conflict[members] = len(np.unique(labels[members])) > 1
        if known[members].any():
            # A label known for one of several identical images holds for all of them.
            p[members] = np.eye(p.shape[1])[labels[members[known[members]][0]]]
    return p, conflict


def posterior(probabilities, labels, rounds=ROUNDS):
    """Returns ``P(true = k | image, given label)`` of each image: ``(N, C)``, float32.

    Bayes' rule combines the net's probabilities with ``T[k, j] = P(given = j | true = k)``. ``T``
    and the posteriors are estimated in turns (EM). Where coats are often labelled as dresses, weak
    evidence is enough to doubt the label "dress"; where labels are clean, it takes strong evidence.

    Args:
        probabilities (numpy.ndarray): ``P(true = k | image)``, ``(N, C)``, rows that sum to 1.
        labels (numpy.ndarray): The given labels, ``(N,)``, int32 in ``[0, C)``.
        rounds (int): Number of posteriors computed; ``T`` is estimated between them. Few, because
            with many rounds an overconfident net estimates more and more noise.
    """
    p, n_class = np.maximum(probabilities, LEAST, dtype=np.float32), probabilities.shape[1]
    # Starts from little noise, uniform over the classes: the identity could never be left.
    T = 0.9 * np.eye(n_class, dtype='f') + np.float32(0.1 / n_class)
    order = np.argsort(labels, kind='stable')
    present, starts = np.unique(labels[order], return_index=True)
    for turn in range(rounds):
        q = p * T.T[labels]
        q /= q.sum(axis=1, keepdims=True)
        if turn + 1 < rounds:
            # The identity adds one right label per class, so that no row is empty.
            T = np.eye(n_class, dtype='f')
            T[:, present] += np.add.reduceat(q[order], starts).T
            T /= T.sum(axis=1, keepdims=True)
    return q
