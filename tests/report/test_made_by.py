import shlex

import pytest

from chainer_jo import paper
from chainer_jo.report.cells import Cell, cells
from chainer_jo.report.made_by import are_whole, commands
from chainer_jo.sweep import plan

EIGHT = {'batch_size': 8, 'validation_labels': 'clean'}


def made_by(grid, published, results, standard, out=None):
    return commands(grid, cells(grid, published, results, standard), out)


def test_the_command_of_nothing_is_that_of_the_whole_table(grid, published, standard):
    assert made_by(grid, published, [], standard) == [
        'python -m chainer_jo run table2 --preset quick'
    ]


def test_precision_overrides_and_folder_are_part_of_the_command(
    grid, published, standard, add_trial
):
    override = 'common.batch_size=8'
    trial = add_trial(modified=[override], common=EIGHT, precision='bfloat16')

    [command] = made_by(grid, published, [trial], standard, 'my results')

    assert shlex.split(command) == [
        'python', '-m', 'chainer_jo', 'run', 'table2', '--preset', 'quick', '--only', 'ours',
        '--rates', '0.7', '--trials', '1', '--precision', 'bfloat16', '--set', override,
        '--out', 'my results',
    ]  # fmt: skip


def test_what_a_shell_would_run_is_quoted(grid, published, standard, add_trial):
    evil = "net.a='; $(reboot) `x`"

    [command] = commands(grid, [Cell('ours', 'symmetric', 0.7, (evil,), [add_trial()])])

    assert evil in shlex.split(command)


def test_variants_of_the_grid_need_no_override(grid, published, standard, add_trial):
    grid = grid | {'variants': [['common.batch_size=8']]}
    trials = [
        add_trial(),
        add_trial(modified=['common.batch_size=8'], common=EIGHT),
    ]

    [command] = made_by(grid, published, trials, standard)

    assert '--set' not in command


@pytest.mark.parametrize(
    ('table', 'preset'),
    [
        (table, preset)
        for table in paper.tables()
        for preset in ('quick', 'reduced', 'short')
        # The others have no settings for Clothing1M.
        if table != 'table4' or preset == 'quick'
    ],
)
def test_the_command_plans_exactly_the_cells_that_were_run(table, preset):
    grid = paper.grid(table, preset) | {'table': table, 'preset': preset}
    planned = plan.trials(table, preset, labels=labels_of(grid))
    found = {}
    for config in planned:
        key = config.method, *paper.column(config.as_record()), config.modified
        found.setdefault(key, []).append({'config': config.as_record()})
    made = [Cell(*key, results) for key, results in found.items()]

    again = set()
    for command in commands(grid, made):
        again |= {config.trial for config in plan_of(command, labels_of(grid))}

    assert again == {config.trial for config in planned}
    assert are_whole(grid, made)


def test_a_command_has_enough_trials_for_the_highest_seed(grid, published, standard, add_trial):
    trials = [add_trial(seed=seed) for seed in (5, 6)]
    found = cells(grid, published, trials, standard)

    [command] = commands(grid, found)

    assert '--trials 7' in command
    assert not are_whole(grid, found)


def test_cells_with_different_numbers_of_trials_are_not_all_of_their_command(
    grid, published, standard, add_trial
):
    trials = [add_trial(rate=0.5), *(add_trial(rate=0.7, seed=seed) for seed in (0, 1))]
    found = cells(grid, published, trials, standard)

    assert len(commands(grid, found)) == 1
    assert not are_whole(grid, found)
    assert are_whole(grid, cells(grid, published, [*trials, add_trial(rate=0.5, seed=1)], standard))


def labels_of(grid):
    """Digest and place for every set of labels that a table is about."""
    sets = enumerate(paper.label_sets(grid))
    return {f'file:{name}': (f'{i}' * 64, f'FILE:{name}') for i, name in sets} or None


def plan_of(command, labels):
    """The trials that a `run` command plans."""
    given = dict(zip(*[iter(shlex.split(command)[5:])] * 2, strict=True))
    only, rates = (given[key].split(',') if key in given else None for key in ('--only', '--rates'))
    return plan.trials(
        shlex.split(command)[4], given['--preset'], only, rates and [float(rate) for rate in rates],
        int(given['--trials']) if '--trials' in given else None, labels=labels,
    )  # fmt: skip
