import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo.report.escape import LONGEST, code, escaped, plain

ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@given(ANY_TEXT)
def test_plain_text_is_one_printable_line_of_limited_length(text):
    shown = plain(text)

    assert shown.isprintable()
    assert len(shown) <= LONGEST
    shown.encode()


@given(st.text('abc äß漢-_.:=/', max_size=LONGEST))
def test_ordinary_text_is_shown_as_it_is(text):
    assert plain(text) == text


@pytest.mark.parametrize(
    ('text', 'shown'),
    [('\x1b[31m', r'\x1b[31m'), ('a\nb', r'a\nb'), ('\ud800', r'\ud800'), ('\u202e', r'\u202e')],
)
def test_what_a_terminal_would_obey_is_spelled_out(text, shown):
    assert plain(text) == shown


@given(st.text('<>[]()`*|&@\\:/w.h\n', max_size=50))
def test_escaped_text_holds_no_tag_link_table_bar_or_address(text):
    shown = escaped(text)

    left = re.sub(r'\\[\\`*\[\]<>|&@]', '', shown)
    assert not set('<>[]`*|&@') & set(left)
    assert '://' not in shown
    assert 'www.' not in shown


@given(st.text('<`|\\a', max_size=50))
def test_a_code_span_cannot_be_left(text):
    shown = code(text)

    assert shown[0] == shown[-1] == '`'
    assert '`' not in shown[1:-1]
    assert not re.search(r'(?<!\\)\|', shown)
