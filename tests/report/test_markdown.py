from chainer_jo.report import markdown, tables
from chainer_jo.report.cells import cells

EXPECTED = """\
**Test accuracy for symmetric noise**; here: preset quick, Fashion-MNIST

| method |  | 50 % | 70 % |
| --- | --- | --- | --- |
| Cross entropy | best | not run<br>paper 85.15 | not run<br>paper 78.09 |
|  | last | not run<br>paper 53.11 | not run<br>paper 33.32 |
|  | labels |  |  |
| Ours | best | not run<br>paper 91.00 | 85.00 ± 1.41 (2)<br>paper 87.67, −2.67 |
|  | last | not run<br>paper 90.67 | 88.00 ± 0.00 (2)<br>paper 87.43, +0.57 |
|  | labels |  | 80.00 |
| GCE \\* | best | not run | 61.00 (1) |
|  | last | not run | 60.00 (1) |
|  | labels |  | 80.00 |
| Ours [a] | best |  | 50.00 (1)<br>paper 87.67, −37.67 |
|  | last |  | 40.00 (1)<br>paper 87.43, −47.43 |
|  | labels |  | 80.00 |

Test accuracy in percent: mean ± sample standard deviation (trials). best: at the epoch of the \
best validation accuracy; last: after the last epoch; labels: share of correct labels in the label \
store at the end.

Under it: the paper's printed number, which has no spread, and the difference in points. **Not \
comparable**: preset quick uses other data, a smaller net and a shorter schedule; the paper's \
numbers are for CIFAR-10.

\\* not in the paper's table; added here.

[a] departs from the preset: `common.batch_size=8`.

Data: Fashion-MNIST (embedded subset), digest `5f5f5f5f5f5f5f5f`; 5,000 training, 1,000 validation \
and 2,000 test images; validation labels: clean.

Made by `python -m chainer_jo run table2 --preset quick --only ours,gce --rates 0.7 --trials 2`.
"""


def test_a_small_table_reads_as_expected(grid, published, standard, add_trial):
    results = [
        add_trial(0.84, 0.88, seed=0),
        add_trial(0.86, 0.88, seed=1),
        add_trial(0.61, 0.60, method='gce'),
        add_trial(0.5, 0.4, **SMALL_BATCH),
    ]

    assert render(grid, published, results, standard) == EXPECTED


def test_where_only_modified_trials_were_run_only_they_are_shown(
    grid, published, standard, add_trial
):
    text = render(grid, published, [add_trial(**SMALL_BATCH)], standard)

    assert 'Ours [a]' in text
    assert 'not run' not in text


def test_a_variant_of_the_grid_is_named_in_its_row(grid, published, standard, add_trial):
    grid = grid | {'variants': [['common.batch_size=8']]}

    text = render(grid, published, [add_trial(), add_trial(**SMALL_BATCH)], standard)

    assert '| Ours, `common.batch_size=8` | best |' in text
    assert '[a]' not in text


def test_noisy_validation_labels_are_named(grid, published, standard, add_trial):
    noisy = {'batch_size': 64, 'validation_labels': 'noisy'}

    text = render(grid, published, [add_trial(), add_trial(seed=1, common=noisy)], standard)

    assert 'validation labels: clean.' in text
    assert 'validation labels: noisy.' in text


def test_the_notes_of_the_grid_stand_under_the_table(grid, published, standard):
    grid = grid | {'notes': ["PENCIL's last at 10 % may be a misprint."]}

    text = render(grid, published, [], standard)

    assert "\nPENCIL's last at 10 % may be a misprint.\n" in text


def test_the_command_of_a_table_on_cifar10_asks_for_the_data(grid):
    grid = grid | {'preset': 'paper', 'dataset': 'cifar10'}

    command = 'python -m chainer_jo run table2 --preset paper --data DIR'
    assert markdown.table_command(grid) == command


def test_the_kind_of_noise_stands_above_a_column_where_a_grid_mixes_kinds(grid):
    grid = grid | {'noise': ['symmetric', 'asymmetric']}

    assert markdown.column_title(grid, ('asymmetric', 0.3)) == 'asymmetric 30 %'


def test_more_than_26_kinds_of_departures_keep_distinct_signs():
    rows = [{'modified': [f'common.batch_size={size}']} for size in range(1, 60)]

    signs = markdown.marks_of(rows).values()

    assert len(set(signs)) == 59
    assert list(signs)[25:28] == ['z', 'aa', 'ab']


def render(grid, published, results, standard):
    found = cells(grid, published, results, standard)
    return markdown.to_markdown(grid, tables.rows(grid, published, found), found)


SMALL_BATCH = {
    'modified': ['common.batch_size=8'],
    'common': {'batch_size': 8, 'validation_labels': 'clean'},
}
