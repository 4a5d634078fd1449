import subprocess
import sys
from pathlib import Path

import pytest

from chainer_jo import config
from chainer_jo.report import publish

RESULTS = Path(__file__).parents[2] / 'results'


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
        'figure3-symmetric-0.7.png', 'figure3-symmetric-0.7.csv',
        'labels-symmetric-0.7.png', 'labels-symmetric-0.7.csv',
    }  # fmt: skip


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
    assert modified == [[], ['stages.fine_tune.a=0.125']]


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

    publish.write_readme(tmp_path)

    text = (tmp_path / 'README.md').read_text()
    assert text == publish.readme_text(tmp_path)
    assert config.from_dict(values).command in text


def test_the_readme_of_the_results_in_the_repository_is_up_to_date():
    if not list(RESULTS.glob('*/runs/*/result.json')):
        pytest.skip('the repository holds no results yet')

    assert (RESULTS / 'README.md').read_text() == publish.readme_text(RESULTS)


def test_the_report_imports_neither_chainer_nor_matplotlib():
    code = (
        'import sys; from chainer_jo.report import publish, show; '
        'print({"chainer", "cupy", "matplotlib"} & set(sys.modules))'
    )

    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)

    assert done.stdout == 'set()\n'


def report_epochs(report):
    return next(result['epochs'] for cell in report.cells for result in cell.results)
