import pytest

from chainer_jo.report import readme


@pytest.fixture
def page(tmp_path, grid, published, standard, command):
    """Returns a function that makes the page over the folders in ``tmp_path``."""

    def make():
        grids = {'quick': [grid], 'paper': [grid | {'preset': 'paper', 'trials': 5}]}
        return readme.text(tmp_path, grids.__getitem__, published, standard, command)

    return make


def test_without_trials_the_page_says_so(page):
    assert page().endswith('No trial has been run yet.\n')


def test_the_page_has_the_table_and_every_trial_with_its_command(tmp_path, page, add_trial):
    results = [add_trial(seed=seed, out=tmp_path / 'quick') for seed in (0, 1)]

    text = page()

    assert '## quick\n' in text
    assert '### table2\n' in text
    assert '85.00 ± 0.00 (2)' in text
    for result in results:
        assert (
            f'| `{result["trial"]}` | 85.00 | 84.00 | 80.00 | 63.00 | 5 | 1.5 | '
            f'`train --method ours --seed {result["config"]["seed"]}` |\n'
        ) in text
    assert '| 2 | cpu | chainer | x86_64 | 2 | 7.8.1 | 2.4.6 | 3.11.7 | 0.1.0 |\n' in text


def test_trials_that_are_no_cell_of_a_table_are_listed_with_their_data(tmp_path, page, add_trial):
    data = {'name': 'cifar10', 'variant': 'variant 1234abcd', 'train': 10000}
    trial = add_trial(out=tmp_path / 'cifar10', dataset='cifar10', data=data)['trial']

    text = page()

    assert '### Trials outside the tables\n' in text
    assert 'CIFAR-10 (variant 1234abcd)' in text
    assert '10,000 training' in text
    assert f'| `{trial}` | 85.00 | 84.00 | 80.00 |' in text
    assert '### table2' not in text


def test_only_the_paper_preset_has_a_difference_with_verdicts(tmp_path, page, add_trial):
    add_trial(out=tmp_path / 'quick')
    assert 'Difference to the paper' not in page()

    add_trial(out=tmp_path / 'paper', preset='paper')
    assert '**Difference to the paper**: table2, preset paper' in page()


def test_figures_that_lie_in_the_folder_are_shown(tmp_path, page, add_trial):
    add_trial(out=tmp_path / 'quick')
    (tmp_path / 'quick' / 'figure3-symmetric-0.7.png').touch()

    text = page()

    assert '![figure3-symmetric-0.7](quick/figure3-symmetric-0.7.png)' in text
    assert '(quick/figure3-symmetric-0.7.csv)' in text
    assert 'labels-symmetric' not in text


def test_unreadable_results_are_named(tmp_path, page):
    path = tmp_path / 'quick' / 'runs' / 'torn' / 'result.json'
    path.parent.mkdir(parents=True)
    path.touch()

    text = page()

    assert '### Not readable, not used\n' in text
    assert '- `quick/runs/torn/result.json`: ' in text
    assert str(tmp_path) not in text


def test_the_page_is_the_same_when_it_is_made_again(tmp_path, page, add_trial):
    for seed in (1, 0):
        add_trial(seed=seed, out=tmp_path / 'quick')

    assert page() == page()
