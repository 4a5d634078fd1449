"""Text from files of anybody reaches terminals and pages, and can do nothing there."""

import html.parser
import json
import os
import random
import re
import shutil
import time

import children
import markdown_it
import pytest
import tiny

from chainer_jo import cli, datasets, store
from chainer_jo.datasets import label_files
from chainer_jo.errors import DataError
from chainer_jo.report import collect, integrity

CONFIG = tiny.config('cross_entropy')
EVIL = (
    '</td><script>alert(1)</script>"\'><img src=//evil.example/x onerror=alert(1)>'
    '[a](https://evil.example) <https://evil.example> `x` www.evil.example | a'
)
ESCAPE = '\x1b]0;evil\x07\x1b[2J\u202e'


def leaves(value, path=()):
    """Yields where text, or nothing, stands in JSON."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from leaves(inner, (*path, key))
    elif isinstance(value, str | None):
        yield path


def put(value, path, text):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = text


def hostile(path):
    """Puts evil text in every place of a result where a report takes it; returns the places."""
    taken = []
    for place in leaves(store.read_sealed(path)):
        before = store.read_sealed(path)
        put(altered := store.read_sealed(path), place, EVIL)
        store.write_sealed(path, altered)
        if collect.read_doubtful(path)[1] is None:
            taken.append(place)
        else:
            store.write_sealed(path, before)
    return taken


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def check_harmless(page):
    for tag, attributes in Page(page).found:
        assert tag not in ('script', 'iframe', 'object'), tag
        assert not any(name.startswith('on') for name in attributes), attributes
        for name in ('href', 'src'):
            assert 'evil' not in (attributes.get(name) or ''), attributes


def test_no_text_of_a_result_does_anything_on_a_page_or_a_terminal(out, capsys, figure):
    path = tiny.folder(CONFIG, out) / 'result.json'
    taken = hostile(path)
    assert len(taken) >= 10
    for words in (
        ['report', 'table2', '--preset', 'quick', '--out', str(out)],
        ['diff', 'table2', '--preset', 'quick', '--out', str(out)],
        ['show', str(path.parent)],
        ['verify', str(out)],
    ):
        with pytest.raises(SystemExit) as exited:
            cli.main(words)
        assert exited.value.code in (0, 1, 3), words
        told = capsys.readouterr()
        assert all(line.isprintable() for line in (told.out + told.err).splitlines())
    check_harmless((out / 'report.html').read_text())
    # As a browser is shown it by whoever renders Markdown, raw HTML and bare addresses included.
    parser = markdown_it.MarkdownIt('commonmark', {'html': True}).enable('table')
    for page in (out / 'README.md', out / 'table2.md'):
        check_harmless(parser.render(page.read_text()))
        # GitHub makes links of bare addresses, but for those in code.
        text = re.sub('`[^`]*`', '', page.read_text())
        assert 'evil' in text
        assert not re.search(r'(https?://|www\.)evil', text)
    figure('text', f'evil text in {len(taken)} fields of a result: shown as text on every page')


def test_text_that_a_terminal_obeys_leaves_a_result_out_and_is_spelled(out, capsys):
    path = tiny.folder(CONFIG, out) / 'result.json'
    for place in leaves(store.read_sealed(path)):
        put(altered := store.read_sealed(path), place, ESCAPE)
        copy = shutil.copytree(path.parent, out / 'altered' / 'runs' / CONFIG.trial)
        store.write_sealed(copy / 'result.json', altered)
        ((_, _, problems),) = [integrity.verify(out / 'altered')]
        assert 'not printable' in problems[0]['problem']
        assert problems[0]['problem'].isprintable()
        shutil.rmtree(out / 'altered')


@pytest.mark.parametrize('write', [
    lambda path: path.write_text(f'{ESCAPE}\n' * 4),
    lambda path: path.write_text(json.dumps({ESCAPE: [1, 2, 3, 4], EVIL: [1, 2, 3, 4]})),
    lambda path: path.write_text(f'{ESCAPE},{EVIL}\n1,2\n'),
])  # fmt: skip
def test_what_is_said_of_labels_is_three_printable_lines(write, tmp_path):
    path = tmp_path / f'{ESCAPE[:4]}.csv'
    write(path)
    with pytest.raises(DataError) as caught:
        label_files.read_labels(path, 4, ['a', 'b'])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 500 for line in lines)


def differing(a, b, path=()):
    """Returns the keys above the one place at which two JSON values differ."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next((f for k in a if (f := differing(a[k], b[k], (*path, k)))), ())
    return path if a != b else ()


def test_a_flipped_bit_of_a_configuration_is_named_by_its_key(out, figure):
    path, bits, counts = tiny.folder(CONFIG, out) / 'config.json', random.Random(0), [0, 0]
    (path.parent / 'result.json').unlink()
    whole = path.read_bytes()
    dataset = datasets.load('fashion_mnist')
    for bit in bits.sample(range(8 * len(whole)), 80):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError) as caught:
            tiny.run(CONFIG, out, dataset=dataset)
        assert str(path) in caught.value.problem
        try:
            place = differing(json.loads(whole), json.loads(damaged))
        except ValueError:
            counts[1] += 1
            continue
        # Nobody knows what these were.
        if place and place[0] not in ('threads', 'place', 'digest'):
            assert str(place[0]) in caught.value.seen, (place, caught.value.seen)
            counts[0] += 1
    assert counts[0] > 10
    figure('config', f'80 flipped bits: {counts[0]} named by key, {counts[1]} no JSON, 80 refused')


def test_a_report_sweeps_what_a_killed_one_has_left_and_nothing_younger(out, capsys):
    # No process has a number as large.
    left, young = out / '.table2.md.99999999.tmp', out / '.table2.csv.99999999.tmp'
    for path in (left, young):
        path.write_text('half of a table')
    os.utime(left, (time.time() - 100,) * 2)
    with pytest.raises(SystemExit):
        cli.main(['report', 'table2', '--preset', 'quick', '--out', str(out)])
    assert not left.exists()
    assert young.exists()


def test_a_folder_may_be_called_like_an_option(tmp_path):
    overrides = [word for item in tiny.overrides('cross_entropy') for word in ('--set', item)]
    words = ['run', 'table2', '--preset', 'quick', '--only', 'cross_entropy', '--rates', '0.5']
    words += ['--trials', '1', '--device', 'cpu', '--out=-x', *overrides]
    child = children.Child(words, tmp_path / 'log', In(tmp_path))
    assert child.wait() == 0, child.said()
    assert (tiny.folder(CONFIG, tmp_path / '-x') / 'result.json').exists()


class In:
    """Changes the folder of a process."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        os.chdir(self.folder)


@pytest.mark.parametrize('command', ['show', 'verify'])
@pytest.mark.parametrize('trial', ['../../../none', 'x' * 300, '/dev/null', ESCAPE, 'a\0b'])
def test_a_trial_that_cannot_be_is_refused_in_three_lines(
    command, trial, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exited:
        cli.main([command, trial])
    told = capsys.readouterr().err.splitlines()
    assert exited.value.code in (2, 3)
    assert len(told) == 3, told
    assert all(line.isprintable() for line in told)


def test_a_trial_of_another_folder_is_not_taken_for_the_one_that_is_named(out):
    """Nor can its id lead to another place: it is never a path, only compared with one."""
    path = tiny.folder(CONFIG, out) / 'result.json'
    for trial in ('../../x', '/etc/passwd', '..', 'a/b', ''):
        put(altered := store.read_sealed(path), ('trial',), trial)
        store.write_sealed(path, altered)
        assert collect.read_all(out)[0] == []
