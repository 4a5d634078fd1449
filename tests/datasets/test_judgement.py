"""Which labels are taken for wrong, by the probabilities of their classes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from chainer_jo.datasets.judgement import THRESHOLD, judge

COUNT, CLASSES = 6, 3
ROWS = arrays.arrays('f', (COUNT, CLASSES), elements=st.floats(0.0009765625, 1, width=32)).map(
    lambda rows: rows / rows.sum(axis=1, keepdims=True)
)
LABELS = arrays.arrays(np.int32, COUNT, elements=st.integers(0, CLASSES - 1))


def slow(p, labels, threshold):
    counts = [list(labels).count(label) for label in labels]
    return [
        max(row) > row[label] and row[label] < threshold and count > 1
        for row, label, count in zip(p.tolist(), labels, counts, strict=True)
    ]


@given(ROWS, LABELS, st.sampled_from([0.0, THRESHOLD, 0.3, 1.0]))
def test_an_issue_is_a_label_that_is_neither_likely_nor_the_likeliest(p, labels, threshold):
    found = judge(p, labels, threshold)
    assert found.issue.tolist() == slow(p, labels, threshold)
    assert (found.corrected == np.where(found.issue, found.predicted, labels)).all()
    assert np.allclose(found.score, p[np.arange(COUNT), labels])
    assert np.allclose(found.entropy, [-sum(x * np.log(x) for x in row) for row in p], atol=1e-5)


@given(ROWS, LABELS, arrays.arrays(bool, COUNT))
def test_what_is_known_is_kept(p, labels, known):
    found = judge(p, labels, 1.0, known=known)
    assert not found.issue[known].any()
    assert (found.corrected[known] == labels[known]).all()


def test_the_same_image_has_one_label_whatever_the_threshold():
    p = np.array([[0.6, 0.4], [0.5, 0.5], [0.5, 0.5], [0.2, 0.8]], 'f')
    labels, groups = np.array([0, 1, 0, 1], np.int32), np.array([1, 1, 0, 0])
    found = judge(p, labels, 0.01, groups)
    assert found.issue.tolist() == [False, True, False, False]
    assert found.corrected.tolist() == [0, 0, 0, 1]
    known = np.array([False, True, False, False])
    assert judge(p, labels, 0.01, groups, known).corrected.tolist() == [1, 1, 0, 1]


def test_a_certain_row_has_no_entropy():
    assert judge(np.eye(2, dtype='f'), np.array([0, 1], np.int32)).entropy.tolist() == [0, 0]
