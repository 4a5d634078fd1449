import json
import random
import shutil

import pytest

from chainer_jo import store
from chainer_jo.errors import DataError
from chainer_jo.report.collect import log_problem, read_all, read_log


def collect(out):
    return read_all(out)[0]


def unreadable(out):
    return read_all(out)[1]


def test_whole_results_are_collected_in_the_order_of_their_trials(tmp_path, add_trial):
    results = [add_trial(seed=seed) for seed in (2, 0, 1)]

    assert collect(tmp_path) == sorted(results, key=lambda result: result['trial'])
    assert unreadable(tmp_path) == []


def test_a_folder_without_runs_has_no_results(tmp_path):
    assert collect(tmp_path / 'nowhere') == unreadable(tmp_path / 'nowhere') == []


def test_a_result_cut_at_any_byte_is_listed_and_never_used(tmp_path, add_trial):
    whole = add_trial(seed=0)
    path = tmp_path / 'runs' / add_trial(seed=1)['trial'] / 'result.json'
    content = path.read_bytes()
    # The last byte closes the object: without it nothing is left that JSON accepts.
    for length in [0, *random.Random(0).sample(range(1, len(content)), 20)]:
        path.write_bytes(content[:length])

        assert collect(tmp_path) == [whole]
        assert [item['path'] for item in unreadable(tmp_path)] == [str(path)]


@pytest.mark.parametrize(
    ('old', 'new', 'problem'),
    [
        ('"schema": 1', '"schema": 2', 'schema is 2, not 1'),
        ('"label_accuracy": 0.8', '"label_accuracy": NaN', 'NaN is not JSON'),
        ('"label_accuracy": 0.8', '"label_accuracy": 1e999', 'label_accuracy is inf'),
        ('"label_accuracy": 0.8,', '', 'label_accuracy is missing'),
        ('"test_accuracy": 0.85', '"test_accuracy": 85', 'best.test_accuracy is 85'),
        ('"test_accuracy": 0.85', '"test_accuracy": true', 'best.test_accuracy is True'),
        ('"modified": []', '"modified": ""', "config.modified is '', not a list of overrides"),
        ('"times": {', '"times": 1, "was": {', 'times.seconds is missing'),
    ],
)
def test_a_result_with_a_wrong_value_is_listed_with_its_problem(
    tmp_path, add_trial, old, new, problem
):
    path = tmp_path / 'runs' / add_trial()['trial'] / 'result.json'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

    assert collect(tmp_path) == []
    assert problem in unreadable(tmp_path)[0]['problem']


@pytest.mark.parametrize('text', ['[]', 'null', '3', '"schema"', '\xff'])
def test_json_that_is_no_result_is_listed(tmp_path, text):
    path = tmp_path / 'runs' / 'trial' / 'result.json'
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode('latin-1'))

    assert collect(tmp_path) == []
    assert len(unreadable(tmp_path)) == 1


def test_a_copy_of_a_trial_does_not_count_twice(tmp_path, add_trial):
    result = add_trial()
    folder = tmp_path / 'runs' / result['trial']
    shutil.copytree(folder, folder.with_name('copy'))

    assert collect(tmp_path) == [result]
    assert unreadable(tmp_path)[0]['problem'] == f'it is the result of {result["trial"]}'


def test_what_cannot_be_known_may_be_null(tmp_path, add_trial):
    path = tmp_path / 'runs' / add_trial(labels=None)['trial'] / 'result.json'
    result = store.read_sealed(path)
    result['best']['test_accuracy'] = result['last']['test_accuracy'] = None
    result['noise']['wrong'] = result['data']['test'] = None
    store.write_sealed(path, result)

    assert collect(tmp_path) == [result]


@pytest.mark.parametrize(
    ('key', 'value', 'problem'),
    [
        ('environment', {'a': '\x1b[31m'}, 'not printable'),
        ('environment', {'\ud800': 1}, 'not printable'),
        ('environment', {'a': '\u202e'}, 'not printable'),
        ('epochs', 4, 'its number of epochs is not the sum'),
        ('trial', '../..', "trial is '../..', not a trial id"),
        ('schema', True, 'schema is True, not 1'),
    ],
)
def test_a_result_that_could_mislead_is_listed_in_printable_words(
    tmp_path, add_trial, key, value, problem
):
    result = add_trial()
    path = tmp_path / 'runs' / result['trial'] / 'result.json'
    path.write_text(json.dumps(result | {key: value}))

    assert collect(tmp_path) == []
    [item] = unreadable(tmp_path)
    assert problem in item['problem']
    assert (item['path'] + item['problem']).isprintable()


@pytest.mark.parametrize('text', ['[' * 100_000, '{"a":' * 100_000, '{"a": ' + '9' * 5000 + '}'])
def test_json_that_exhausts_the_reader_is_listed(tmp_path, add_trial, text):
    whole = add_trial()
    path = tmp_path / 'runs' / 'deep' / 'result.json'
    path.parent.mkdir()
    path.write_text(text)

    assert collect(tmp_path) == [whole]
    assert [item['path'] for item in unreadable(tmp_path)] == [str(path)]


def test_deep_nesting_that_can_be_read_is_listed_too(tmp_path, add_trial):
    result = add_trial()
    path = tmp_path / 'runs' / result['trial'] / 'result.json'
    deep = json.loads('[' * 50 + ']' * 50)
    path.write_text(json.dumps(result | {'environment': {'deep': deep}}))

    assert collect(tmp_path) == []
    assert 'nested' in unreadable(tmp_path)[0]['problem']


def test_a_file_too_large_to_be_a_result_is_not_read(tmp_path, add_trial):
    path = tmp_path / 'runs' / add_trial()['trial'] / 'result.json'
    path.write_text(path.read_text() + ' ' * 1_000_000)

    assert collect(tmp_path) == []
    assert unreadable(tmp_path)[0]['problem'] == 'larger than 1,000,000 bytes'


@pytest.mark.parametrize(
    'change',
    [{'stage': '<b>'}, {'stage_epoch': '1'}, {'epoch': 1.5}, {'test/main/accuracy': 'high'},
     {'main/accuracy': True}],
)  # fmt: skip
def test_a_row_with_a_wrong_value_is_damage(tmp_path, change):
    (tmp_path / 'log.jsonl').write_text(json.dumps(make_row(1) | change) + '\n')

    with pytest.raises(DataError, match='line 1'):
        read_log(tmp_path)


def test_a_log_of_other_stages_is_not_that_of_the_result(add_trial):
    result = add_trial()
    rows = [make_row(epoch) for epoch in range(1, 6)]

    assert log_problem(rows, result) == 'its stages differ from those of the result'
    assert log_problem(rows[:3], result) == '3 of 5 epochs'


def test_a_result_without_a_digest_is_listed_with_the_way_to_take_it_over(tmp_path, add_trial):
    result = add_trial()
    path = tmp_path / 'runs' / result['trial'] / 'result.json'
    path.write_text(json.dumps(result, indent=1))

    assert collect(tmp_path) == []
    assert 'reproduce/seal_results.py' in unreadable(tmp_path)[0]['problem']


def test_a_digit_changed_by_hand_is_listed_and_never_used(tmp_path, add_trial):
    path = tmp_path / 'runs' / add_trial()['trial'] / 'result.json'
    path.write_text(path.read_text().replace('"test_accuracy": 0.85', '"test_accuracy": 0.95'))

    assert collect(tmp_path) == []
    assert 'does not match its content' in unreadable(tmp_path)[0]['problem']


def test_the_log_of_a_result_is_known_by_its_bytes(tmp_path, add_trial):
    result = add_trial()
    folder = tmp_path / 'runs' / result['trial']
    assert len(read_log(folder, result)) == result['epochs']
    text = (folder / 'log.jsonl').read_text()
    (folder / 'log.jsonl').write_text(text.replace('0.839', '0.838'))

    assert len(read_log(folder)) == result['epochs']
    with pytest.raises(DataError, match='does not belong to its result') as error:
        read_log(folder, result)
    assert 'altered' in error.value.seen


def test_a_log_cut_at_any_byte_gives_the_whole_lines_before_the_cut(tmp_path):
    rows = [make_row(epoch) | {'test/main/accuracy': epoch / 9} for epoch in range(1, 9)]
    content = ''.join(json.dumps(row) + '\n' for row in rows).encode()
    for length in random.Random(1).sample(range(len(content)), 20):
        (tmp_path / 'log.jsonl').write_bytes(content[:length])

        assert read_log(tmp_path) == rows[: content[:length].count(b'\n')]


def test_an_epoch_that_was_trained_again_counts_once(tmp_path):
    rows = [make_row(1), make_row(2), make_row(2) | {'seconds': 9}]
    (tmp_path / 'log.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))

    assert read_log(tmp_path) == [rows[0], rows[2]]


@pytest.mark.parametrize('line', ['{"epoch": 1', '{"stage": "train"}', '[1]', '\x00'])
def test_damage_before_the_last_line_of_a_log_is_an_error(tmp_path, line):
    (tmp_path / 'log.jsonl').write_text(line + '\n{"epoch": 2}\n')

    with pytest.raises(DataError, match='line 1'):
        read_log(tmp_path)


def test_a_missing_log_is_an_error(tmp_path):
    with pytest.raises(DataError, match='cannot read'):
        read_log(tmp_path)


def make_row(epoch):
    return {'epoch': epoch, 'stage': 'train', 'stage_epoch': epoch, 'seconds': 1}


@pytest.mark.parametrize('which', ['best', 'last'])
def test_a_validation_accuracy_in_percent_is_listed(which, tmp_path, add_trial):
    path = tmp_path / 'runs' / add_trial()['trial'] / 'result.json'
    result = store.read_sealed(path)
    result[which]['validation_accuracy'] = 85
    store.write_sealed(path, result)

    results, [unusable] = read_all(tmp_path)

    assert results == []
    assert f'{which}.validation_accuracy is 85, not a number from 0 to 1' in unusable['problem']
