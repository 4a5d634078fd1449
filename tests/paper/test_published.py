import csv
from pathlib import Path

import pytest

from chainer_jo import paper

ROWS = {(row['table'], row['method'], row['noise'], row['rate']): row for row in paper.published()}
# Typed from the paper a second time: table, method, noise, rate, best and last in percent.
TYPED = """
table2 cross_entropy symmetric  0.1 91.66 88.43
table2 cross_entropy symmetric  0.9 50.74 16.30
table2 tanaka        symmetric  0.5 89.6  89.8
table2 pencil        symmetric  0.7 87.10 87.18
table2 ours          symmetric  0.1 93.47 93.20
table2 ours          symmetric  0.3 92.65 92.58
table2 ours          symmetric  0.5 91.00 90.67
table2 ours          symmetric  0.7 87.67 87.43
table2 ours          symmetric  0.9 62.02 61.02
table3 cross_entropy asymmetric 0.5 77.79 71.05
table3 forward       asymmetric 0.4 90.3  86.4
table3 cnn_crf       asymmetric 0.2 91.5  86.6
table3 tanaka        asymmetric 0.3 92.4  92.4
table3 pencil        asymmetric 0.1 93.00 93.64
table3 ours          asymmetric 0.1 93.32 93.32
table3 ours          asymmetric 0.2 92.70 92.52
table3 ours          asymmetric 0.3 92.87 92.66
table3 ours          asymmetric 0.4 92.16 92.16
table3 ours          asymmetric 0.5 85.45 85.45
"""


@pytest.mark.parametrize('line', TYPED.strip().splitlines())
def test_published_numbers_are_those_of_the_paper(line):
    *names, rate, best, last = line.split()
    row = ROWS[*names, float(rate)]
    assert (100 * row['best'], 100 * row['last']) == pytest.approx((float(best), float(last)))


def test_table_4_has_best_only_and_no_noise_rate():
    rows = {key[1]: row for key, row in ROWS.items() if key[0] == 'table4'}
    assert {name: row['best'] for name, row in rows.items()} == {
        'cross_entropy': 0.6894,
        'forward_estimated': 0.6984,
        'tanaka': 0.7216,
        'pencil': 0.7349,
        'ours': 0.7363,
    }
    assert all(row['last'] is None and row['rate'] is None for row in rows.values())


def test_every_printed_cell_is_there_once():
    assert len(ROWS) == len(paper.published()) == 4 * 5 + 6 * 5 + 5


@pytest.mark.parametrize('table', ['table2', 'table3'])
def test_a_table_at_the_papers_settings_has_the_printed_cells(table):
    grid = paper.grid(table, 'paper')
    printed = {key for key in ROWS if key[0] == table and key[1] in grid['methods']}
    assert {key[1] for key in printed} >= {'cross_entropy', 'tanaka', 'ours'}
    for method in {key[1] for key in printed}:
        for noise, rate in paper.columns(grid):
            assert (table, method, noise, rate) in printed


SECOND = Path(__file__).parents[3] / 'shared/paper/published.csv'


@pytest.mark.skipif(not SECOND.exists(), reason='needs ../shared/paper/published.csv')
def test_all_numbers_are_those_of_a_second_typing():
    def numbers(path):
        # Methods and noise have other names there.
        return [(row[0], *row[3:]) for row in csv.reader(path.read_text().splitlines())]

    assert numbers(paper.FOLDER / 'published.csv') == numbers(SECOND)
