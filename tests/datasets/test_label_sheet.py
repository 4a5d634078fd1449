"""Tables of paths and labels: what is read, what is refused, and that no cell is a formula."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.datasets import label_sheet
from chainer_jo.errors import DataError, WriteError

TEXT = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=8)
CELLS = st.one_of(
    TEXT, st.sampled_from(['=1+1', '+1', '-1', '@a', '\uff1d1', '\t=1', '\r', "'", "'=", '"', '\n'])
)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_what_is_written_is_read_and_no_cell_is_a_formula(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / 'sheet.csv'
    rows = [{'path': f'{a}x', 'label': b} for a, b in rows]
    path.write_bytes(label_sheet.written(['path', 'label'], rows))
    assert label_sheet.read(path, own=True) == rows
    text = path.read_bytes().decode()
    cells = [cell for line in csv.reader(io.StringIO(text, newline='')) for cell in line]
    assert [cell for cell in cells if cell.startswith(tuple('=+-@\uff1d\t\r\n'))] == []


def test_no_name_of_a_column_is_a_formula():
    assert label_sheet.written(['path', '=1+1'], []).decode() == "path,'=1+1\n"


def test_a_reviewed_table_is_no_table_of_labels(tmp_path):
    (tmp_path / 'l.csv').write_text('path,given_label,final_label\na.png,cat,\nb.png,cat,dog\n')
    with pytest.raises(DataError, match='final_label, which would be ignored'):
        label_sheet.labels(tmp_path / 'l.csv')
    (tmp_path / 'l.csv').write_text('path,given_label,final_label\na.png,cat,\nb.png,cat, \n')
    assert label_sheet.labels(tmp_path / 'l.csv') == {'a.png': 'cat', 'b.png': 'cat'}


def test_a_name_that_is_no_utf_8_comes_back_as_it_was(tmp_path):
    name = b'caf\xe9.png'.decode('utf-8', 'surrogateescape')
    path = tmp_path / 'sheet.csv'
    path.write_bytes(label_sheet.written(['path', 'label'], [{'path': name, 'label': 'x'}]))
    assert label_sheet.read(path)[0]['path'] == name


@pytest.mark.parametrize(
    'content',
    [
        b'path,label\na.png,cat\nb.png,dog\n',
        b'\xef\xbb\xbfpath,label\r\na.png,cat\r\nb.png,dog\r\n',
        b'path;label\na.png;cat\n\nb.png;dog\n',
        b'Path,Label,,\na.png,cat,,\nb.png,dog,,\n',
        b'class\tfilename\ncat\ta.png\ndog\t./b.png\n',
        b'path,label\n"a.png"," cat"\n"b.png",dog\na.png,cat\n',
    ],
    ids=['plain', 'mark and CRLF', 'semicolons', 'empty columns', 'tabs', 'twice the same'],
)
def test_the_ways_people_write_one_table_are_read_alike(tmp_path, content):
    (tmp_path / 'l.csv').write_bytes(content)
    assert label_sheet.labels(tmp_path / 'l.csv') == {'a.png': 'cat', 'b.png': 'dog'}


@pytest.mark.parametrize(
    ('content', 'seen'),
    [
        (None, 'No such file'),
        (b'', 'no rows'),
        (b'path,label\n', 'no rows'),
        (b'foto,label\na,b\n', 'no column of paths among foto, label'),
        (b'path,kind\na,b\n', 'no column of labels'),
        (b'path,path\na,b\n', 'columns path, path'),
        (b'path,label\na,cat\na,dog\n', 'a has the labels cat and dog'),
        (b'path,label\na,cat\na,\n', 'a has the labels cat and none'),
        (b'path,label\na,b,cat\n', '3 cells in line 2'),
        (b'path,label\n"a,b\n', 'in line'),
        ('path,label\na,b\n'.encode('utf-16'), 'not UTF-8'),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, content, seen):
    if content is not None:
        (tmp_path / 'l.csv').write_bytes(content)
    with pytest.raises(DataError) as raised:
        label_sheet.labels(tmp_path / 'l.csv')
    assert seen in raised.value.seen
    assert 'l.csv' in raised.value.problem


def test_a_table_that_one_may_not_read_is_not_missing(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('os.open', refuse)
    with pytest.raises(WriteError):
        label_sheet.labels(tmp_path / 'l.csv')
