import pytest

from chainer_jo import paper
from chainer_jo.errors import ConfigError
from chainer_jo.sweep import plan


def test_a_table_has_a_trial_for_every_method_rate_and_seed_of_its_grid():
    grid = paper.grid('table2', 'paper')
    found = [(t.method, t.noise['rate'], t.seed) for t in plan.trials('table2', 'paper')]
    wanted = []
    for method in grid['methods']:
        for rate in grid['rates']:
            for seed in range(grid['trials']):
                wanted.append((method, rate, seed))
    assert found == wanted
    assert len(found) == len(grid['methods']) * 5 * 5


def test_methods_rates_and_trials_can_be_chosen():
    chosen = plan.trials('table2', 'paper', only=['ours', 'tanaka'], rates=[0.3], count=2)
    assert [(t.method, t.noise['rate'], t.seed) for t in chosen] == [
        ('tanaka', 0.3, 0), ('tanaka', 0.3, 1), ('ours', 0.3, 0), ('ours', 0.3, 1),
    ]  # fmt: skip


def test_a_method_that_the_preset_leaves_out_can_be_asked_for():
    assert 'gce' not in paper.grid('table2', 'quick')['methods']
    assert [t.method for t in plan.trials('table2', 'quick', only=['gce'], rates=[0.7])] == ['gce']


@pytest.mark.parametrize('preset', paper.PRESETS)
def test_every_ablation_changes_what_is_trained(preset):
    grid = paper.grid('ablations', preset)
    trials = plan.trials('ablations', preset, count=1)
    size = len(trials) // (1 + len(grid['variants']))
    plain, *changed = (
        [_settings(t) for t in trials[i : i + size]] for i in range(0, len(trials), size)
    )
    assert all(variant != plain for variant in changed)


def _settings(trial):
    return {key: value for key, value in trial.as_dict().items() if key != 'modified'}


def test_a_pair_of_method_and_rate_that_makes_no_sense_is_left_out_unless_it_is_changed():
    def count(*overrides):
        trials = plan.trials('table3', 'paper', only=['backward'], count=1, overrides=overrides)
        return sum(trial.noise['rate'] == 0.5 for trial in trials)

    assert (count(), count('backward.train.singular=pinv')) == (0, 1)


def test_a_rate_that_is_named_twice_counts_once():
    once = plan.trials('table2', 'paper', rates=[0.5])
    assert plan.trials('table2', 'paper', rates=[0.5, 0.5]) == once


def test_a_choice_that_leaves_no_trial_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match='no trial is left') as error:
        plan.trials('table3', 'paper', only=['backward'], rates=[0.5])
    assert error.value.seen == 'table3 leaves out backward at rate 0.5'


NO_CLOTHING1M = ('correct', 'reduced', 'short')


@pytest.mark.parametrize(
    ('table', 'preset'),
    [
        (table, preset)
        for table in paper.tables()
        for preset in paper.PRESETS
        if table != 'table4' or preset not in NO_CLOTHING1M
    ],
)
def test_every_trial_of_a_plan_has_a_column_in_the_report(table, preset):
    grid = paper.grid(table, preset)
    # Sets of labels are files that a user brings: see test_label_sets.py.
    columns = [(noise.partition(':')[0], rate) for noise, rate in paper.columns(grid)]
    for rate in {rate for _, rate in columns}:
        for trial in plan.trials(table, preset, rates=[rate], count=1):
            assert (trial.noise['kind'], trial.noise['rate']) in columns


@pytest.mark.parametrize('preset', NO_CLOTHING1M)
def test_a_preset_without_settings_for_the_data_does_not_train_the_papers(preset):
    fix = 'choose --preset paper or quick, or add such sections'
    with pytest.raises(ConfigError, match='has no settings for clothing1m') as error:
        plan.trials('table4', preset)
    assert error.value.seen == f'no section [on.clothing1m.…] in presets/{preset}.toml'
    assert error.value.fix == fix


def test_all_trials_of_a_table_have_their_own_id():
    trials = plan.trials('table2', 'paper') + plan.trials('table2', 'quick')
    assert len({trial.trial for trial in trials}) == len(trials)


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        ({'only': ['our']}, "unknown method of table2 'our'"),
        ({'rates': [70.0]}, 'the noise rate is a fraction'),
        ({'rates': [0.5, 0.45]}, 'table2 of preset paper has no rate 0.45'),
        ({'overrides': ['ours.finetune.a=1.0']}, 'unknown setting'),
    ],
)
def test_what_does_not_exist_is_refused(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        plan.trials('table2', 'paper', **arguments)


def test_an_override_of_one_method_gives_no_second_trial_of_another():
    grid = paper.grid('claims', 'quick')
    trials = plan.trials('claims', 'quick', count=2)

    assert len({t.trial for t in trials}) == len(trials) == 2 * len(grid['rates']) * 3
    assert sum(t.method == 'tanaka' for t in trials) == 2 * len(grid['rates'])


def test_labels_as_they_are_have_one_column_and_no_rates():
    found = plan.trials('table4', 'paper', only=['ours'], count=2)
    assert [(t.dataset, t.noise['kind'], t.noise['rate'], t.seed) for t in found] == [
        ('clothing1m', 'none', None, 0), ('clothing1m', 'none', None, 1),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match='leave out --rates'):
        plan.trials('table4', 'paper', rates=[0.5])
