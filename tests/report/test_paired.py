import csv
import io
import statistics

import pytest

from chainer_jo import paper
from chainer_jo.report import figures, paired, publish
from chainer_jo.report.cells import Cell, cells
from chainer_jo.report.paired_statistics import sign_flip_p
from chainer_jo.report.tables import to_csv

SMALL = 'common.batch_size=8'
TITLE = 'all of a batch against eight'


@pytest.fixture
def grid(grid):
    """Pairs of the paper's method with another batch size, at two rates."""
    pair = {'title': TITLE, 'first': ['ours'], 'second': ['ours', SMALL]}
    return grid | {'pairs': [pair], 'variants': [[SMALL]], 'methods': ['ours']}


@pytest.fixture
def add(add_trial):
    """Returns a function that writes a trial of either end of a pair."""

    def give(best, seed, rate=0.5, last=0.8, second=False, **changes):
        batch = {'batch_size': 8 if second else 64, 'validation_labels': 'clean'}
        modified = [SMALL] if second else []
        return add_trial(
            best, last, rate=rate, seed=seed, modified=modified, common=batch, **changes
        )

    return give


def pairs_of(grid, published, standard, results, logs=None):
    return paired.pairs(grid, cells(grid, published, results, standard), logs or {})


def test_trials_of_one_seed_and_noise_are_a_pair_and_others_are_none(
    grid, published, standard, add
):
    results = [
        add(0.85, 0), add(0.82, 0, second=True),
        add(0.90, 0, rate=0.7), add(0.95, 0, rate=0.7, second=True),
        add(0.85, 1), add(0.85, 2, second=True),
    ]  # fmt: skip

    rows = pairs_of(grid, published, standard, results)

    assert [(r['rate'], r['seed'], r['best_difference']) for r in rows] == [
        (0.5, 0, pytest.approx(0.03)),
        (0.7, 0, pytest.approx(-0.05)),
    ]
    assert [(r['first'], r['second']) for r in rows] == [
        (results[0]['trial'], results[1]['trial']),
        (results[2]['trial'], results[3]['trial']),
    ]


@pytest.mark.parametrize(
    'change',
    [
        lambda r: r['noise'].update(digest='cd' * 32),
        lambda r: r['data'].update(digest='ef' * 32, variant='variant efefefef'),
        lambda r: r['last'].update(test_accuracy=None),
        lambda r: r['config'].update(precision='bfloat16'),
    ],
    ids=['other noise', 'other data', 'no test set', 'other precision'],
)
def test_trials_on_other_labels_or_data_or_without_a_test_are_no_pair(
    change, grid, published, standard, add
):
    results = [add(0.85, 0), add(0.82, 0, second=True)]
    assert len(pairs_of(grid, published, standard, results)) == 1
    change(results[1])

    assert pairs_of(grid, published, standard, results) == []


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_trials_on_a_variant_of_the_data_are_pairs_of_their_own(
    precision, grid, published, standard, add
):
    other = {'data': {'digest': 'ef' * 32, 'variant': 'variant efefefef'}, 'precision': precision}
    results = [
        add(0.85, 0), add(0.82, 0, second=True),
        add(0.8, 0, **other), add(0.7, 0, second=True, **other),
    ]  # fmt: skip

    rows = pairs_of(grid, published, standard, results)

    assert sorted(r['best_difference'] for r in rows) == pytest.approx([0.03, 0.1])


def test_a_pair_says_whether_the_logs_of_step_1_are_equal(grid, published, standard, add):
    results = [add(0.85, 0), add(0.82, 0, second=True)]
    log = [
        {'stage': 'correct', 'main/loss': 0.5, 'seconds': 1.0},
        {'stage': 'fine_tune', 'main/loss': 0.3, 'seconds': 1.0},
    ]
    slower = [log[0] | {'seconds': 2.0, 'shared': {}}, log[1] | {'main/loss': 0.4}]
    other = [log[0] | {'main/loss': 0.5 + 1e-16 * 2**3}, log[1]]

    said = [
        pairs_of(grid, published, standard, results, logs)[0]['same_step_1']
        for logs in (
            {},
            dict(zip([r['trial'] for r in results], (log, slower), strict=True)),
            dict(zip([r['trial'] for r in results], (log, other), strict=True)),
        )
    ]

    assert said == [None, True, False]


def test_all_together_is_the_mean_over_seeds_that_have_every_setting(
    grid, published, standard, add
):
    best = {(0.5, 0): 0.81, (0.7, 0): 0.83, (0.5, 1): 0.82, (0.7, 1): 0.78, (0.5, 2): 0.99}
    results = [
        add(value if not second else 0.8, seed, rate=rate, second=second)
        for (rate, seed), value in best.items()
        for second in (False, True)
    ]

    found = paired.summaries(grid, pairs_of(grid, published, standard, results))

    [by_seed, by_pair] = [s for s in found if s.rate is None and s.measure == 'best']
    assert by_seed.differences == pytest.approx((0.02, 0.0))
    assert by_pair.differences == pytest.approx((0.01, 0.03, 0.02, -0.02))
    assert by_seed.mean == by_pair.mean == pytest.approx(0.01)
    # Of 20 + 60 + 40 - 40 images, 80 or more: 4 of 16 patterns, and as many below.
    assert (by_seed.p, by_pair.p) == (1.0, pytest.approx(1 / 2))
    [half] = [s for s in found if (s.rate, s.measure) == (0.5, 'best')]
    assert half.mean == pytest.approx(statistics.mean([0.01, 0.02, 0.19]))
    assert (half.p, half.interval) == (0.25, None)


def test_the_table_shows_mean_interval_signs_and_what_p_can_be(grid, published, standard, add):
    hits = [10, 20, -10, 0, 30, 40]
    results = [
        add(0.8 + (0 if second else difference / 1000), seed, second=second)
        for seed, difference in enumerate(hits)
        for second in (False, True)
    ]

    text = paired.to_markdown(grid, pairs_of(grid, published, standard, results))

    [line] = [line for line in text.splitlines() if '| best |' in line]
    assert line.startswith(f'| {TITLE} | symmetric 50 % | best | 6 | +1.50 | ')
    assert line.endswith(' | 4 / 1 / 1 | 0.188 | 0.0312 |')
    assert ' to +' in line
    assert 'The median epoch of `best` over the 12 trials is 4 (epochs 4 to 4)' in text
    assert f'second Ours with `{SMALL}`' in text


def test_without_a_pair_nothing_is_said(grid, published, standard, add):
    assert paired.to_markdown(grid, pairs_of(grid, published, standard, [add(0.8, 0)])) == ''


def test_every_single_value_is_in_the_csv_and_equal_pairs_draw_equal_pictures(
    grid, published, standard, add
):
    results = [
        add(0.8 + seed / 100 * (not second), seed, rate=rate, second=second)
        for seed in range(6)
        for rate in (0.5, 0.7)
        for second in (False, True)
    ]
    rows = pairs_of(grid, published, standard, results)
    read = list(csv.DictReader(io.StringIO(to_csv(rows, paired.COLUMNS))))

    assert [float(row['best_difference']) for row in read] == [r['best_difference'] for r in rows]
    assert [row['first'] for row in read] == [r['first'] for r in rows]
    first, second = (figures.pairs_figure(grid, paired.summaries(grid, rows)) for _ in range(2))
    assert first == second
    assert first.startswith(b'\x89PNG')
    rows[0]['best_difference'] += 0.05
    assert figures.pairs_figure(grid, paired.summaries(grid, rows)) != first


@pytest.mark.parametrize('preset', paper.PRESETS)
@pytest.mark.parametrize('table', paper.tables())
def test_every_end_of_a_pair_is_a_row_that_the_table_runs(table, preset):
    grid = paper.grid(table, preset)
    run = [[method] for method in grid['methods']]
    run += [
        [method, *variant] for method in grid['methods'] for variant in grid.get('variants', [])
    ]
    for pair in grid.get('pairs', []):
        assert pair['first'] in run
        assert pair['second'] in run


def test_a_report_writes_the_pairs_and_their_figure_where_there_are_pairs(
    tmp_path, grid, standard, add, monkeypatch
):
    monkeypatch.setattr(publish, 'sheet', lambda table, preset: grid)
    monkeypatch.setattr(publish, 'standard', standard)
    add(0.85, 0, out=tmp_path / 'one')
    for second in (False, True):
        add(0.85, 0, out=tmp_path / 'two', second=second)

    alone = publish.write('table2', 'quick', tmp_path / 'one')
    report = publish.write('table2', 'quick', tmp_path / 'two')

    assert 'Pairs by seed' not in alone.markdown
    assert not list((tmp_path / 'one').glob('*-pairs.*'))
    assert 'In 1 of 1 pairs with logs, step 1 is the same' in report.markdown
    assert (tmp_path / 'two' / 'table2-pairs.png').exists()
    [row] = csv.DictReader((tmp_path / 'two' / 'table2-pairs.csv').read_text().splitlines())
    assert row['same_step_1'] == 'True'


def test_the_cells_of_a_pair_are_found_whatever_the_order_of_overrides(grid, add):
    one, other = add(0.8, 0), add(0.7, 0, second=True)
    both = grid | {
        'pairs': [{'title': 't', 'first': ['ours'], 'second': ['ours', 'n.b=2', 'n.a=1']}]
    }
    found = [
        Cell('ours', 'symmetric', 0.5, (), [one]),
        Cell('ours', 'symmetric', 0.5, ('n.a=1', 'n.b=2'), [other]),
    ]

    assert [row['seed'] for row in paired.pairs(both, found, {})] == [0]


def test_pairs_in_two_precisions_are_not_independent_pairs_of_one(grid, published, standard, add):
    results = []
    for seed in range(6):
        for precision in ('float32', 'bfloat16')[: 1 + (seed < 4)]:
            for second in (False, True):
                best = 0.85 - 0.01 * second * (seed + 1)
                results += [
                    add(best, seed, rate=rate, second=second, precision=precision)
                    for rate in (0.5, 0.7)
                ]

    rows = pairs_of(grid, published, standard, results)
    found = {(s.comparison, s.noise, s.rate, s.measure): s for s in paired.summaries(grid, rows)}

    for title, count in ((TITLE, 6), (f'{TITLE} (bfloat16)', 4)):
        assert len(found[title, 'symmetric', 0.5, 'best'].differences) == count
        assert len(found[title, paired.BY_SEED, None, 'best'].differences) == count
        assert len(found[title, paired.BY_PAIR, None, 'best'].differences) == 2 * count


def test_trials_of_other_numbers_of_processes_or_weights_are_no_pair(
    grid, published, standard, add
):
    results = [add(0.85, 0), add(0.82, 0, second=True)]
    results[1]['environment']['processes'] = 2
    assert pairs_of(grid, published, standard, results) == []
    results[0]['environment']['processes'] = 2
    assert len(pairs_of(grid, published, standard, results)) == 1
    results[0]['weights'] = 'ab' * 32
    assert pairs_of(grid, published, standard, results) == []


def test_a_difference_of_three_of_ten_thousand_images_counts_as_three(
    grid, published, standard, add
):
    ten_thousand = {'data': {'test': 10_000}}
    results = [
        add(0.8 + (0 if second else hits / 10_000), seed, second=second, **ten_thousand)
        for seed, hits in enumerate([3, -3, 1, 2])
        for second in (False, True)
    ]

    [best] = [
        s
        for s in paired.summaries(grid, pairs_of(grid, published, standard, results))
        if s.measure == 'best' and s.rate == 0.5
    ]

    # 3 - 3 + 1 + 2 = 3; with 2 for 3 the patterns as extreme would be others.
    assert best.p == pytest.approx(sign_flip_p([3, -3, 1, 2]))


def test_a_pair_is_counted_in_images_of_the_test_set(grid, published, standard, add):
    results = [add(0.8005, 0), add(0.8, 0, second=True)]

    [pair] = pairs_of(grid, published, standard, results)

    assert pair['test_images'] == 2000
