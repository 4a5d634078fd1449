import re

import pytest

from chainer_jo.report import made_by, markdown, tables
from chainer_jo.report.cells import cells
from chainer_jo.report.reference import Reference

EXPECTED = """\
**Test accuracy for symmetric noise**: Fashion-MNIST, preset quick

| method |  | 50 % | 70 % |
| --- | --- | --- | --- |
| Cross entropy | best | not run | not run |
|  | last | not run | not run |
|  | labels |  |  |
| Ours | best | not run | 85.00 ± 1.41 (2) |
|  | last | not run | 88.00 ± 0.00 (2) |
|  | labels |  | 80.00 |
| GCE \\* | best | not run | 61.00 (1) |
|  | last | not run | 60.00 (1) |
|  | labels |  | 80.00 |
| Ours [a] | best |  | 50.00 (1) |
|  | last |  | 40.00 (1) |
|  | labels |  | 80.00 |

Test accuracy in percent: mean ± sample standard deviation (number of trials). best: at the epoch \
with the best validation accuracy; last: after the last epoch; labels: share of correct labels at \
the end.

The paper's numbers are not shown: preset quick cannot be compared with them, because it trains on \
other images.

\\* not in the paper's table; added here.

[a] departs from the preset: `common.batch_size=8`.

With 1 to 2 trials per cell, paired by seed, the two-sided p of a sign-flip test, which assumes \
nothing about the spread, is at least 0.5: with it, a difference between two methods cannot reach \
the usual 0.05.

Data: Fashion-MNIST (embedded subset); digest `5f5f5f5f5f5f5f5f`; 5,000 training, 1,000 validation \
and 2,000 test images; validation labels: clean.

Run on: CPU, x86_64 (model not recorded), chainer.

Made by `python -m chainer_jo run table2 --preset quick --only ours --rates 0.7 --trials 2`, \
`python -m chainer_jo run table2 --preset quick --only gce --rates 0.7 --trials 1`, \
`python -m chainer_jo run table2 --preset quick --only ours --rates 0.7 --trials 1 --set \
common.batch_size=8`.
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


def test_notes_about_the_papers_numbers_stand_where_these_do(grid, published, standard):
    note = "PENCIL's last at 10 % may be a misprint."
    grid = grid | {'paper_notes': [note]}

    assert note not in render(grid, published, [], standard)
    assert f'\n{note}\n' in render(grid | {'compare': 'verdict'}, published, [], standard)


def test_a_pair_that_is_left_out_is_explained_only_where_its_rate_is(grid, published, standard):
    grid = grid | {'without': [['gce', 0.9]], 'without_because': 'It has no T.'}

    assert 'It has no T.' not in render(grid, published, [], standard)
    grid = grid | {'without': [['gce', 0.7]]}
    assert '\nIt has no T.\n' in render(grid, published, [], standard)


def test_the_command_of_a_table_on_cifar10_asks_for_the_data(grid):
    grid = grid | {'preset': 'paper', 'dataset': 'cifar10'}

    command = 'python -m chainer_jo run table2 --preset paper --data DIR'
    assert made_by.commands(grid) == [command]


def test_the_kind_of_noise_stands_above_a_column_where_a_grid_mixes_kinds(grid):
    grid = grid | {'noise': ['symmetric', 'asymmetric']}

    assert markdown.column_title(grid, ('asymmetric', 0.3)) == 'asymmetric 30 %'


def test_more_than_26_kinds_of_departures_keep_distinct_signs():
    rows = [{'modified': [f'common.batch_size={size}']} for size in range(1, 60)]

    signs = markdown.marks_of(rows).values()

    assert len(set(signs)) == 59
    assert list(signs)[25:28] == ['z', 'aa', 'ab']


def test_where_the_preset_is_the_papers_its_numbers_and_differences_are_shown(
    grid, published, standard, add_trial
):
    results = [add_trial(0.85, 0.84), add_trial(0.5, 0.4, **SMALL_BATCH)]

    text = render(grid | {'compare': 'verdict'}, published, results, standard)

    assert '| Ours | best | not run<br>paper 91.00 | 85.00 (1)<br>paper 87.67, −2.67 |\n' in text
    assert '| Ours [a] | best |  | 50.00 (1)<br>paper 87.67 |\n' in text
    assert 'which has no spread' in text


def test_for_orientation_the_papers_numbers_are_shown_without_a_difference(
    grid, published, standard, add_trial
):
    text = render(grid | {'compare': 'orientation'}, published, [add_trial(0.85, 0.84)], standard)

    assert '| Ours | best | not run<br>paper 91.00 | 85.00 (1)<br>paper 87.67 |\n' in text
    assert 'for orientation only' in text
    assert 'depart further' not in text
    assert grid['differs'] in text
    assert '−' not in text


@pytest.mark.parametrize(('compare', 'shown'), [('none', False), ('orientation', True)])
def test_a_preset_that_cannot_be_compared_shows_no_number_of_the_paper(
    grid, published, standard, add_trial, compare, shown
):
    text = render(grid | {'compare': compare}, published, [add_trial()], standard)

    printed = [f'{100 * row[which]:.2f}' for row in published for which in ('best', 'last')]
    assert all((number in text) == shown for number in printed)
    assert grid['differs'] in text


def test_the_committed_run_stands_beside_a_users_own(grid, published, standard, add_trial):
    own = [add_trial(0.85, 0.84, labels=0.8)]
    committed = [add_trial(0.81, 0.80, labels=0.7, method='cross_entropy', rate=0.5),
                 add_trial(0.83, 0.82, labels=0.75, seed=9)]  # fmt: skip
    rows = tables.rows(grid, published, cells(grid, published, committed, standard))
    key = [(r['method'], r['noise'], r['rate'], ()) for r in rows]
    found = {k: row for k, row in zip(key, rows, strict=True) if row['trials']}

    reference = Reference('results/reference/quick', found, committed)
    text = render(grid, published, own, standard, reference)

    assert '| Ours | best | not run | 85.00 (1)<br>reference 83.00 (1) |\n' in text
    assert '|  | labels |  | 80.00<br>reference 75.00 |\n' in text
    assert '| Cross entropy | best | not run<br>reference 81.00 (1) | not run |\n' in text
    assert 'the committed trials in `results/reference/quick`' in text


def test_lines_that_cannot_be_had_are_left_out_by_name(grid, published, standard, add_trial):
    trial = add_trial(labels=None)
    trial['best']['test_accuracy'] = trial['last']['test_accuracy'] = None

    text = render(grid, published, [trial], standard)

    assert '| best |' not in text
    assert '| labels |' not in text
    assert 'Left out: test accuracy (there is no test set); share of correct labels' in text


def test_a_value_that_one_trial_lacks_is_unknown_where_others_have_theirs(
    grid, published, standard, add_trial
):
    trial = add_trial(rate=0.5)
    trial['best']['test_accuracy'] = None

    text = render(grid, published, [trial, add_trial(0.85, rate=0.7)], standard)

    assert '| Ours | best | unknown | 85.00 (1) |\n' in text


def test_files_of_initial_weights_are_named_and_part_of_the_command(
    grid, published, standard, add_trial
):
    trials = [add_trial(seed=seed) for seed in range(2)]
    assert '--weights' not in render(grid, published, trials, standard)
    for trial, digest in zip(trials, ('0676ba61' + 'a' * 56, 'b' * 64), strict=True):
        trial['weights'] = digest

    text = render(grid, published, trials, standard)

    assert (
        "Initial weights: torchvision's resnet50-0676ba61.pth; SHA-256 `0676ba61aaaaaaaa`.\n"
    ) in text
    assert 'a file that the package does not know; SHA-256 `bbbbbbbbbbbbbbbb`.\n' in text
    assert '--weights FILE`' in text


def test_trials_of_different_code_are_told_apart(grid, published, standard, add_trial):
    trials = [add_trial(seed=seed) for seed in range(4)]
    trials[1]['environment']['source'] = '0123456789ab'
    # Resumed after the code had changed.
    trials[2]['environments'] = [{'source': '0123456789ab'}, {'source': 'ba9876543210'}]
    trials[3]['environment']['source'] = '0123456789ab'

    text = render(grid, published, trials, standard)

    assert (
        'Trained by different versions of the code, which are named by their digest (number of '
        'trials in parentheses): 0123456789ab (2); 0123456789ab, then ba9876543210 (1); '
        'not recorded (1).\n'
    ) in text
    assert 'Trained by' not in render(grid, published, [trials[1], trials[3]], standard)


def test_trials_on_different_machines_are_named_in_one_line(grid, published, standard, add_trial):
    trials = [add_trial(seed=seed) for seed in range(3)]
    newer = {'processor': 'Chip 9', 'instruction_set': 'avx2', 'threads': 2}
    trials[2]['environment'] |= newer

    text = render(grid, published, trials, standard)

    assert (
        'Run on different machines, so the last digits can differ (number of trials in '
        'parentheses): '
        'CPU, Chip 9, avx2, chainer, 2 threads (1); '
        'CPU, x86_64 (model not recorded), chainer (2).\n'
    ) in text


def test_one_thread_is_one(grid, published, standard, add_trial):
    trial = add_trial()
    trial['environment'] |= {'processor': 'Chip 9', 'threads': 1}

    assert 'CPU, Chip 9, chainer, 1 thread.' in render(grid, published, [trial], standard)


def test_a_trial_that_moved_names_every_machine(grid, published, standard, add_trial):
    trial = add_trial()
    trial['environments'] = [trial['environment'] | {'processor': name} for name in ('A', 'B', 'A')]

    text = render(grid, published, [trial], standard)

    assert 'Run on: CPU, A, chainer, then CPU, B, chainer.' in text


def test_the_jpeg_variant_says_what_it_is(grid, published, standard, add_trial):
    digest = '8b829980f4186e0d7f097ceac3c3296d46ce609e2fa0288151e657da00f5b0d4'
    data = {'name': 'cifar10', 'variant': 'variant 8b829980', 'digest': digest}

    text = render(grid, published, [add_trial(data=data)], standard)

    assert 'CIFAR-10 (JPEG variant 8b829980): the official images' in text
    assert 'not the official pixels' in text
    assert 'quality 75' in text
    assert '`reproduce/cifar10_jpeg.py`' in text


@pytest.mark.parametrize(
    'bad', ['<script>alert(1)</script>', '[x](http://x)', 'a|b', '`x` <b>', 'https://x www.x']
)
def test_words_of_a_result_are_only_shown(grid, published, standard, add_trial, bad):
    data, environment = {'variant': bad, 'digest': '77' * 32}, {'processor': bad}
    trial = add_trial(data=data)
    trial['environment'] |= environment

    text = render(grid, published, [trial], standard)

    outside_code = re.sub('`[^`\n]*`', '', text).replace('<br>', '').replace('[a]', '')
    _, notes = outside_code.split('Test accuracy in percent')
    assert not re.search(r'(?<!\\)[<\[|]|https?://|www\.', notes)


def render(grid, published, results, standard, reference=None):
    found = cells(grid, published, results, standard)
    return markdown.to_markdown(grid, tables.rows(grid, published, found), found, reference)


SMALL_BATCH = {
    'modified': ['common.batch_size=8'],
    'common': {'batch_size': 8, 'validation_labels': 'clean'},
}
