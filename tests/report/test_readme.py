from pathlib import Path

import pytest

from chainer_jo import store
from chainer_jo.report import readme
from chainer_jo.report.collect import Trials


@pytest.fixture
def page(tmp_path, grid, published, standard, command):
    """Returns a function that makes the page over the folders in ``tmp_path``."""

    def make():
        judged = grid | {'preset': 'paper', 'trials': 5, 'compare': 'verdict'}
        grids = {'quick': [grid], 'paper': [judged]}
        folders = [Trials(folder) for folder in tmp_path.iterdir()]
        return readme.text(tmp_path, folders, grids.__getitem__, published, standard, command)

    return make


def test_without_trials_the_page_says_so(page):
    assert page().endswith('No trial has been run yet.\n')


def test_the_page_has_the_table_and_every_trial_with_its_command(tmp_path, page, add_trial):
    results = [add_trial(seed=seed, out=tmp_path / 'quick') for seed in (0, 1)]

    text = page()

    assert '## quick: table2\n' in text
    assert '[quick: table2](#quick-table2)' in text
    assert '85.00 ± 0.00 (2)' in text
    for result in results:
        assert (
            f'| `{result["trial"]}` | 85.00 | 84.00 | 80.00 | 63.00 | 5 | 1.5 | '
            f'`train --method ours --seed {result["config"]["seed"]}` |\n'
        ) in text
    assert (
        '| 2 | CPU, x86_64 (model not recorded), chainer | 7.8.1 | 2.4.6 | 3.11.7 | 0.1.0 |\n'
    ) in text


def test_trials_that_are_no_cell_of_a_table_are_listed_with_their_data(tmp_path, page, add_trial):
    data = {'name': 'cifar10', 'variant': 'variant 1234abcd', 'train': 10000}
    trial = add_trial(out=tmp_path / 'cifar10', dataset='cifar10', data=data)['trial']

    text = page()

    assert '## cifar10: trials outside the tables\n' in text
    assert 'CIFAR-10 (variant 1234abcd)' in text
    assert '10,000 training' in text
    assert f'| `{trial}` | 85.00 | 84.00 | 80.00 |' in text
    assert ': table2' not in text


def test_only_the_paper_preset_has_a_difference_with_verdicts(tmp_path, page, add_trial):
    add_trial(out=tmp_path / 'quick')
    assert 'Difference from the paper' not in page()

    add_trial(out=tmp_path / 'paper', preset='paper')
    assert '**Difference from the paper**: table2, preset paper' in page()


def test_figures_that_lie_in_the_folder_are_shown(tmp_path, page, add_trial):
    add_trial(out=tmp_path / 'quick')
    (tmp_path / 'quick' / 'table2-curves-symmetric-0.7.png').touch()

    text = page()

    assert '![table2-curves-symmetric-0.7](quick/table2-curves-symmetric-0.7.png)' in text
    assert '(quick/table2-curves-symmetric-0.7.csv)' in text
    assert 'labels-symmetric' not in text


def test_unreadable_results_are_named(tmp_path, page):
    path = tmp_path / 'quick' / 'runs' / 'torn' / 'result.json'
    path.parent.mkdir(parents=True)
    path.touch()

    text = page()

    assert '### Not readable in quick, not used\n' in text
    assert '- `quick/runs/torn/result.json`: ' in text
    assert str(tmp_path) not in text


def test_the_page_is_the_same_when_it_is_made_again(tmp_path, page, add_trial):
    for seed in (1, 0):
        add_trial(seed=seed, out=tmp_path / 'quick')

    assert page() == page()


def test_the_overview_says_data_machine_precision_trials_and_command(tmp_path, page, add_trial):
    for seed in (0, 1):
        add_trial(seed=seed, out=tmp_path / 'quick')

    [line] = [line for line in page().splitlines() if line.startswith('| [quick: table2]')]

    assert line.split(' | ')[1:] == [
        'Fashion-MNIST (embedded subset)',
        'CPU, x86_64 (model not recorded), chainer',
        'float32',
        '2 (2 per cell)',
        '`python -m chainer_jo run table2 --preset quick --only ours --rates 0.7 --trials 2 '
        f'--out {tmp_path / "quick"}` |',
    ]


def test_a_column_that_no_trial_has_a_value_for_is_left_out(tmp_path, page, add_trial):
    add_trial(out=tmp_path / 'quick', labels=None)

    assert '| trial | best | last | wrong at first | epochs |' in page()


def test_committed_runs_are_made_again_in_the_users_folder_of_that_name(grid):
    root = Path('anywhere/results')

    assert readme.out_option(root / 'reference' / 'quick', grid) is None
    assert readme.out_option(root / 'reference' / 'mine', grid) == 'results/mine'
    assert readme.out_option(Path('results/quick'), grid) is None
    assert readme.out_option(Path('/tmp/quick'), grid) == '/tmp/quick'


def test_a_table_that_was_not_written_is_not_shown_beside_one_that_was(tmp_path, page, add_trial):
    trial = add_trial(out=tmp_path / 'quick')['trial']
    (tmp_path / 'quick' / 'table3.md').touch()

    assert '## quick: table2\n' in page()
    (tmp_path / 'quick' / 'table2.md').touch()
    assert page().count(f'`{trial}`') == 1


def test_minutes_are_the_training_time_with_a_first_stage_of_another_trial(
    tmp_path, page, add_trial
):
    result = add_trial(out=tmp_path / 'quick')
    result['times'] |= {'seconds': 60.0, 'training_seconds': 180.0}
    store.write_sealed(tmp_path / 'quick/runs' / result['trial'] / 'result.json', result)

    assert '| 5 | 3.0 | `train' in page()


def test_links_to_a_folder_with_any_name_have_the_anchor_of_its_heading(tmp_path, page, add_trial):
    add_trial(out=tmp_path / 'Mixed v1.2_é*')

    # Made by hand after GitHub's rule.
    assert '](#mixed-v12_%C3%A9-table2)' in page()


def test_machines_with_different_processors_are_different_rows(tmp_path, page, add_trial):
    for seed, processor in enumerate(['Chip 8', 'Chip 9', 'Chip 9']):
        result = add_trial(seed=seed, out=tmp_path / 'quick')
        result['environment']['processor'] = processor
        store.write_sealed(tmp_path / 'quick/runs' / result['trial'] / 'result.json', result)

    text = page()

    assert '| 1 | CPU, Chip 8, chainer |' in text
    assert '| 2 | CPU, Chip 9, chainer |' in text
