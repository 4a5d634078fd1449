"""Which labels are taken for wrong, by the probabilities of their classes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from chainer_jo.datasets.judgement import THRESHOLD, judge, posterior

COUNT, CLASSES = 6, 3
ROWS = arrays.arrays('f', (COUNT, CLASSES), elements=st.floats(0.0009765625, 1, width=32)).map(
    lambda rows: rows / rows.sum(axis=1, keepdims=True)
)
LABELS = arrays.arrays(np.int32, COUNT, elements=st.integers(0, CLASSES - 1))


def slow_posterior(p, labels, rounds):
    T = [[0.9 * (k == j) + 0.1 / CLASSES for j in range(CLASSES)] for k in range(CLASSES)]
    for _ in range(rounds):
        q = [
            [row[k] * T[k][label] for k in range(CLASSES)]
            for row, label in zip(p, labels, strict=True)
        ]
        q = [[x / sum(row) for x in row] for row in q]
        for k in range(CLASSES):
            counts = [float(k == j) for j in range(CLASSES)]
            for row, label in zip(q, labels, strict=True):
                counts[label] += row[k]
            T[k] = [count / sum(counts) for count in counts]
    return q


@given(ROWS, LABELS, st.integers(1, 6))
def test_the_posterior_is_bayes_with_the_noise_that_it_counts(p, labels, rounds):
    found = posterior(p, labels, rounds)
    assert np.allclose(found, slow_posterior(p.tolist(), labels, rounds), atol=1e-4)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


@given(ROWS, LABELS, st.sampled_from([0.0, 0.3, THRESHOLD, 1.0]))
def test_an_issue_is_a_label_that_is_neither_likely_nor_the_likeliest(p, labels, threshold):
    found, score = judge(p, labels, threshold), posterior(p, labels)[np.arange(COUNT), labels]
    counts = [list(labels).count(label) for label in labels]
    assert found.issue.tolist() == [
        bool(max(p[i]) > p[i, labels[i]] and score[i] < threshold and counts[i] > 1)
        for i in range(COUNT)
    ]
    for i in range(COUNT):
        likely = posterior(p, labels)[i, found.predicted[i]] > score[i]
        new = found.predicted[i] if found.issue[i] and likely else labels[i]
        assert found.corrected[i] == new
    assert (found.score == score).all()
    assert np.allclose(found.entropy, [-sum(x * np.log(x) for x in row) for row in p], atol=1e-5)


def test_a_confusion_that_is_common_makes_its_labels_doubtful():
    # Of class 0 half are called 1; the last image is as likely either.
    p = np.array([[0.95, 0.05]] * 40 + [[0.05, 0.95]] * 20 + [[0.4, 0.6]], 'f')
    often, never = (np.array([0] * n + [1] * (61 - n), np.int32) for n in (20, 40))
    assert judge(p, often).score[-1] < judge(p, never).score[-1]


def test_a_doubtful_label_stays_and_a_hopeless_one_does_not():
    # Nearly all labels are right, so that one on which the net is undecided is, too.
    p = np.array([[0.99, 0.01]] * 30 + [[0.01, 0.99]] * 30 + [[0.9, 0.1], [0.99, 0.01]], 'f')
    labels = np.array([0] * 30 + [1] * 32, np.int32)
    found = judge(p, labels)
    assert found.issue[-2:].tolist() == [True, True]
    assert found.predicted[-2:].tolist() == [0, 0]
    assert found.corrected[-2:].tolist() == [1, 0]


@given(ROWS, LABELS, arrays.arrays(bool, COUNT))
def test_what_is_known_is_kept(p, labels, known):
    found = judge(p, labels, 1.0, known=known)
    assert not found.issue[known].any()
    assert (found.corrected[known] == labels[known]).all()


def test_the_same_image_has_one_label_whatever_the_threshold():
    # The mean of the first two rows chooses class 1, although the first row alone would not.
    p = np.array([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [0.2, 0.8]], 'f')
    labels, groups = np.array([0, 1, 0, 1], np.int32), np.array([1, 1, 0, 0])
    found = judge(p, labels, 0.01, groups)
    assert found.issue.tolist() == [True, False, False, False]
    assert found.corrected.tolist() == [1, 1, 0, 1]
    # Only one of the two labels can be right.
    assert np.allclose(found.score[:2], [0.35, 0.65])
    known = np.array([True, False, False, False])
    assert judge(p, labels, 0.01, groups, known).corrected.tolist() == [0, 0, 0, 1]


def test_a_certain_row_has_no_entropy():
    assert judge(np.eye(2, dtype='f'), np.array([0, 1], np.int32)).entropy.tolist() == [0, 0]


def test_a_label_that_is_known_to_be_right_is_certain_whatever_the_net_says():
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.9, 0.1]], 'f')
    labels, known = np.array([0, 1, 0, 1], np.int32), np.array([False, False, True, False])
    score = judge(p, labels, known=known).score
    assert score[2] == 1
    assert (score[[0, 1, 3]] < 1).all()


def test_the_noise_is_counted_three_times_between_four_posteriors():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.3] * 3, 60).astype('f')
    labels = rng.integers(0, 3, 60).astype(np.int32)
    score = judge(p, labels).score
    places = np.arange(60)
    assert (score == posterior(p, labels, 4)[places, labels]).all()
    assert not np.allclose(score, posterior(p, labels, 3)[places, labels])
