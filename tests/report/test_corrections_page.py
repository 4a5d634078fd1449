"""The report of corrected labels: what it says, what it survives, and that it stays small."""

import re

import numpy as np
import pytest

from chainer_jo.report import corrections

FACTS = {
    'folder': 'images', 'command': 'python -m chainer_jo correct images --out out', 'others': 0,
    'size': 32, 'threshold': 0.8, 'seconds': 1.5, 'trial': 'ours-file-s0-00000000',
    'version': '0.1.0', 'data': 'f' * 64,
}  # fmt: skip
LOG = [
    {'epoch': epoch, 'main/accuracy': epoch / 4, 'validation/main/accuracy': epoch / 5}
    for epoch in (1, 2, 3)
]


def row(path, given='cat', corrected='dog', score='0.1000', **more):
    return {
        'path': path, 'given_label': given, 'predicted_label': corrected,
        'corrected_label': corrected, 'final_label': '',
        'reason': '', 'label_score': score, 'is_label_issue': given != corrected,
        'duplicate_group': None,
    } | more  # fmt: skip


def page(table, classes=('cat', 'dog'), size=8, channels=3, log=LOG):
    pixels = np.random.default_rng(0).integers(0, 256, (channels, size, size)).astype(np.uint8)
    return corrections.page(table, classes, lambda path: pixels, log, FACTS)


def left_out(path, reason):
    made = row(path, corrected='cat', reason=reason)
    del made['label_score'], made['is_label_issue'], made['duplicate_group']
    return made


def test_what_was_found_is_one_sentence_with_numbers():
    table = [row('a'), row('b'), row('c', 'dog', 'dog'), left_out('d', 'damaged: torn')]
    assert corrections.finding(table, ('cat', 'dog')) == (
        '2 of 3 labels (66.7 %) in 2 classes are doubtful, most often cat instead of dog (2); '
        '2 of them are changed; 1 image is left out.'
    )
    assert corrections.finding([row('a', 'dog', 'dog')], ('cat', 'dog')) == (
        '0 of 1 labels (0.0 %) in 2 classes are doubtful.'
    )
    text = page(table)
    assert 'damaged: torn' in text
    assert '66.7 %' in text
    assert '<svg' in text


def test_a_doubted_label_that_stays_is_shown_with_the_class_that_is_more_likely():
    kept = row('a', corrected='cat', predicted_label='dog', is_label_issue=True, score='0.7000')
    assert corrections.finding([kept], ('cat', 'dog')).endswith(
        'are doubtful, most often cat instead of dog (1); 0 of them are changed.'
    )
    assert 'given cat<br>rather <strong>dog</strong>' in page([kept])


def test_a_class_that_answers_have_emptied_has_a_row_in_the_matrix():
    text = page([row('a', 'bird', 'cat', final_label='cat'), row('b', 'dog', 'dog')])
    matrix = text.partition('Given against corrected')[2].partition('</table>')[0]
    assert re.search(r'<th[^>]*>bird</th>\s*<td[^>]*>[^<]*</td>\s*<td[^>]*>1</td>', matrix)


def test_what_the_page_has_no_room_for_is_counted():
    same = {'reason': 'the same image as x', 'corrected_label': 'dog', 'is_label_issue': False}
    groups = [row(f'{n}', 'dog', **same, duplicate_group=n) for n in range(1, 44)]
    part = page(groups).partition('id="same"')[2].partition('id="curves"')[0]
    assert (part.count('<ul>'), '3 more in labels.csv.' in part) == (40, True)
    classes = [f'{n:02}' for n in range(45)]
    pairs = [row(f'{n}', classes[n], classes[n + 1]) for n in range(44)]
    part = page(pairs, classes).partition('id="matrix"')[2].partition('id="same"')[0]
    assert (part.count('<tr>') - 1, '4 more in labels.csv.' in part) == (40, True)


def test_the_most_suspicious_come_first():
    text = page([row('a', score='0.3000'), row('b', score='0.0100'), row('c', score='0.2000')])
    first = text.partition('id="classes"')[0]
    places = [first.index(f'<span class="quiet">{name}</span>') for name in 'bca']
    assert places == sorted(places)


@pytest.mark.parametrize(
    'name', ['<script>alert(1)</script>', '"><img src=x>', '{{ 1 + 1 }}', 'a\nb\x1b[31m', '\udce9']
)
def test_a_name_does_nothing_to_the_page(name):
    text = page(
        [
            row(name, name, 'dog'),
            row('x', 'dog', name, reason=f'the same image as {name}', duplicate_group=1),
            left_out(name, name),
        ],
        (name, 'dog'),
    )
    text.encode()
    assert '<script' not in text
    assert '<img src=x' not in text
    assert '\x1b' not in text
    if '{' in name:
        assert '{{ 1 + 1 }}' in text


def test_a_page_of_very_many_issues_stays_below_5_mb():
    table = [row(f'{i:06}.jpg', str(i % 1000), str((i + 1) % 1000)) for i in range(50_000)]
    text = page(table, tuple(map(str, range(1000))), size=64)
    assert len(text) < 5_000_000
    assert text.count('<img') <= corrections.MOST_IMAGES
    assert 'more in labels.csv' in text
    assert 'Rows: given label' not in text


def test_a_page_of_nothing_says_so():
    text = page([row('a', 'dog', 'dog')], channels=1, log=[])
    assert 'No label is doubtful' in text
    assert 'No image was left out' in text
    assert '<svg' not in text
