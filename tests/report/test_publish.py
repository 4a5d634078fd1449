import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainer_jo import config, paper, store
from chainer_jo.commands import report as command
from chainer_jo.report import figures, lines, publish, readme
from chainer_jo.report.collect import read_all, read_logs

RESULTS = Path(__file__).parents[2] / 'results'
COMMITTED = sorted(
    path.relative_to(RESULTS)
    for path in RESULTS.glob('reference/*/*.md')
    if (path.parent / 'runs').exists()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(['<b>', '|', '`', 'ours', '../x', '\x1b[31m', '\ud800']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture
def add_quick(add_trial):
    """Returns a function that adds a finished trial of the real quick preset."""

    def add(method='ours', rate=0.7, seed=0, overrides=(), **changes):
        trial = config.trial(
            method, 'fashion_mnist', 'symmetric', rate, seed, 'quick', overrides
        ).as_dict()
        del trial['noise']['rate']
        return add_trial(rate=rate, **trial | changes)

    return add


def test_a_table_is_written_with_its_csv_and_figures(tmp_path, add_quick):
    for seed in (0, 1):
        add_quick(seed=seed)

    report = publish.write('table2', 'quick', tmp_path)

    assert [row['trials'] for row in report.rows if row['method'] == 'ours'] == [0, 2]
    assert report.unreadable == []
    assert (tmp_path / 'table2.md').read_text() == report.markdown
    assert {path.name for path in tmp_path.iterdir()} == {
        'runs', 'table2.md', 'table2.csv',
        'table2-curves-symmetric-0.7.png', 'table2-curves-symmetric-0.7.csv',
        'table2-labels-symmetric-0.7.png', 'table2-labels-symmetric-0.7.csv',
    }  # fmt: skip


def test_tables_in_one_folder_keep_their_own_figures(tmp_path, add_quick):
    for method in ('cross_entropy', 'tanaka', 'ours'):
        add_quick(method)
    publish.write('table2', 'quick', tmp_path)
    before = (tmp_path / 'table2-labels-symmetric-0.7.csv').read_text()

    publish.write('figure3', 'quick', tmp_path)

    assert (tmp_path / 'table2-labels-symmetric-0.7.csv').read_text() == before
    assert 'cross_entropy' in before
    assert 'cross_entropy' not in (tmp_path / 'figure3-labels-symmetric-0.7.csv').read_text()


def test_reading_a_table_writes_nothing(tmp_path, add_quick):
    add_quick()

    publish.read('table2', 'quick', tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {'runs'}


def test_trials_of_todays_settings_are_the_tables_own(tmp_path, add_quick):
    add_quick()
    add_quick(overrides=['ours.fine_tune.a=0.25'])

    rows = publish.read('table2', 'quick', tmp_path).rows

    modified = [row['modified'] for row in rows if row['trials']]
    assert modified == [[], ['ours.fine_tune.a=0.25']]


def test_trials_of_settings_that_the_preset_no_longer_has_do_not_mix(tmp_path, add_quick):
    stages = config.trial('ours', 'fashion_mnist', 'symmetric', 0.7, 0, 'quick').as_dict()['stages']
    older = stages | {'fine_tune': stages['fine_tune'] | {'a': 0.125}}
    add_quick(seed=0)
    add_quick(seed=1, stages=older)

    rows = publish.read('table2', 'quick', tmp_path).rows

    modified = [row['modified'] for row in rows if row['trials']]
    assert modified == [[], ['ours.fine_tune.a=0.125']]


def test_overrides_train_what_an_older_preset_did_and_its_command_has_them(tmp_path, add_quick):
    stages = config.trial('ours', 'fashion_mnist', 'symmetric', 0.7, 0, 'quick').as_dict()['stages']
    changed = {'a': 0.125, 'learning_rate': 0.3}
    typed = [f'ours.fine_tune.{key}={value}' for key, value in changed.items()]
    older = add_quick(stages=stages | {'fine_tune': stages['fine_tune'] | changed})
    add_quick(seed=1, overrides=typed)

    report = publish.read('table2', 'quick', tmp_path)

    (cell,) = [cell for cell in report.cells if cell.results]
    assert (list(cell.modified), len(cell.results)) == (typed, 2)
    assert f'--trials 2 --set {typed[0]} --set {typed[1]}' in report.markdown
    assert publish.command(older['config']).endswith(
        f"--seed 0 --set '{typed[0]}' --set '{typed[1]}'"
    )


def test_an_override_that_no_longer_exists_leaves_the_report_standing(tmp_path, add_quick):
    add_quick(modified=['ours.fine_tune.gone=1'])

    rows = publish.read('table2', 'quick', tmp_path).rows

    assert [row['modified'] for row in rows if row['trials']] == [['ours.fine_tune.gone=1']]


@pytest.mark.parametrize('kept', [0, 2])
def test_a_log_that_is_too_short_is_named_and_not_drawn(tmp_path, add_quick, kept):
    path = tmp_path / 'runs' / add_quick()['trial'] / 'log.jsonl'
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[:kept]))

    report = publish.write('table2', 'quick', tmp_path)

    assert report.unreadable == [
        {'path': str(path), 'problem': f'{kept} of {report_epochs(report)} epochs'}
    ]
    assert not list(tmp_path.glob('*.png'))


def test_figures_whose_trials_are_gone_are_deleted(tmp_path, add_quick):
    add_quick(rate=0.5)
    gone = tmp_path / 'runs' / add_quick(rate=0.7)['trial']
    publish.write('table2', 'quick', tmp_path)
    (tmp_path / 'table2-curves-mine.png').write_text('mine')
    assert len(list(tmp_path.glob('table2-*-0.7.*'))) == 4

    (gone / 'result.json').unlink()
    publish.write('table2', 'quick', tmp_path)

    assert list(tmp_path.glob('table2-*-0.7.*')) == []
    assert len(list(tmp_path.glob('table2-*-0.5.*'))) == 4
    assert (tmp_path / 'table2-curves-mine.png').exists()


def test_tables_of_two_presets_in_one_folder_keep_their_files_apart(tmp_path, add_quick):
    add_quick(rate=0.5)
    command.write('table2', 'quick', tmp_path)
    alone = (tmp_path / 'table2.csv').read_text()
    add_quick(rate=0.5, preset='reduced', dataset='cifar10')
    for preset in ('quick', 'reduced'):
        command.write('table2', preset, tmp_path)

    page = (tmp_path / 'README.md').read_text()
    assert (tmp_path / 'table2-quick.csv').read_text() == alone
    for preset, data in (('quick', 'Fashion-MNIST'), ('reduced', 'CIFAR-10')):
        [part] = re.findall(
            rf'^## {re.escape(tmp_path.name)}: table2-{preset}\n(.*?)</details>', page, re.S | re.M
        )
        assert f'{data}, preset {preset}' in part
        assert re.findall(r'\((table2.*?)\)', part) == [
            f'table2-{preset}-{kind}-symmetric-0.5.{end}'
            for kind in ('curves', 'labels')
            for end in ('png', 'csv')
        ]
        assert f'(#{tmp_path.name.replace(".", "")}-table2-{preset})' in page.replace('%5F', '_')


def test_a_trial_that_ends_while_a_table_is_written_is_not_on_its_page(
    tmp_path, add_quick, monkeypatch
):
    add_quick(seed=0)
    to_csv = publish.tables.to_csv

    def ends_meanwhile(*rows):
        if len(list(tmp_path.glob('runs/*'))) == 1:
            add_quick(seed=1)
        return to_csv(*rows)

    monkeypatch.setattr(publish.tables, 'to_csv', ends_meanwhile)
    written = command.write('table2', 'quick', tmp_path)

    assert [row['trials'] for row in written.rows if row['method'] == 'ours'] == [0, 1]
    assert '| 1 (1 per cell) |' in (tmp_path / 'README.md').read_text()
    assert (tmp_path / 'report.html').read_text().count('<h3 id="ours') == 1
    command.write('table2', 'quick', tmp_path)
    assert '| 2 (2 per cell) |' in (tmp_path / 'README.md').read_text()


def test_writing_twice_gives_the_same_bytes(tmp_path, add_quick):
    add_quick()

    contents = []
    for _ in range(2):
        publish.write('table2', 'quick', tmp_path)
        files = sorted(path for path in tmp_path.iterdir() if path.is_file())
        contents.append([path.read_bytes() for path in files])

    assert contents[0] == contents[1]


def test_the_readme_names_the_real_command_of_a_trial(tmp_path, add_quick):
    values = add_quick(out=tmp_path / 'quick')['config']

    pages = publish.write_pages(tmp_path / 'quick')

    assert [page.name for page in pages] == ['README.md', 'report.html']

    text = (tmp_path / 'quick' / 'README.md').read_text()
    assert text == publish.page_text(tmp_path / 'quick')
    assert config.from_dict(values).command in text


def test_the_page_over_committed_runs_lies_above_them_and_covers_all(tmp_path, add_quick):
    for name in ('quick', 'more'):
        add_quick(out=tmp_path / 'reference' / name)

    assert publish.write_pages(tmp_path / 'reference' / 'quick') == [tmp_path / 'README.md']

    text = (tmp_path / 'README.md').read_text()
    assert '## quick: table2' in text
    assert '## more: table2' in text
    assert '## The fields of the files' in text


@pytest.mark.parametrize('text', ['# My runs\n', '', f'My runs\n{readme.MARK}\n'])
def test_a_page_by_hand_is_never_replaced(tmp_path, add_quick, text):
    add_quick()
    (tmp_path / 'README.md').write_text(text)

    assert publish.write_pages(tmp_path) == [tmp_path / 'report.html']
    assert (tmp_path / 'README.md').read_text() == text


def test_a_page_that_the_program_made_is_made_again(tmp_path, add_quick):
    add_quick(seed=0)
    publish.write_pages(tmp_path)
    trial = add_quick(seed=1)['trial']

    publish.write_pages(tmp_path)

    assert trial in (tmp_path / 'README.md').read_text()


def test_a_users_table_stands_beside_the_committed_one(tmp_path, add_quick):
    add_quick(out=tmp_path / 'reference' / 'quick', best=0.81, last=0.80)
    add_quick(out=tmp_path / 'mine', best=0.83, last=0.82)

    beside = publish.read('table2', 'quick', tmp_path / 'mine').markdown
    alone = publish.read('table2', 'quick', tmp_path / 'reference' / 'quick').markdown

    assert '83.00 (1)<br>reference 81.00 (1)' in beside
    assert beside in publish.page_text(tmp_path / 'mine')
    assert '81.00 (1)' in alone
    assert 'reference' not in alone


def test_where_any_data_will_do_those_of_other_data_do_not_stand_beside(
    tmp_path, add_quick, monkeypatch
):
    add_quick(out=tmp_path / 'reference' / 'quick', best=0.81)
    other = {'variant': 'variant 1234abcd', 'digest': '1234abcd' * 8}
    add_quick(out=tmp_path / 'mine', best=0.83, data=other)
    grid = paper.grid
    monkeypatch.setattr(paper, 'grid', lambda *named: grid(*named) | {'any_data': True})
    assert 'reference' not in publish.read('table2', 'quick', tmp_path / 'mine').markdown
    add_quick(out=tmp_path / 'reference' / 'quick', best=0.81, data=other, seed=1)
    assert '83.00 (1)<br>reference 81.00 (1)' in (
        publish.read('table2', 'quick', tmp_path / 'mine').markdown
    )


def test_the_committed_folder_of_the_same_name_goes_before_that_of_the_preset(tmp_path, add_quick):
    add_quick(out=tmp_path / 'reference' / 'quick', best=0.81)
    add_quick(out=tmp_path / 'reference' / 'twice', best=0.5)

    text = publish.read('table2', 'quick', tmp_path / 'twice').markdown

    assert 'not run<br>reference 50.00 (1)' in text


def test_reports_need_neither_true_labels_nor_a_test_set(tmp_path, add_quick):
    folder = tmp_path / 'runs' / add_quick(labels=None)['trial']
    result = store.read_sealed(folder / 'result.json')
    result['best']['test_accuracy'] = result['last']['test_accuracy'] = None
    result['noise']['wrong'] = result['data']['test'] = None
    rows = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    rows = [row | {'test/main/accuracy': None} for row in rows]
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (folder / 'log.jsonl').write_text(text)
    result['digests']['log'] = store.sha256(text.encode())
    store.write_sealed(folder / 'result.json', result)

    report = publish.write('table2', 'quick', tmp_path)
    publish.write_pages(tmp_path)

    assert report.unreadable == []
    assert 'Left out: test accuracy' in report.markdown
    assert 'no test images' in report.markdown
    assert {path.name for path in tmp_path.glob('*.png')} == {'table2-curves-symmetric-0.7.png'}


def test_the_readme_of_the_results_in_the_repository_is_up_to_date():
    assert (RESULTS / 'README.md').read_text() == publish.page_text(RESULTS / 'reference' / 'quick')


@pytest.mark.parametrize('path', COMMITTED, ids=str)
def test_every_committed_table_is_up_to_date(path):
    table, folder = path.stem, RESULTS / path.parent
    preset = json.loads(next(folder.glob('runs/*/result.json')).read_text())['config']['preset']

    assert (RESULTS / path).read_text() == publish.read(table, preset, folder).markdown


def test_no_committed_result_is_left_out():
    folders = [folder for folder in RESULTS.glob('reference/*') if (folder / 'runs').exists()]

    assert len(folders) >= 5
    assert [item for folder in folders for item in read_all(folder)[1]] == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_result_whatever_is_in_it_stops_a_report(add_quick, data):
    with tempfile.TemporaryDirectory() as folder:
        whole = add_quick(out=Path(folder), log=False)
        path = Path(folder, 'runs', add_quick(out=Path(folder), seed=1)['trial'], 'result.json')
        result = store.read_sealed(path)
        place, key = data.draw(st.sampled_from(list(places(result))))
        place[key] = data.draw(JSON)
        store.write_sealed(path, result)

        report = publish.read('table2', 'quick', folder)
        page = publish.page_text(folder)

        assert [item['path'] for item in report.unreadable] in ([], [str(path)])
        assert whole['trial'] in page
        assert all(line.isprintable() for line in (page + report.markdown).split('\n'))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_log_whatever_is_in_it_stops_the_figures(add_quick, data):
    with tempfile.TemporaryDirectory() as folder:
        results = [add_quick(out=Path(folder), seed=seed) for seed in (0, 1)]
        path = Path(folder, 'runs', results[1]['trial'], 'log.jsonl')
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        row = data.draw(st.integers(0, len(rows) - 1))
        rows[row][data.draw(st.sampled_from(list(rows[row])))] = data.draw(JSON)
        text = ''.join(json.dumps(row) + '\n' for row in rows)
        path.write_text(text)
        result = path.with_name('result.json')
        digests = results[1]['digests'] | {'log': store.sha256(text.encode())}
        store.write_sealed(result, results[1] | {'digests': digests})

        found = publish.read('table2', 'quick', folder).cells
        trials = [result for cell in found for result in cell.results]
        logs, damaged = read_logs(trials, folder)
        grid = publish.sheet('table2', 'quick')
        drawn, _ = lines.lines(grid, found, 'symmetric', 0.7, logs)

        assert results[0]['trial'] in logs
        assert len(logs) + len(damaged) == 2
        assert figures.points(lines.last_stage(drawn), figures.FIGURE3)


def places(values):
    """Every container in JSON values with each of its keys."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield values, key
        if isinstance(value, dict | list):
            yield from places(value)


def test_the_report_imports_neither_chainer_nor_matplotlib():
    code = (
        'import sys; from chainer_jo.report import publish, show; '
        'print({"chainer", "cupy", "matplotlib"} & set(sys.modules))'
    )

    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)

    assert done.stdout == 'set()\n'


def report_epochs(report):
    return next(result['epochs'] for cell in report.cells for result in cell.results)


def test_the_command_names_a_bad_result_goes_on_and_ends_with_3(tmp_path, add_quick):
    folder = tmp_path / 'mine'
    trial = add_quick(out=folder)['trial']
    bad = folder / 'runs' / '\x1b[31mred' / 'result.json'
    bad.parent.mkdir()
    bad.write_text('[' * 100_000)
    for words in (['report', 'table2'], ['report', 'all'], ['diff', 'table2']):
        done = subprocess.run(
            [sys.executable, '-m', 'chainer_jo', *words, '--preset', 'quick', '--out', 'mine'],
            cwd=tmp_path,
            env=os.environ | {'PYTHONPATH': str(RESULTS.parent)},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 3, done.stderr
        assert r'\x1b[31mred/result.json' in done.stderr
        assert '\x1b' not in done.stdout + done.stderr
        assert 'Traceback' not in done.stderr
    assert trial in (folder / 'README.md').read_text()


def test_a_row_that_departs_from_the_preset_has_no_reference_of_another_setting(
    tmp_path, add_quick
):
    add_quick(out=tmp_path / 'reference' / 'quick', best=0.81)
    add_quick(out=tmp_path / 'mine', best=0.83, overrides=['common.batch_size=32'])

    text = publish.read('table2', 'quick', tmp_path / 'mine').markdown

    assert '83.00 (1)' in text
    assert '83.00 (1)<br>reference' not in text


def test_committed_trials_on_other_data_are_no_reference(tmp_path, add_quick):
    other = {'variant': 'variant 1234abcd', 'digest': '1234abcd' * 8}
    add_quick(out=tmp_path / 'reference' / 'quick', best=0.81, data=other)
    add_quick(out=tmp_path / 'mine', best=0.83)

    assert 'reference' not in publish.read('table2', 'quick', tmp_path / 'mine').markdown


def test_data_of_a_cell_of_its_own_do_not_bring_their_reference_beside_the_others(
    tmp_path, add_quick, monkeypatch
):
    grid = paper.grid
    monkeypatch.setattr(paper, 'grid', lambda *named: grid(*named) | {'any_data': True})
    other = {'variant': 'variant 1234abcd', 'digest': '1234abcd' * 8}
    add_quick(out=tmp_path / 'reference' / 'quick', best=0.81, data=other)
    for seed in (0, 1):
        add_quick(out=tmp_path / 'mine', best=0.83, seed=seed)
    add_quick(out=tmp_path / 'mine', best=0.82, seed=2, data=other)

    assert 'reference' not in publish.read('table2', 'quick', tmp_path / 'mine').markdown
