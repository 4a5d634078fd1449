import pytest

from chainer_jo.paper import columns
from chainer_jo.report import markdown, tables
from chainer_jo.report.cells import cells
from chainer_jo.report.collect import read_all


def test_every_cell_of_the_grid_is_there_before_anything_was_run(grid, published, standard):
    found = cells(grid, published, [], standard)

    assert [(cell.method, cell.rate) for cell in found] == [
        ('cross_entropy', 0.5), ('cross_entropy', 0.7),
        ('ours', 0.5), ('ours', 0.7),
        ('gce', 0.5), ('gce', 0.7),
    ]  # fmt: skip
    assert all(cell.results == [] and cell.modified == () for cell in found)


def test_a_method_that_the_preset_leaves_out_has_cells_once_it_was_run(
    grid, published, standard, add_trial
):
    other = add_trial(method='mixup', rate=0.7)

    found = cells(grid, published, [other], standard)

    assert [(cell.method, cell.rate) for cell in found][-2:] == [('mixup', 0.5), ('mixup', 0.7)]
    assert run(found)[0].results == [other]
    assert 'tanaka' not in {cell.method for cell in found}


def test_trials_that_differ_in_the_seed_share_a_cell(grid, published, standard, add_trial):
    results = [add_trial(seed=seed) for seed in range(3)]

    [cell] = run(cells(grid, published, results, standard))

    assert cell.results == results


def test_overrides_form_their_own_cell(grid, published, standard, add_trial):
    plain = add_trial()
    changed = add_trial(modified=['common.batch_size=8'], common=common(8))

    found = run(cells(grid, published, [changed, plain], standard))

    assert [(cell.modified, cell.results) for cell in found] == [
        ((), [plain]),
        (('common.batch_size=8',), [changed]),
    ]


@pytest.mark.parametrize(
    ('change', 'departure'),
    [
        ({'common': {'batch_size': 32, 'validation_labels': 'clean'}}, 'common.batch_size=32'),
        ({'stages': {'correct': {'epochs': 3}, 'fine_tune': {'epochs': 2, 'a': 0.5}}},
         'ours.fine_tune.a=0.5'),
        ({'precision': 'bfloat16'}, 'precision=bfloat16'),
        ({'noise': {'sampling': 'bernoulli'}}, None),
        ({'data': {'variant': 'variant 1234abcd', 'digest': '1234abcd' * 8}},
         'data=variant 1234abcd'),
    ],
)  # fmt: skip
def test_settings_and_data_that_the_grid_does_not_have_form_their_own_cell(
    grid, published, standard, add_trial, change, departure
):
    plain, other = add_trial(seed=0), add_trial(seed=1, **change)

    def clean(config):
        return standard(config) | {'noise': config['noise'] | {'sampling': 'exact'}}

    found = run(cells(grid, published, [plain, other], clean))

    assert [cell.results for cell in found] == [[plain], [other]]
    assert found[1].modified == (departure or 'noise.sampling=bernoulli',)


def test_other_initial_weights_and_several_processes_form_cells_of_their_own(
    grid, published, standard, add_trial
):
    results = [add_trial(seed=seed) for seed in range(5)]
    for result, weights in zip(results, ('ab', 'ab', 'cd', 'ab', None), strict=True):
        if weights:
            result['weights'] = weights * 32
    results[3]['environment']['processes'] = 4

    found = run(cells(grid, published, results, standard))

    assert {cell.modified: [r['config']['seed'] for r in cell.results] for cell in found} == {
        (): [0, 1], ('weights=cdcdcdcd',): [2], ('processes=4',): [3], ('weights=none',): [4],
    }  # fmt: skip
    assert all(cell.overrides == () for cell in found)


def test_two_digests_under_one_name_do_not_mix(grid, published, standard, add_trial):
    usual = [add_trial(seed=seed) for seed in (0, 1)]
    odd = add_trial(seed=2, data={'digest': '77' * 32})

    found = run(cells(grid, published, [odd, *usual], standard))

    assert [cell.results for cell in found] == [usual, [odd]]
    assert found[1].modified == ('data=embedded subset 77777777',)


def test_a_variant_of_the_data_never_becomes_the_grids_own(grid, published, standard, add_trial):
    data = {'variant': 'variant 1234abcd', 'digest': '1234abcd' * 8}
    results = [add_trial(seed=seed, data=data) for seed in range(3)]

    [cell] = run(cells(grid, published, results, standard))

    assert cell.modified == ('data=variant 1234abcd',)


def test_where_any_data_will_do_those_of_most_trials_fill_the_cell(
    grid, published, standard, add_trial
):
    data = {'variant': 'variant 1234abcd', 'digest': '1234abcd' * 8}
    results = [add_trial(seed=seed, data=data) for seed in range(3)]
    results.append(add_trial(seed=3, data={'variant': 'variant 5678', 'digest': '5678abcd' * 8}))

    usual, other = run(cells(grid | {'any_data': True}, published, results, standard))

    assert (usual.modified, len(usual.results)) == ((), 3)
    assert (other.modified, len(other.results)) == (('data=variant 5678 5678abcd',), 1)


@pytest.mark.parametrize(
    'change',
    [
        {'preset': 'paper'},
        {'dataset': 'cifar10'},
        {'method': 'd2l'},
        {'rate': 0.6},
        {'noise': {'kind': 'asymmetric'}},
    ],
)
def test_trials_outside_the_grid_are_left_out(
    tmp_path, grid, published, standard, add_trial, change
):
    add_trial(**change)

    assert run(cells(grid, published, read_all(tmp_path)[0], standard)) == []


def test_a_grid_may_pair_each_rate_with_its_own_noise():
    assert columns({'noise': ['symmetric', 'asymmetric'], 'rates': [0.9, 0.3]}) == [
        ('symmetric', 0.9),
        ('asymmetric', 0.3),
    ]


def run(found):
    return [cell for cell in found if cell.results]


def common(batch_size):
    return {'batch_size': batch_size, 'validation_labels': 'clean'}


def human(add_trial, name, labels, **more):
    return add_trial(
        noise={'kind': 'file', 'rate': None, 'labels': labels},
        labels_file=f'somewhere/labels.npz:{name}',
        **more,
    )


def test_a_set_of_labels_is_a_column_and_labels_of_another_file_a_cell_of_their_own(
    grid, published, standard, add_trial
):
    grid = grid | {'noise': ['file:one', 'file:two'], 'rates': [None]}
    ones = [human(add_trial, 'one', 'a' * 64, seed=seed) for seed in range(2)]
    other = human(add_trial, 'one', 'b' * 64, seed=2)
    two = human(add_trial, 'two', 'c' * 64, seed=3)
    for result, wrong in zip([*ones, other, two], (0.4, 0.42, 0.05, 0.2), strict=True):
        result['noise']['wrong'] = wrong

    found = run(cells(grid, published, [*ones, other, two], standard))

    assert [(cell.noise, cell.modified, cell.results) for cell in found] == [
        ('file:one', (), ones),
        ('file:two', (), [two]),
        ('file:one', ('labels=bbbbbbbb',), [other]),
    ]
    heading = markdown.to_markdown(grid, tables.rows(grid, published, found), found)
    assert '| method |  | one | two |' in heading
    # Those of the other file do not count.
    assert 'Wrong labels in percent, as measured: one 41.00, two 20.00.' in heading
    assert '--labels FILE' in heading


def test_a_trial_of_another_net_forms_its_own_cell(grid, published, standard, add_trial):
    plain, wide = add_trial(seed=0), add_trial(seed=1, net={'filters': [64, 64, 128, 256]})

    found = [cell for cell in cells(grid, published, [plain, wide], standard) if cell.results]

    assert [cell.results for cell in found] == [[plain], [wide]]
    assert found[1].modified == ('net.filters=[64, 64, 128, 256]',)
