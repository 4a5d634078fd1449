import json
import random
import shutil

import pytest

from chainer_jo.errors import DataError
from chainer_jo.report.collect import collect, read_log, unreadable


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
        ('"label_accuracy": 0.8, ', '', 'label_accuracy is missing'),
        ('"test_accuracy": 0.85', '"test_accuracy": 85', 'best.test_accuracy is 85'),
        ('"test_accuracy": 0.85', '"test_accuracy": true', 'best.test_accuracy is True'),
        ('"modified": []', '"modified": ""', "config.modified is '', not of type list"),
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


def test_unknown_label_accuracy_is_no_problem(tmp_path, add_trial):
    result = add_trial(labels=None)

    assert collect(tmp_path) == [result]


def test_a_log_cut_at_any_byte_gives_the_whole_lines_before_the_cut(tmp_path):
    rows = [{'epoch': epoch, 'test/main/accuracy': epoch / 7} for epoch in range(1, 9)]
    content = ''.join(json.dumps(row) + '\n' for row in rows).encode()
    for length in random.Random(1).sample(range(len(content)), 20):
        (tmp_path / 'log.jsonl').write_bytes(content[:length])

        assert read_log(tmp_path) == rows[: content[:length].count(b'\n')]


def test_an_epoch_that_was_trained_again_counts_once(tmp_path):
    rows = [{'epoch': 1, 'seconds': 1}, {'epoch': 2, 'seconds': 1}, {'epoch': 2, 'seconds': 9}]
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
