"""The page over a folder of results for a browser."""

import base64
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import tiny

from chainer_jo import store
from chainer_jo.datasets.label_files import load_noise
from chainer_jo.report import folder_page, publish
from chainer_jo.report.collect import read_result
from chainer_jo.report.markdown import percent

VOID = {'meta', 'img', 'br', 'path', 'hr'}


class Page(HTMLParser):
    """What is in a page: tags with their attributes, ids, and text; every tag must be closed."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(path.read_text())
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    """Two trials of the quick preset, tiny ones, reported."""
    folder = tmp_path_factory.mktemp('results') / 'quick'
    for method in ('cross_entropy', 'ours'):
        tiny.run(tiny.config(method), folder)
    publish.write('table2', 'quick', folder)
    publish.write_pages(folder)
    return folder


@pytest.fixture(scope='module')
def page(out):
    return Page(out / 'report.html')


def test_the_page_has_the_numbers_of_the_table_and_the_curves_of_every_trial(out, page):
    text = ' '.join(page.text)
    for folder in sorted((out / 'runs').iterdir()):
        result = store.read_sealed(folder / 'result.json')
        assert percent(result['last']['test_accuracy']) in text
        assert result['trial'] in [attrs.get('id') for attrs in page.all('h3')]
        assert f'--seed {result["config"]["seed"]}' in text
    assert len(page.all('svg')) == 2
    # Test and validation accuracy and, in a path more, the axes; labels of both methods.
    assert len(page.all('path')) == 2 * (1 + 3)


def test_labels_before_and_after_are_counted_true_class_by_label(out, page):
    for folder in sorted((out / 'runs').iterdir()):
        noisy, true, _ = load_noise(folder / 'noisy_labels.arrays')
        y = store.read_arrays(folder / 'labels.arrays')['y'].argmax(axis=1)
        found = folder_page._confusion(folder, read_result(folder / 'result.json'))
        assert [title for title, _ in found] == ['Labels before training', 'Labels after training']
        for (_, counts), labels in zip(found, (noisy, y), strict=True):
            for i in range(10):
                for j in range(10):
                    assert counts[i][j] == sum((true == i) & (labels == j))
    assert sum('Labels before training' in text for text in page.text) == 2


@pytest.mark.parametrize('name', ['noisy', 'y', 'true'])
def test_labels_that_are_not_the_result_s_are_not_shown(name, out, tmp_path):
    trial = next((out / 'runs').iterdir())
    folder = shutil.copytree(trial, tmp_path / trial.name)
    result, file = read_result(folder / 'result.json'), 'labels' if name == 'y' else 'noisy_labels'
    assert folder_page._confusion(folder, result) != []
    arrays = dict(store.read_arrays(folder / f'{file}.arrays'))
    arrays[name] = arrays[name][:-1]
    store.write_arrays(folder / f'{file}.arrays', arrays)
    assert folder_page._confusion(folder, result) == []


def test_nothing_is_remote_and_nothing_runs(page):
    assert page.all('script') == page.all('link') == page.all('iframe') == []
    assert all('http' not in str(attrs) for tag, attrs in page.tags if tag != 'meta')
    (policy,) = [m['content'] for m in page.all('meta') if 'http-equiv' in m]
    assert policy.startswith("default-src 'none'")
    assert all(not name.startswith('on') for _, attrs in page.tags for name in attrs)


def test_the_figures_are_in_the_page_itself(out, page):
    figures = sorted(out.glob('*.png'))
    assert figures
    shown = [base64.b64decode(attrs['src'].partition(',')[2]) for attrs in page.all('img')]
    assert sorted(shown) == sorted(path.read_bytes() for path in figures)
    assert all(attrs['alt'] for attrs in page.all('img'))


def test_it_can_be_read_by_ear_and_by_key(page):
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch('h[1-6]', tag)]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(headings, headings[1:], strict=False))
    assert all(attrs.get('scope') in ('col', 'row') for attrs in page.all('th'))
    assert all(attrs.get('aria-label') for attrs in page.all('svg'))
    # A wide table scrolls in a box of its own, which a keyboard can reach.
    boxes = [attrs for attrs in page.all('div') if attrs.get('class') == 'wide']
    assert len(boxes) == len(page.all('table'))
    assert all(attrs['tabindex'] == '0' and attrs['aria-label'] for attrs in boxes)


def test_links_within_the_page_lead_somewhere(out, page):
    ids = {attrs['id'] for _, attrs in page.tags if 'id' in attrs}
    links = page.all('a')
    assert links
    for attrs in links:
        target = attrs['href']
        assert target[1:] in ids if target.startswith('#') else (out / target).exists(), target


def test_words_of_a_result_are_shown_and_do_nothing(tmp_path, add_trial):
    bad = '<script>alert(1)</script><img src=x onerror=alert(1)>'
    result = add_trial()
    result['data']['variant'] = bad
    store.write_sealed(tmp_path / 'runs' / result['trial'] / 'result.json', result)
    publish.write_pages(tmp_path)
    text = (tmp_path / 'report.html').read_text()
    assert '<script' not in text
    assert '<img' not in text
    assert '&lt;script' in text


def test_without_trials_labels_or_logs_it_says_so(tmp_path, add_trial):
    publish.write_pages(tmp_path)
    assert 'No trial has been run yet.' in (tmp_path / 'report.html').read_text()
    add_trial(log=False)
    publish.write_pages(tmp_path)
    text = (tmp_path / 'report.html').read_text()
    assert 'Its log cannot be used.' in text
    assert 'left out for 1 trial:' in text


def test_a_page_of_ones_own_and_committed_folders_are_left_alone(tmp_path, add_trial):
    add_trial()
    (tmp_path / 'report.html').write_text('mine')
    assert publish.write_pages(tmp_path) == [tmp_path / 'README.md']
    assert (tmp_path / 'report.html').read_text() == 'mine'
    committed = tmp_path / 'reference' / 'quick'
    committed.mkdir(parents=True)
    assert publish.write_pages(committed) == [tmp_path / 'README.md']
    assert not list(committed.iterdir())


def test_a_matrix_of_many_classes_is_left_out(tmp_path):
    labels = np.arange(folder_page.MOST_CLASSES + 1)
    store.write_arrays(
        tmp_path / 'noisy_labels.arrays', {'noisy': labels, 'true': labels, 'index': labels}
    )
    y = np.eye(len(labels))
    store.write_arrays(tmp_path / 'labels.arrays', {'y': y})
    result = {
        'noise': {'digest': store.digest(labels)}, 'digests': {'labels': store.digest(y)},
    }  # fmt: skip
    assert folder_page._confusion(tmp_path, result) == []
