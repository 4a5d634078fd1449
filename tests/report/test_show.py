import json

import pytest

from chainer_jo import store
from chainer_jo.errors import ConfigError, DataError
from chainer_jo.report.show import show, to_text


def test_a_finished_trial_is_shown_with_the_last_rows_of_its_log(tmp_path, add_trial, command):
    result = add_trial(stages={'train': {'epochs': 9}})

    shown = show(tmp_path, result['trial'], command)

    assert shown['state'] == 'done'
    assert shown['result'] == result
    assert shown['config'] == result['config']
    assert [row['epoch'] for row in shown['log']] == [5, 6, 7, 8, 9]
    assert json.loads(json.dumps(shown)) == shown


def test_a_trial_under_way_has_no_result(tmp_path, add_trial, command):
    folder = tmp_path / 'runs' / add_trial()['trial']
    (folder / 'result.json').unlink()

    shown = show(tmp_path, folder.name, command)

    assert (shown['state'], shown['result'], len(shown['log'])) == ('unfinished', None, 5)
    assert 'unfinished' in to_text(shown)


def test_a_trial_that_has_not_finished_an_epoch_is_shown(tmp_path, add_trial, command):
    trial = add_trial(log=False)['trial']

    assert show(tmp_path, trial, command)['log'] == []


def test_the_text_has_command_settings_result_and_log(tmp_path, add_trial, command):
    result = add_trial()

    text = to_text(show(tmp_path, result['trial'], command))

    assert text.startswith(f'{result["trial"]}: done\n\n  train --method ours --seed 0\n')
    assert '\n  stages.fine_tune.a = 4.0\n' in text
    assert '\n  best: test 85.00 %, validation 85.00 %, epoch 4\n' in text
    assert '\n  correct labels: 80.00 %\n' in text
    assert '\n  data.variant = "embedded subset"\n' in text
    assert text.endswith('"label_accuracy": 0.8}\n')


def test_an_unknown_trial_is_refused_with_the_nearest_that_exists(tmp_path, add_trial, command):
    trial = add_trial()['trial']

    with pytest.raises(ConfigError, match='no trial') as error:
        show(tmp_path, trial[:-1], command)

    assert trial in error.value.fix


def test_a_damaged_result_is_an_error(tmp_path, add_trial, command):
    trial = add_trial()['trial']
    (tmp_path / 'runs' / trial / 'result.json').write_text('{')

    with pytest.raises(DataError, match='cannot read'):
        show(tmp_path, trial, command)


def test_a_committed_trial_is_shown_from_its_result_alone(tmp_path, add_trial, command):
    result = add_trial()
    (tmp_path / 'runs' / result['trial'] / 'config.json').unlink()

    shown = show(tmp_path, result['trial'], command)

    assert (shown['state'], shown['config']) == ('done', result['config'])


@pytest.mark.parametrize('text', ['{}', '[' * 30 + ']' * 30, '{"preset": "\\u001b[31m"}'])
def test_a_damaged_configuration_is_an_error(tmp_path, add_trial, command, text):
    trial = add_trial()['trial']
    (tmp_path / 'runs' / trial / 'result.json').unlink()
    (tmp_path / 'runs' / trial / 'config.json').write_text(text)

    with pytest.raises(DataError, match='is damaged|cannot read') as error:
        show(tmp_path, trial, command)

    assert error.value.seen.isprintable()


def test_what_is_not_known_is_not_shown(tmp_path, add_trial, command):
    trial = add_trial(labels=None)['trial']
    path = tmp_path / 'runs' / trial / 'result.json'
    result = store.read_sealed(path)
    result['best']['test_accuracy'] = None
    store.write_sealed(path, result)

    text = to_text(show(tmp_path, trial, command))

    assert '\n  best: validation 85.00 %, epoch 4\n' in text
    assert 'correct labels' not in text
