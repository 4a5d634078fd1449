"""labels.csv as a table, and the cleaned tree that is made of it."""

from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.datasets import judgement
from chainer_jo.datasets.image_folder import Folder, Row
from chainer_jo.errors import DataError
from chainer_jo.report import corrections, label_table

LABELS = st.sampled_from(['a', 'b', 'a/b', '..', '.', '%2F', '=x', ''])
NAMES = st.sampled_from(['a/1.png', 'b/1.png', 'b/1 (1).png', 'a/deep/1.png', '1.png', 'c/a/1.png'])


def row(path, given_label, corrected):
    return {
        'path': path, 'given_label': given_label, 'corrected_label': corrected, 'final_label': '',
        'label_score': '0.5000',
    }  # fmt: skip


@given(st.dictionaries(NAMES, st.tuples(LABELS, LABELS.filter(bool))))
def test_every_image_has_a_place_of_its_own_in_one_folder_a_label(images):
    tree = label_table.cleaned([row(path, *labels) for path, labels in images.items()])
    assert sorted(image for _, image in tree) == sorted(images)
    places = [PurePosixPath(place) for place, _ in tree]
    assert len(set(places)) == len(places)
    assert not any('..' in place.parts or place.is_absolute() for place in places)
    folders = {}
    for place, (_, image) in zip(places, tree, strict=True):
        assert folders.setdefault(place.parts[0], images[image][1]) == images[image][1]


def test_an_image_that_stays_keeps_its_name():
    tree = label_table.cleaned([row('a/1.png', 'a', 'b'), row('b/1.png', 'b', 'b')])
    assert dict(tree) == {'b/1.png': 'b/1.png', 'b/1 (1).png': 'a/1.png'}


def test_an_answer_for_an_image_without_a_label_corrects_no_label():
    found = Folder('images', [Row('1.png', '', final='a'), Row('2.png', 'b', final='a')])
    judged = judgement.judge(np.eye(2), np.zeros(2, 'i'), known=found.known)
    unlabelled, corrected = label_table.rows(found, 'ab', judged, np.zeros(2), np.zeros(2, bool))
    assert (unlabelled['is_label_issue'], corrected['is_label_issue']) == (False, True)
    assert corrections.finding([unlabelled, corrected], 'ab') == (
        '1 of 2 labels (50.0 %) in 2 classes are doubtful, most often b instead of a (1); 1 of '
        'them is changed.'
    )


def test_answers_are_read_and_a_table_without_their_column_is_refused(tmp_path):
    path = tmp_path / 'labels.csv'
    assert label_table.finals(path) == {}
    path.write_bytes(label_table.written([row('=a', 'x', 'y') | {'final_label': ' y '}]))
    assert label_table.finals(path) == {'=a': ' y '}
    path.write_text('path,final_label\na,x\na,\nb,x\nb,y\n')
    with pytest.raises(DataError) as raised:
        label_table.finals(path)
    assert 'b has the labels x and y' in raised.value.seen
    path.write_text('path,label\na,b\n')
    with pytest.raises(DataError) as raised:
        label_table.finals(path)
    assert 'final_label' in raised.value.seen
