import re
import tomllib

import pytest

from chainer_jo import config, paper
from chainer_jo.errors import ConfigError

# Typed from the paper a second time: noise rates and the five columns of each half of Table 1.
SYMMETRIC = {
    'rate': '10 30 50 70 90',
    'alpha': '1.2 1.2 1.2 1.2 0.8',
    'beta': '0.8 0.8 0.8 0.8 0.4',
    'learning_rate': '0.02 0.03 0.04 0.08 0.12',
    'a': '0.5 0.9 2 4 8',
}
ASYMMETRIC = {
    'rate': '10 20 30 40 50',
    'alpha': '0.8 0.8 0.8 0.8 0.8',
    'beta': '0.4 0.4 0.4 0.4 0.4',
    'learning_rate': '0.03 0.03 0.03 0.03 0.03',
    'a': '0.05 0.6 0.6 0.8 1.6',
}
CELLS = [
    (preset, table, *column)
    for preset in paper.PRESETS
    for table in paper.tables()
    for column in paper.columns(paper.grid(table, preset))
    # Labels as they are have no rate, and the settings of their data set.
    if column[1] is not None
]


def leaves(values, prefix=''):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def read(name):
    return tomllib.loads((paper.FOLDER / name).read_text())


def test_table_1_is_as_the_paper_prints_it():
    typed = []
    for noise, half in (('symmetric', SYMMETRIC), ('asymmetric', ASYMMETRIC)):
        for row in zip(*(map(float, half[key].split()) for key in half), strict=True):
            typed.append({'noise': noise} | dict(zip(half, row, strict=True)))
            typed[-1]['rate'] = round(typed[-1]['rate'] / 100, 6)
    assert read('hyperparameters.toml')['table1'] == typed


def test_the_schedule_is_that_of_section_4_2():
    settings = dict(leaves(paper.hyperparameters('paper')))
    printed = {
        'common.batch_size': 128,
        'common.momentum': 0.9,
        'common.weight_decay': 1e-4,
        'common.pad': 4,
        'common.train_images': 45_000,
        'common.validation_images': 5_000,
        'net.link': 'preact_resnet',
        'net.filters': [32, 32, 64, 128],
        'net.blocks': [5, 5, 5],
        'net.stem_stride': 1,
        'ours.correct.epochs': 200,
        'ours.correct.begin': 70,
        'ours.fine_tune.epochs': 120,
        'ours.fine_tune.learning_rate': 0.2,
        'ours.fine_tune.divide_after': [40, 80],
        'ours.fine_tune.loss': 'kl+mix',
        'ours.fine_tune.start': 'continue',
        'tanaka.retrain.start': 'fresh',
        'tanaka.retrain.epochs': 120,
        'tanaka.retrain.learning_rate': 0.2,
        'tanaka.retrain.divide_after': [40, 80],
    }
    assert {key: settings[key] for key in printed} == printed
    assert paper.updaters('ours', 'correct') == ('label_correction',)
    assert paper.updaters('ours', 'fine_tune') == ('mix_up',)


def test_figure_3_has_its_printed_rates():
    columns = paper.columns(paper.grid('figure3', 'paper'))
    assert columns == [('symmetric', 0.9), ('asymmetric', 0.3)]


def test_noise_and_validation_labels_are_those_of_the_public_codes():
    settings = paper.hyperparameters('paper')
    assert settings['noise'] == {'sampling': 'exact', 'exclude_true': False}  # D-22, D-23
    assert settings['common']['validation_labels'] == 'clean'  # D-19


def test_tanaka_and_ours_correct_labels_with_the_same_settings():
    settings = paper.hyperparameters('paper')
    assert settings['ours']['correct'] == settings['tanaka']['correct']


@pytest.mark.parametrize(('preset', 'table', 'noise', 'rate'), CELLS)
def test_every_cell_has_its_own_row_of_hyper_parameters_or_the_table_says_which_it_takes(
    preset, table, noise, rate
):
    rows = paper.hyperparameters(preset)['table1']
    own = [row for row in rows if (row['noise'], row['rate']) == (noise, rate)]
    words = f'{noise.capitalize()} .*{100 * rate:g} % .*D-31'
    notes = paper.grid(table, preset).get('notes', [])
    assert own or any(re.match(words, note) for note in notes)


@pytest.mark.parametrize('table', paper.tables())
def test_every_method_of_a_table_is_known(table):
    for preset in paper.PRESETS:
        assert set(paper.grid(table, preset)['methods']) <= set(paper.methods())


@pytest.mark.parametrize('preset', paper.PRESETS)
def test_a_preset_overrides_only_what_exists_and_keeps_its_type(preset):
    overrides = read(f'presets/{preset}.toml')
    grids = overrides.pop('grid', {})
    assert overrides.pop('compare') in ('none', 'orientation', 'verdict')
    overrides.pop('differs', None)
    known = dict(leaves(read('hyperparameters.toml'))) | dict(leaves(read('grids.toml')))
    # Another net than the paper's on a data set is one that has settings elsewhere.
    known |= {
        f'on.clothing1m.net.{key}': v for key, v in read('hyperparameters.toml')['net'].items()
    }
    for key, value in [*leaves(overrides), *leaves(grids)]:
        # A value may come from a table of values by noise; a grid's noise may be one for all rates.
        free = known[key] == 'table1' or key.endswith('.noise')
        allowed = (float, int, str, list) if free else type(known[key])
        assert isinstance(value, allowed), key
    rows = read('hyperparameters.toml')['table1'] + overrides.get('table1', [])
    assert len({tuple(row) for row in rows}) == 1


COUNTS_EPOCHS = (
    'epochs', 'begin', 'window', 'divide_after', 'prune_from', 'prune_every', 'lid_window',
    'alpha_epochs',
)  # fmt: skip


LARGEST_STEP = 2  # Beyond it a label overshoots.


def stage_settings(preset):
    settings = paper.hyperparameters(preset)
    return {
        f'{method}.{stage}.{key}': value
        for method in paper.methods()
        for stage, section in settings[method].items()
        if isinstance(section, dict)
        for key, value in section.items()
    }


@pytest.mark.parametrize(
    ('preset', 'divisor', 'others'),
    [
        ('short', 5, {'d2l.train.lid_window'}),
        (
            'reduced',
            10,
            {
                'gce.train.prune_every', 'd2l.train.begin', 'd2l.train.lid_window',
                'backward_estimated.train.learning_rate',
            },
        ),
    ],
)  # fmt: skip
def test_a_shorter_schedule_is_the_papers_divided(preset, divisor, others):
    """D-50: whatever counts epochs is divided, PENCIL's lambda follows, nothing else changes."""
    present, departures = stage_settings(preset), set()
    for key, value in stage_settings('paper').items():
        if key.rpartition('.')[2] in COUNTS_EPOCHS:
            value = [v / divisor for v in value] if isinstance(value, list) else value / divisor
        if present[key] != value:
            departures.add(key)
    assert departures == others
    rows = [paper.hyperparameters(name)['pencil_settings'] for name in ('paper', preset)]
    for one, other in zip(*rows, strict=True):
        # A label's step is lambda (1/C + alpha) / B: it makes up for the epochs, up to the limit.
        own = one['lambda_first'] / paper.hyperparameters('paper')['common']['batch_size']
        step = max(own, min(divisor * own, LARGEST_STEP / (1 / 10 + one['alpha'])))
        first = step * paper.hyperparameters(preset)['common']['batch_size']
        lambdas = {'lambda_first': first, 'lambda_last': first if one['lambda_last'] else 0}
        assert other == one | lambdas | {'evidence': other['evidence']}


def test_the_preset_paper_overrides_nothing():
    assert read('presets/paper.toml') == {'compare': 'verdict'}


@pytest.mark.parametrize('preset', paper.PRESETS)
def test_a_preset_that_is_not_the_papers_says_how_it_differs(preset):
    grid = paper.grid('table2', preset)

    assert (grid['compare'] == 'verdict') == (preset == 'paper') == ('differs' not in grid)


@pytest.mark.parametrize('preset', paper.PRESETS)
def test_what_a_preset_says_of_its_tables_reaches_no_trial(preset):
    values = config.trial('ours', 'cifar10', 'symmetric', 0.5, 0, preset).as_dict()

    assert not {'compare', 'differs'} & set(dict(leaves(paper.hyperparameters(preset))))
    assert paper.grid('table2', preset).get('differs', 'no reason') not in str(values)


def test_reading_settings_twice_gives_the_same_whatever_was_done_to_the_first():
    first = paper.hyperparameters('quick')
    expected = dict(leaves(first))
    first['common'] = None
    assert dict(leaves(paper.hyperparameters('quick'))) == expected


@pytest.mark.parametrize(
    ('call', 'fix'),
    [
        (lambda: paper.grid('tabel2', 'paper'), 'did you mean table2'),
        (lambda: paper.hyperparameters('qiuck'), 'did you mean quick'),
    ],
)
def test_a_name_that_does_not_exist_gets_the_nearest_that_does(call, fix):
    with pytest.raises(ConfigError, match=fix):
        call()


def test_clothing1m_has_these_settings_and_no_others():
    """Typed a second time: from section 4.2, PENCIL's port, and for the rest from the decisions."""
    printed = {
        'common.batch_size': 32,
        'common.momentum': 0.9,
        'common.weight_decay': 1e-3,
        'common.pad': 0,
        'common.flip': True,
        'common.train_images': 'all',
        'common.balanced_batches': 0,
        'net.link': 'resnet50',
        'net.weights': 'imagenet',
        'cross_entropy.train.epochs': 20,
        'forward_estimated.estimate.epochs': 10,
        'forward_estimated.estimate.divide_after': [5],
        'forward_estimated.estimate.drop': 0.03,
        'forward_estimated.train.start': 'fresh',
        'forward_estimated.train.epochs': 20,
        'ours.fine_tune.start': 'continue',
        'ours.fine_tune.loss': 'kl+mix',
        'ours.fine_tune.a': 0.8,
        'ours.fine_tune.mix_lambda': 'batch',
        'tanaka.retrain.start': 'fresh',
        'pencil.warm_up.epochs': 5,
        'pencil.warm_up.learning_rate': 1.6e-3,
        'pencil.correct.epochs': 10,
        'pencil.correct.learning_rate': 1.6e-3,
        'pencil.correct.K': 10.0,
        'pencil.correct.alpha': 0.08,
        'pencil.correct.beta': 0.8,
        'pencil.correct.lambda_first': 3000.0,
        'pencil.correct.lambda_last': 500.0,
        'pencil.correct.lambda_jump': 5,
        'pencil.correct.softmax': 'once',
        'pencil.fine_tune.start': 'continue',
        'pencil.fine_tune.division': 'true',
    }
    for stage in ('cross_entropy.train', 'forward_estimated.train'):
        printed |= {f'{stage}.learning_rate': 8e-4, f'{stage}.divide_after': [10, 15]}
    printed['forward_estimated.estimate.learning_rate'] = 8e-4
    for stage in ('ours.correct', 'tanaka.correct'):
        correct = {'epochs': 10, 'begin': 1, 'window': 'all', 'labels': 'soft'}
        correct |= {'label_pass': 'train', 'learning_rate': 8e-4, 'alpha': 2.4, 'beta': 0.8}
        printed |= {f'{stage}.{key}': value for key, value in correct.items()}
    for stage in ('ours.fine_tune', 'tanaka.retrain', 'pencil.fine_tune'):
        tuned = {'epochs': 10, 'learning_rate': 5e-4, 'divide_after': [5]}
        printed |= {f'{stage}.{key}': value for key, value in tuned.items()}
    assert dict(leaves(read('hyperparameters.toml')['on']['clothing1m'])) == printed
    settings = dict(leaves(paper.hyperparameters('paper', 'clothing1m')))
    assert {key: settings[key] for key in printed} == printed


def test_sections_of_a_data_set_leave_other_data_sets_alone():
    plain = paper.hyperparameters('quick')
    assert paper.hyperparameters('quick', 'cifar10') == plain
    assert 'on' not in plain
    own = read('presets/quick.toml')['on']['clothing1m']
    assert paper.hyperparameters('quick', 'clothing1m') == plain | own


@pytest.mark.parametrize('kept', [{}, {'compare': 'none'}, {'differs': 'it is another'}])
def test_a_preset_that_does_not_say_how_far_it_can_be_compared_is_refused_at_once(
    kept, monkeypatch
):
    monkeypatch.setattr(paper, '_preset', lambda name: kept)
    with pytest.raises(ConfigError, match='does not say how far') as refused:
        paper.grid('table2', 'new')
    assert 'presets/new.toml' in refused.value.fix
    assert all(key not in refused.value.seen for key in kept)
