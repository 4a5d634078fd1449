import json
import shlex
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainer_jo import cli, config, paper
from chainer_jo.errors import ConfigError
from chainer_jo.report import collect

SETTINGS = paper.hyperparameters('paper')
KEYS = [
    f'{section}.{name}.{key}' if isinstance(value, dict) else f'{section}.{name}'
    for section in ('common', 'net', 'noise', *paper.methods())
    for name, value in SETTINGS[section].items()
    for key in (value if isinstance(value, dict) else [None])
    if name != 'title'
]


def rules(kind, key):
    return [rule for pattern, rule in SETTINGS[kind].items() if fnmatchcase(key, pattern)]


def standing(key, preset='paper'):
    value = paper.hyperparameters(preset)
    for name in key.split('.'):
        value = value[name]
    return value


def trial(*overrides, method='ours', noise='symmetric', rate=0.7, seed=0, **others):
    return config.trial(method, 'cifar10', noise, rate, seed, overrides=overrides, **others)


def refusal(*overrides, **others):
    with pytest.raises(ConfigError) as caught:
        trial(*overrides, **others)
    assert len(str(caught.value).splitlines()) == 3
    return str(caught.value)


def test_a_trial_without_overrides_has_the_papers_values_and_its_row_of_table_1():
    described = trial()
    assert described.common == SETTINGS['common']
    assert described.stages['correct']['learning_rate'] == 0.08
    assert described.stages['fine_tune']['a'] == 4.0
    assert list(described.stages) == ['correct', 'fine_tune']
    assert described.epochs == 320
    assert described.modified == ()


def test_nothing_of_table_1_is_left_to_look_up():
    for method in paper.methods():
        assert 'table1' not in json.dumps(trial(method=method).as_dict())


def test_an_override_reaches_a_nested_setting_and_marks_the_trial_as_modified():
    described = trial('ours.fine_tune.a=1', 'net.blocks=[1, 1, 1]', 'noise.exclude_true=true')
    assert described.stages['fine_tune']['a'] == 1.0
    assert described.net['blocks'] == [1, 1, 1]
    assert described.noise['exclude_true'] is True
    assert described.modified == (
        'net.blocks=[1, 1, 1]', 'noise.exclude_true=true', 'ours.fine_tune.a=1.0',
    )  # fmt: skip


def test_an_override_leaves_other_trials_as_they_were():
    before = trial().as_dict()
    trial('common.batch_size=7', 'net.filters=[1, 1, 1, 1]', 'ours.correct.epochs=1')
    assert trial().as_dict() == before


@pytest.mark.parametrize(
    'spelling', ['ours.fine_tune.a=1', 'ours.fine_tune.a = 1.0', ' ours.fine_tune.a=1e0 # one']
)
def test_spelling_and_order_of_overrides_do_not_change_the_trial(spelling):
    expected = trial('ours.fine_tune.a=1.0', 'common.pad=2')
    assert trial('common.pad=2', spelling) == expected
    assert trial('common.pad=2', 'ours.fine_tune.a=3', spelling) == expected


def test_the_last_of_two_overrides_of_one_setting_counts():
    assert trial('common.pad=2', 'common.pad=3').modified == ('common.pad=3',)


def test_the_section_of_another_method_does_not_count():
    described = trial('tanaka.correct.epochs=3', method='ours')
    assert described == trial()
    assert trial('tanaka.correct.epochs=3', method='tanaka').epochs == 123


@pytest.mark.parametrize(
    ('override', 'nearest'),
    [
        ('ours.fine_tune.epoch=3', 'ours.fine_tune.epochs'),
        ('ours.finetune.a=3', 'ours.fine_tune.a'),
        ('common.batchsize=3', 'common.batch_size'),
        ('tanaka.corect.epochs=3', 'tanaka.correct.epochs'),
        # Another method has just this name, which would not help.
        ('tanaka.fine_tune.epochs=3', 'tanaka.retrain.epochs'),
    ],
)
def test_an_unknown_key_names_the_nearest(override, nearest):
    assert f'did you mean {nearest}?' in refusal(override)


def test_an_unknown_key_lists_its_section_or_else_the_sections():
    text = refusal('ours.fine_tune.epoch=3')
    assert 'ours.correct.window' in text
    assert 'tanaka' not in text
    for nothing in ('', 'zzz=3'):
        text = refusal(nothing)
        assert 'common.…, net.…' in text
        assert 'ours.…' in text
        assert len(text) < 500


@pytest.mark.parametrize(
    'override', ['', '=', 'ours=3', 'ours.title=x', 'table1=3', 'choices.loss=x']
)
def test_what_is_no_setting_is_refused(override):
    assert 'unknown setting' in refusal(override)


def test_a_key_without_a_value_is_refused():
    assert 'write common.pad=VALUE' in refusal('common.pad')


@pytest.mark.parametrize(
    ('override', 'kind'),
    [
        ('common.batch_size=64.0', 'a whole number'),
        ('common.batch_size=true', 'a whole number'),
        ('common.batch_size=', 'a whole number'),
        ('common.batch_size=1\n[x]', 'a whole number'),
        ('common.momentum=high', 'a number'),
        ('common.momentum=true', 'a number'),
        ('common.flip=1', 'true or false'),
        ('net.filters=32', 'a list of whole numbers'),
        ('net.filters=[32, 32.5, 64, 128]', 'a list of whole numbers'),
        ('net.filters=[[32], 32, 64, 128]', 'a list of whole numbers'),
        ('ours.fine_tune.a=table1', 'a number'),
        ('ours.correct.alpha=1979-05-27', 'a number'),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_an_example(override, kind):
    said = refusal(override)
    assert f'takes {kind}\n' in said
    example = said.rpartition('for example ')[2]
    assert trial(example).modified


@pytest.mark.parametrize(
    'override',
    [
        'common.batch_size=0',
        'common.validation_images=0',
        'ours.correct.epochs=0',
        'ours.correct.window=0',
        'net.filters=[0, 32, 64, 128]',
        'net.stem_stride=0',
        'common.pad=-1',
        'common.weight_decay=-0.1',
        'ours.fine_tune.a=0',
        'ours.fine_tune.learning_rate=nan',
        'ours.fine_tune.learning_rate=inf',
        'ours.fine_tune.learning_rate=1' + 400 * '0',
        'common.batch_size=0x' + 5000 * 'f',
        'ours.fine_tune.divide_after=[40, -1]',
        'forward_estimated.estimate.drop=1',
        'cnn_crf.train.epsilon=1.0',
        'gce.train.q=1.5',
        'common.momentum=1.0',
    ],
)
def test_a_number_out_of_range_is_refused(override):
    assert 'is out of range' in refusal(override)


@pytest.mark.parametrize('key', KEYS)
def test_every_number_has_one_range_and_every_word_one_list_of_choices(key):
    present = standing(key)
    found = {kind: len(rules(kind, key)) for kind in ('choices', 'ranges')}
    if isinstance(present, bool):
        assert found == {'choices': 0, 'ranges': 0}
    # Text without choices is the name of a table of numbers.
    elif isinstance(present, str) and found['choices']:
        assert found == {'choices': 1, 'ranges': 0}
    else:
        # A word may stand beside the numbers.
        assert found['ranges'] == 1
        assert found['choices'] <= 1


@pytest.mark.parametrize('kind', ['choices', 'ranges'])
def test_no_choices_and_no_range_are_of_a_key_that_is_gone(kind):
    known = {*KEYS, *config._keys(paper.hyperparameters('paper', 'clothing1m'))}
    for pattern in SETTINGS[kind]:
        assert [key for key in known if fnmatchcase(key, pattern)], pattern


def test_settings_that_clothing1m_alone_has_are_checked_like_others():
    def set_to(*overrides):
        return config.trial('pencil', 'clothing1m', 'none', None, 0, overrides=overrides)

    assert set_to('common.train_images=500').common['train_images'] == 500
    assert set_to('net.weights=none').net == {'link': 'resnet50', 'weights': 'none'}
    for override, fix in {
        'common.balanced_batches=-1': 'choose a value from 0 to',
        'net.weights=caffe': 'known: imagenet, none',
        'net.link=vgg': 'known: preact_resnet, resnet50',
        'pencil.correct.lambda_jump=2000000000': 'choose a value from 1 to',
        'pencil.correct.lambda_jump=x': 'takes a whole number',
        'net.filters=[1]': 'unknown setting',
        'net.link=preact_resnet': 'the settings of ResNet-50',
    }.items():
        with pytest.raises(ConfigError, match=fix):
            set_to(override)


def test_a_new_method_may_call_its_stages_as_it_likes():
    for key in ('labels', 'label_pass', 'window'):
        assert list(rules('choices', f'mine.repair.{key}')), key
    assert list(rules('ranges', 'mine.repair.window'))


@pytest.mark.parametrize('preset', paper.PRESETS)
@pytest.mark.parametrize('key', KEYS)
def test_what_a_preset_sets_is_in_its_range(key, preset):
    present = standing(key, preset)
    tables = paper.hyperparameters(preset)
    if isinstance(present, str) and isinstance(tables.get(present), list):
        present = [row[key.rpartition('.')[2]] for row in tables[present]]
    for number in present if isinstance(present, list) else [present]:
        for least, largest in rules('ranges', key):
            assert least <= number <= largest
        for choices in rules('choices', key):
            # A word may stand beside a range.
            assert number in choices or rules('ranges', key)


@pytest.mark.parametrize('key', KEYS)
def test_the_ends_of_a_range_are_allowed_and_what_is_beyond_is_refused(key):
    for least, largest in rules('ranges', key):
        present = standing(key)
        section = key.partition('.')[0]
        method = section if section in paper.methods() else 'ours'

        def written(number, present=present):
            if isinstance(present, list):
                return json.dumps([int(number)] * len(present))
            return repr(int(number) if isinstance(present, int) else float(number))

        for number in (least, largest):
            assert trial(f'{key}={written(number)}', method=method)
        for number in (least - 1, largest * 2):
            assert 'is out of range' in refusal(f'{key}={written(number)}', method=method)


def test_a_key_is_not_judged_by_its_last_word(monkeypatch):
    settings = paper.hyperparameters('paper')
    extra = {'k': 3.0, 'epochs': 1, 'learning_rate': 0.1}
    settings |= {'noise_adaptation': settings['noise_adaptation'] | {'extra': extra}}
    settings['ranges'] = settings['ranges'] | {'noise_adaptation.extra.k': [2, 5]}
    monkeypatch.setattr(paper, 'hyperparameters', lambda preset, dataset: settings | {})
    described = trial('noise_adaptation.extra.k=4', method='noise_adaptation')
    assert described.stages['extra']['k'] == 4.0
    assert 'choose a value from 2 to 5' in refusal(
        'noise_adaptation.extra.k=0.5', method='noise_adaptation'
    )


def test_a_new_stage_says_what_its_section_lacks(monkeypatch):
    settings = paper.hyperparameters('paper')
    settings |= {'mixup': settings['mixup'] | {'extra': {'epochs': 1, 'k': 3.0}}}
    monkeypatch.setattr(paper, 'hyperparameters', lambda preset, dataset: settings | {})
    assert 'add it to the section [mixup.extra]' in refusal(method='mixup')
    assert '"mixup.extra.k" = [0, 1]' in refusal('mixup.extra.k=4', method='mixup')


def test_a_word_may_stand_beside_whole_numbers(monkeypatch):
    settings = paper.hyperparameters('paper')
    settings['choices'] = settings['choices'] | {'*.correct.window': ['all']}
    monkeypatch.setattr(paper, 'hyperparameters', lambda preset, dataset: settings | {})
    for value in ('all', 3):
        assert trial(f'ours.correct.window={value}').stages['correct']['window'] == value
    # Whatever stood there before.
    again = trial('ours.correct.window=all', 'ours.correct.window=4')
    assert again.stages['correct']['window'] == 4
    assert 'takes a whole number or all' in refusal('ours.correct.window=some')
    assert 'takes a whole number or all' in refusal(
        'ours.correct.window=all', 'ours.correct.window=1.5'
    )
    assert 'is out of range' in refusal('ours.correct.window=0')


def test_a_net_whose_lists_do_not_fit_together_is_refused():
    assert 'do not fit together' in refusal('net.blocks=[5, 5]')
    assert trial('net.blocks=[5, 5]', 'net.filters=[8, 8, 16]').net['blocks'] == [5, 5]


@pytest.mark.parametrize('choice', ['kl', 'mix', 'kl+mix', '"kl"'])
def test_a_choice_is_taken_with_or_without_quotes(choice):
    assert trial(f'ours.fine_tune.loss={choice}').stages['fine_tune']['loss'] == choice.strip('"')


@pytest.mark.parametrize('value', ['kI', '1', 'true', '[]', ''])
def test_what_is_no_choice_is_refused_with_the_choices(value):
    assert 'known: kl+mix, kl, mix' in refusal(f'ours.fine_tune.loss={value}')


@pytest.mark.parametrize('name', ['method', 'noise', 'preset'])
def test_a_name_that_does_not_exist_is_refused_with_those_that_do(name):
    known = {'method': 'ours', 'noise': 'symmetric', 'preset': 'quick'}[name]
    assert f'did you mean {known}?' in refusal(**{name: known[:-1]})


def test_an_unknown_data_set_and_a_negative_seed_are_refused():
    with pytest.raises(ConfigError, match='did you mean cifar10'):
        config.trial('ours', 'cifar', 'symmetric', 0.7, 0)
    with pytest.raises(ConfigError, match='the seed is not from 0 to'):
        trial(seed=-1)


def test_what_no_report_would_accept_is_refused_before_training():
    long = f'ours.fine_tune.divide_after={list(range(60))}'
    epochs = 'ours.correct.epochs=1000000'
    assert collect.config_problem(trial(epochs, seed=10**12).as_record()) is None
    assert 'not from 0 to' in refusal(seed=10**12 + 1)
    assert 'longer than 200 characters' in refusal(long)
    assert 'ours.correct.epochs' in refusal('ours.correct.epochs=1000001')
    assert 'cannot be printed' in refusal(labels_file='a\xa0b.npy')


@pytest.mark.parametrize(
    ('rate', 'fix'),
    [
        (70, 'write 0.7\n'),
        (1.5, 'write 0.015\n'),
        (100.1, 'write for example 0.7'),
        (-0.1, 'write for example 0.7'),
        (float('nan'), 'write for example 0.7'),
    ],
)
def test_a_rate_that_is_no_fraction_is_refused(rate, fix):
    assert fix in refusal(rate=rate) + '\n'


@pytest.mark.parametrize('noise', ['symmetric', 'asymmetric'])
def test_a_noise_without_its_rate_is_told_the_option(noise):
    said = refusal(noise=noise, rate=None)
    assert said.startswith(f'error: {noise} noise needs a rate\n')
    assert '--rate 0.7' in said


@pytest.mark.parametrize('noise', ['none', 'file'])
def test_noise_without_a_rate_takes_none(noise):
    assert trial(noise=noise, rate=None).noise['rate'] is None
    assert 'has no rate' in refusal(noise=noise)


@pytest.mark.parametrize(
    ('noise', 'rate', 'printed'),
    [
        ('symmetric', 0.0, 0.1),
        ('symmetric', 0.61, 0.7),
        ('symmetric', 0.2, 0.1),
        ('asymmetric', 0.44, 0.4),
        ('file', None, 0.5),
    ],
)
def test_a_rate_that_is_not_printed_takes_the_row_of_the_nearest(noise, rate, printed):
    kind = 'asymmetric' if noise == 'asymmetric' else 'symmetric'
    (row,) = [r for r in SETTINGS['table1'] if (r['noise'], r['rate']) == (kind, printed)]
    stages = trial(noise=noise, rate=rate).stages
    assert stages['fine_tune']['a'] == row['a']
    assert stages['correct']['learning_rate'] == row['learning_rate']


def test_a_trial_id_is_words_and_the_digest_of_all_settings():
    described = trial()
    assert described.trial == f'ours-symmetric-0.7-s0-{described.digest[:8]}'
    assert trial(noise='none', rate=None).trial.startswith('ours-none-s0-')
    assert trial().digest == described.digest


@pytest.mark.parametrize(
    'change',
    [
        {'method': 'tanaka'},
        {'noise': 'asymmetric'},
        {'rate': 0.7000001},
        {'seed': 1},
        {'preset': 'quick'},
        {'precision': 'bfloat16'},
        {'labels': 'f' * 64},
    ],
    ids=str,
)
def test_whatever_changes_the_result_changes_the_id(change):
    assert trial(**change).trial != trial().trial


@pytest.mark.parametrize('key', KEYS)
def test_every_setting_changes_the_id(key):
    section, *path = key.split('.')
    method = section if section in paper.methods() else 'ours'
    present = SETTINGS[section]
    for name in path:
        present = present[name]
    if choices := rules('choices', key):
        value = next(choice for choice in choices[0] if choice != present)
    elif isinstance(present, bool):
        value = str(not present).lower()
    elif isinstance(present, list):
        value = [number + 1 for number in present]
    else:
        value = 7 if isinstance(present, int) else 0.37
    standard, overridden = trial(method=method), trial(f'{key}={value}', method=method)
    assert overridden.digest != standard.digest
    # Not only because the override is listed: the setting itself is another one.
    assert overridden.as_dict() | {'modified': []} != standard.as_dict()


@pytest.mark.parametrize('method', paper.methods())
def test_a_trial_goes_to_json_and_back(method):
    described = trial('common.pad=2', method=method)
    values = json.loads(json.dumps(described.as_dict())) | {'another': 'key'}
    assert config.from_dict(values) == described
    assert config.from_dict(values).digest == described.digest


LABELS = 'f' * 64


def parsed(command):
    words = shlex.split(command)
    assert words[:3] == ['python', '-m', 'chainer_jo']
    options = cli.parser().parse_args(words[3:])
    return config.trial(
        options.method, options.dataset, options.noise, options.rate, options.seed,
        options.preset, options.overrides, options.precision,
        labels=LABELS if options.labels else None, labels_file=options.labels,
    )  # fmt: skip


@pytest.mark.parametrize(
    'described',
    [
        trial(),
        trial(preset='quick', seed=3, method='cross_entropy'),
        trial(noise='none', rate=None),
        trial(rate=1),
        trial(rate=0.123456789),
        trial(precision='bfloat16'),
        trial("ours.fine_tune.loss = 'mix'", 'net.filters=[1,1,1,1]', 'common.flip=false'),
    ],
    ids=lambda described: described.trial,
)
def test_the_command_of_a_trial_describes_the_same_trial(described):
    assert parsed(described.command) == described


@pytest.mark.parametrize('place', ['labels.npz:given', '/a folder/it\'s "here".npy', '$HOME/x'])
def test_the_command_of_a_trial_names_the_file_of_its_labels(place):
    described = trial(noise='file', rate=None, labels=LABELS, labels_file=place)
    again = parsed(described.command)
    assert (again, again.labels_file) == (described, place)
    # What is written down is enough to say it again.
    written = json.loads(json.dumps(described.as_record()))
    assert config.from_dict(written).command == described.command


def test_the_place_of_the_labels_is_no_part_of_the_trial():
    one, other = (
        trial(noise='file', rate=None, labels=LABELS, labels_file=place) for place in 'ab'
    )
    assert one == other
    assert one.as_dict() == other.as_dict()
    assert one.trial == other.trial == trial(noise='file', rate=None, labels=LABELS).trial


VALUES = st.one_of(
    st.text(),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.integers(-3, 300) | st.floats() | st.booleans()).map(str),
    st.sampled_from([word for choices in SETTINGS['choices'].values() for word in choices]),
    st.sampled_from(['true', 'false', '{}', '[' * 3000, '9' * 5000, "'", '1\nx = 2', '07:32:00']),
)
OVERRIDES = st.one_of(
    st.text(),
    st.builds('{}={}'.format, st.sampled_from(KEYS), VALUES),
    st.builds('{}={}'.format, st.text(), VALUES),
)


@settings(max_examples=500)
@given(st.lists(OVERRIDES, min_size=1, max_size=3), st.sampled_from(list(paper.methods())))
def test_any_override_gives_a_valid_trial_or_a_refusal_of_three_lines(overrides, method):
    described = said = None
    try:
        described = trial(*overrides, method=method)
    except ConfigError as error:
        said = str(error)
    if described is None:
        assert len(said.split('\n')) == 3
    else:
        assert parsed(described.command) == described
        assert config.from_dict(json.loads(json.dumps(described.as_dict()))) == described


def test_no_override_of_a_foreign_result_leaves_its_quotes_in_a_command():
    foreign = trial().as_dict() | {'modified': ["a=1'; touch x; '", '$(touch x)', "'"]}
    words = shlex.split(config.from_dict(foreign).command)
    assert words[-6:] == ['--set', foreign['modified'][0], '--set', '$(touch x)', '--set', "'"]


@pytest.mark.parametrize('written', ['true', '"true"'])
def test_a_word_that_toml_takes_for_something_else_is_the_word(written):
    found = trial(f'pencil.fine_tune.division={written}', method='pencil')
    assert found.stages['fine_tune']['division'] == 'true'


@pytest.mark.parametrize(
    ('updater', 'missing'),
    [(updater, key) for updater, keys in paper.NEEDED.items() for key in keys],
)
def test_a_stage_that_lacks_what_its_updater_needs_is_not_complete(updater, missing, monkeypatch):
    settings = paper.hyperparameters('quick')
    stage = dict.fromkeys(('epochs', 'learning_rate', *paper.NEEDED[updater]), 1)
    settings['cross_entropy'] = {'title': 'mine', 'train': stage}
    monkeypatch.setattr(paper, 'hyperparameters', lambda *_: settings)
    monkeypatch.setattr(paper, 'updaters', lambda method, stage: (updater,))
    words = 'cross_entropy', 'cifar10', 'none', None, 0
    assert config.trial(*words).stages['train'] == stage
    del stage[missing]
    with pytest.raises(ConfigError, match='cross_entropy.train is not complete') as refused:
        config.trial(*words)
    assert refused.value.seen == f'no {missing} in hyperparameters.toml'


def test_every_kind_of_updater_names_what_it_needs():
    from chainer_jo.training import updaters

    assert updaters.KINDS.keys() == paper.NEEDED.keys()
