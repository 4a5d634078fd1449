import csv
import io

import pytest
from PIL import Image

from chainer_jo.report import figures, tables
from chainer_jo.report.cells import Cell
from chainer_jo.report.lines import Line, last_stage

DATA = {'name': 'fashion_mnist', 'variant': 'embedded subset', 'digest': '5f' * 32}
GRID = {'preset': 'quick', 'titles': {'tanaka': 'Tanaka et al.', 'ours': 'Ours'}}


def test_a_point_is_the_mean_and_range_over_the_trials():
    line = make_line('ours', [[0.25, 0.5], [0.75, 1.0]])

    points = figures.points([line], ['label_accuracy'])

    assert [(p['epoch'], p['mean'], p['min'], p['max'], p['trials']) for p in points] == [
        (1, 0.5, 0.25, 0.75, 2),
        (2, 0.75, 0.5, 1.0, 2),
    ]


def test_figure_3_starts_with_the_first_epoch_of_the_last_stage():
    line = make_line('ours', [[0.1, 0.2, 0.3, 0.4]], stages=['correct', 'correct', 'a', 'a'])

    points = figures.points(last_stage([line]), figures.FIGURE3)

    assert {(p['stage'], p['epoch'], p['stage_epoch']) for p in points} == {
        ('a', 3, 1),
        ('a', 4, 2),
    }
    assert {p['measure'] for p in points} == set(figures.FIGURE3)


def test_a_method_of_one_stage_is_not_in_figure_3():
    assert last_stage([make_line('cross_entropy', [[0.1, 0.2]])]) == []


def test_an_unknown_value_is_not_plotted():
    line = make_line('ours', [[None, 0.5]])

    points = figures.points([line], ['test/main/accuracy'])

    assert [p['epoch'] for p in points] == [2]


def test_the_share_of_right_labels_is_left_out_where_no_method_changes_labels():
    fixed = make_line('cross_entropy', [[0.5, 0.5]])
    corrected = make_line('ours', [[0.5, 0.6]])

    measures = {p['measure'] for p in figures.points([fixed], figures.LABELS)}
    assert measures == {'test/main/accuracy'}
    both = figures.points([fixed, corrected], figures.LABELS)
    assert {p['method'] for p in both if p['measure'] == 'label_accuracy'} == {
        'cross_entropy',
        'ours',
    }


def test_a_row_of_constant_lines_is_no_panel_of_figure_3():
    assert 'label_accuracy' not in figures.FIGURE3


@pytest.mark.parametrize('measure', figures.FIGURE3)
def test_figure_3_is_drawn_without_what_was_not_measured(measure):
    lines = [make_line('ours', [[0.1, 0.2]])]
    rest = [name for name in figures.FIGURE3 if name != measure]

    drawn = figures.figure3(GRID, lines, figures.points(lines, rest))
    alone = figures.figure3(GRID, lines, figures.points(lines, [measure]))

    assert Image.open(io.BytesIO(drawn)).size == Image.open(io.BytesIO(alone)).size
    assert drawn != alone


def test_a_dollar_sign_in_the_name_of_data_is_no_formula():
    line = make_line('ours', [[0.1, 0.2]])
    line.cell.results[0]['data'] = DATA | {'variant': r'$\bad$'}

    assert figures.figure3(GRID, [line], figures.points([line], figures.FIGURE3))


def test_the_csv_holds_exactly_the_plotted_numbers():
    points = figures.points([make_line('ours', [[1 / 3, 2 / 7]])], figures.FIGURE3)

    read = list(csv.DictReader(io.StringIO(tables.to_csv(points, figures.COLUMNS))))

    assert [float(row['mean']) for row in read] == [point['mean'] for point in points]


@pytest.mark.parametrize(
    ('draw', 'measures'),
    [(figures.figure3, figures.FIGURE3), (figures.label_figure, figures.LABELS)],
)
def test_equal_points_give_equal_bytes_whatever_the_users_matplotlibrc_says(draw, measures):
    import matplotlib

    lines = [make_line('ours', [[0.1, 0.2], [0.3, 0.1]]), make_line('tanaka', [[0.5, 0.4]])]
    points = figures.points(lines, measures)

    first = draw(GRID, lines, points)
    with matplotlib.rc_context({'lines.linewidth': 9, 'font.size': 30}):
        second = draw(GRID, lines, points)

    assert first == second
    image = Image.open(io.BytesIO(first))
    assert image.format == 'PNG'
    assert not {'Software', 'Creation Time'} & set(image.info)
    assert len(image.convert('RGB').getcolors(1 << 20)) > 50


def test_every_method_looks_different():
    grid = {'titles': {f'method {number}': '' for number in range(14)}}
    drawn = [make_line(method, [[0.1]]) for method in grid['titles']]

    assert len({figures._look(grid, line) for line in drawn}) == 14


def test_in_a_table_of_variants_every_line_has_its_own_colour():
    variants = [['ours.fine_tune.loss=kl'], ['ours.fine_tune.b=1', 'ours.fine_tune.a=2']]
    titles = {f'method {number}': '' for number in range(9)} | {'ours': '', 'tanaka': ''}
    grid = {'titles': titles, 'methods': ['ours', 'tanaka'], 'variants': variants}
    drawn = [
        make_line('ours', [[0.1]]),
        make_line('tanaka', [[0.1]]),
        make_line('ours', [[0.1]], modified=('ours.fine_tune.loss=kl',)),
        make_line('ours', [[0.1]], modified=('ours.fine_tune.a=2', 'ours.fine_tune.b=1')),
        make_line('method 3', [[0.1]]),
    ]

    looks = [figures._look(grid, line) for line in drawn]
    assert len({colour for colour, _ in looks[:4]}) == 4
    assert len(set(looks)) == 5


def test_variants_of_a_method_are_lines_of_their_own():
    grid = GRID | {'methods': ['ours'], 'variants': [['ours.a=1']]}
    drawn = [
        make_line('ours', [[0.1, 0.2]]),
        make_line('ours', [[0.7, 0.9]], modified=('ours.a=1',)),
    ]

    points = figures.points(drawn, figures.LABELS)

    assert [(p['modified'], p['mean']) for p in points if p['measure'] == 'label_accuracy'] == [
        ([], 0.1), ([], 0.2), (['ours.a=1'], 0.7), (['ours.a=1'], 0.9)
    ]  # fmt: skip
    assert figures.label_figure(grid, drawn, points) != figures.label_figure(
        grid, drawn[:1], figures.points(drawn[:1], figures.LABELS)
    )
    labels = [point for point in points if point['measure'] == 'label_accuracy']
    groups = figures._by_line(drawn, labels)
    assert [(line.own, len(group)) for line, group in groups] == [((), 2), (('ours.a=1',), 2)]
    assert figures._named(grid, drawn[1]) == 'Ours, ours.a=1'


def test_the_title_says_what_its_lines_share_and_how_many_rows_are_missing():
    cell = make_cell('ours', ('data=JPEG', 'precision=bfloat16', 'ours.a=1'))
    line = Line(cell, [['rows']], ('ours.a=1',))

    title = figures._title(GRID, [line], 2, 'Subject')

    assert title.startswith('Subject, without 2 other rows of the table\n')
    assert title.endswith('preset quick (modified), 1 trial')
    assert 'modified' not in figures._title(
        GRID, [Line(make_cell('ours', ('data=x', 'ours.a=1')), [[]], ('ours.a=1',))], 0, ''
    )


def make_cell(method, modified=(), trials=1):
    results = [{'trial': f'{method}-{number}', 'data': DATA} for number in range(trials)]
    return Cell(method, 'symmetric', 0.7, modified, results)


def make_line(method, values, stages=None, modified=()):
    """A line of trials whose every measure takes these values."""
    stages = stages or ['train'] * len(values[0])
    logs = [
        [
            {'epoch': e + 1, 'stage': stage, 'stage_epoch': stages[: e + 1].count(stage)}
            | dict.fromkeys(figures.TITLES, trial[e])
            for e, stage in enumerate(stages)
        ]
        for trial in values
    ]
    return Line(make_cell(method, modified, len(values)), logs, modified)


def test_a_point_of_three_trials_is_their_mean_and_not_the_one_in_the_middle():
    [point] = figures.points([make_line('ours', [[0.1], [0.2], [0.6]])], ['test/main/accuracy'])

    assert point['mean'] == pytest.approx(0.3)
