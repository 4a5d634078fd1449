from chainer_jo.report.cells import Cell
from chainer_jo.report.lines import lines


def drawn(cells, grid=None):
    """The drawn cells as ``(method, own departures)``, and the number of other rows."""
    logs = {cell.results[0]['trial']: ['rows'] for cell in cells}
    found, others = lines(grid or {}, cells, 'symmetric', 0.7, logs)
    return [(line.cell.method, line.own) for line in found], others


def make_cell(method, *modified, trials=1):
    results = [{'trial': f'{method}-{modified}-{number}'} for number in range(trials)]
    return Cell(method, 'symmetric', 0.7, modified, results)


def test_rows_of_the_grid_are_drawn_before_rows_on_other_data():
    cells = [make_cell('ours'), make_cell('ours', 'data=x'), make_cell('tanaka', 'data=x')]

    assert drawn(cells) == ([('ours', ())], 2)


def test_where_every_row_departs_alike_methods_with_two_rows_are_drawn_too():
    cells = [
        make_cell(method, 'data=x', 'precision=bfloat16') for method in ('ours', 'tanaka', 'mixup')
    ]
    older = make_cell('ours', 'data=x', 'ours.correct.begin=3', 'precision=bfloat16')

    assert drawn([*cells, older]) == ([('ours', ()), ('tanaka', ()), ('mixup', ())], 1)


def test_rows_on_different_data_are_never_in_one_figure():
    cells = [
        make_cell('ours', 'data=x'),
        make_cell('tanaka', 'data=y'),
        make_cell('mixup', 'data=y'),
    ]

    assert drawn(cells) == ([('tanaka', ()), ('mixup', ())], 1)


def test_a_method_that_was_run_in_one_other_way_is_drawn_in_that():
    cells = [make_cell('tanaka'), make_cell('ours', 'ours.a=1'), make_cell('mixup', 'mixup.a=1')]

    assert drawn([*cells, make_cell('mixup', 'mixup.a=2')]) == (
        [('tanaka', ()), ('ours', ('ours.a=1',))],
        2,
    )


def test_the_unchanged_method_is_drawn_before_a_changed_one():
    assert drawn([make_cell('ours'), make_cell('ours', 'ours.a=1')]) == ([('ours', ())], 1)


def test_a_general_setting_is_no_line_of_one_method():
    cells = [make_cell('ours'), make_cell('ours', 'common.batch_size=8')]

    assert drawn(cells) == ([('ours', ())], 1)


def test_variants_of_the_grid_are_drawn_beside_the_unchanged_method():
    grid = {'variants': [['ours.a=1'], ['common.validation_labels=noisy']]}
    cells = [
        make_cell('ours', 'data=x'),
        make_cell('ours', 'data=x', 'ours.a=1'),
        make_cell('ours', 'common.validation_labels=noisy', 'data=x'),
        make_cell('ours', 'data=x', 'ours.a=2'),
    ]

    assert drawn(cells, grid) == (
        [('ours', ()), ('ours', ('ours.a=1',)), ('ours', ('common.validation_labels=noisy',))],
        1,
    )


def test_a_trial_without_its_log_is_not_drawn():
    cell = make_cell('ours', trials=2)

    [line], others = lines({}, [cell], 'symmetric', 0.7, {cell.results[1]['trial']: ['rows']})

    assert line.logs == [['rows']]
    assert others == 0
    assert lines({}, [cell], 'symmetric', 0.5, {cell.results[1]['trial']: ['rows']}) == ([], 0)
