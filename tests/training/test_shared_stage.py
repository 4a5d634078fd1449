"""A first stage that is the same for several trials is trained once, and nobody can tell."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from chainer_jo import paper, store
from chainer_jo.errors import StoppedError, WriteError
from chainer_jo.methods.ours import Ours
from chainer_jo.training import shared_stage, trial

KL = 'ours.fine_tune.loss=kl'


def run(config, out, share=True, said=None):
    observer = trial.Observer(warn=said.append) if said is not None else tiny.SILENT
    return trial.run(config, tiny.machine(out, share=share), observer)


def handed_on(out):
    return sorted((out / shared_stage.SHARED).glob('*'))


def without_shared(outcome):
    rows = [{k: v for k, v in row.items() if k != 'shared'} for row in outcome['log.jsonl']]
    result = {k: v for k, v in outcome['result.json'].items() if k != 'shared'}
    return outcome | {'log.jsonl': rows, 'result.json': result}


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        (tiny.config('ours'), tiny.config('tanaka')),
        (tiny.config('tanaka'), tiny.config('ours', KL)),
        (tiny.config('ours'), tiny.config('ours', 'ours.fine_tune.start=fresh')),
        (tiny.config('pencil'), tiny.config('pencil', 'pencil.fine_tune.division=floor')),
    ],
    ids=lambda config: config.trial,
)
def test_a_trial_that_goes_on_from_anothers_first_stage_ends_as_if_it_had_trained_it(
    first, second, tmp_path
):
    said = []
    run(first, tmp_path / 'shared')
    shared = run(second, tmp_path / 'shared', said=said)
    run(second, tmp_path / 'alone', share=False)

    told = shared['shared']
    assert told['trial'] == first.trial
    assert told['stage'] == next(iter(second.stages))
    assert [line for line in said if first.trial in line]
    assert [path.stem for path in handed_on(tmp_path / 'shared')] == [told['digest'][:32]]
    outcome = tiny.outcome(second, tmp_path / 'shared')
    assert [row.get('shared', {}).get('trial') for row in outcome['log.jsonl']] == (
        [first.trial] * 3 + [None] * (second.epochs - 3)
    )
    assert without_shared(outcome) == tiny.outcome(second, tmp_path / 'alone')


@pytest.mark.parametrize(
    'other',
    [
        tiny.config('ours', seed=1),
        tiny.config('ours', 'ours.correct.window=1'),
        tiny.config('ours', 'ours.correct.labels=hard'),
        tiny.config('ours', 'common.validation_labels=noisy'),
        tiny.config('ours', 'noise.exclude_true=true'),
        tiny.config('pencil'),
    ],
    ids=lambda config: config.trial,
)
def test_a_trial_of_another_first_stage_trains_its_own(other, tmp_path):
    run(tiny.config('ours'), tmp_path)

    assert 'shared' not in run(other, tmp_path)
    assert len(handed_on(tmp_path)) == 2


def digest_of(*more, data='d', **changes):
    """The digest of the paper's first stage; ``changes`` are of the configuration alone."""
    config = tiny.config('ours', *more)
    method = tiny.assembly(config).method
    return shared_stage.SharedStage('', replace(config, **changes), method, data, {}).digest


def test_a_stage_of_other_data_in_another_precision_or_of_another_net_is_another_one():
    # A stride changes no shape of a weight, so the state at the start is the same.
    others = [{'data': 'e'}, {'precision': 'bfloat16'}]
    digests = [digest_of(), *(digest_of(**how) for how in others), digest_of('net.stem_stride=2')]
    assert len(set(digests)) == 4
    assert digest_of() == digests[0]


def test_a_stage_of_another_version_of_the_code_is_another_one(monkeypatch):
    present = digest_of()
    monkeypatch.setattr(shared_stage, 'source_digest', lambda: 'another')
    assert digest_of() != present


def test_what_a_later_setting_makes_of_the_start_is_part_of_the_stage(tmp_path):
    # PENCIL's label logits begin at K times the labels, and K is a setting of its second stage.
    run(tiny.config('pencil'), tmp_path)

    assert 'shared' not in run(tiny.config('pencil', 'pencil.correct.K=5'), tmp_path)


def test_a_method_that_changes_what_a_stage_calls_trains_its_own(tmp_path, monkeypatch):
    run(tiny.config('tanaka'), tmp_path)
    monkeypatch.setattr(Ours, 'log_f', Ours.log_f, raising=False)

    assert 'shared' not in run(tiny.config('ours'), tmp_path)


class Weighted(Ours):
    weight = 1.0

    @property
    def doubled(self):
        return 2 * self.weight

    def train(self, batch):
        """A helper that has the name of another method's stage."""


def derived(**own):
    return type('Derived', (Weighted,), own | {'__module__': Weighted.__module__})


@pytest.mark.parametrize(
    'own',
    [
        {'weight': 3.0},
        {'doubled': property(lambda self: 1)},
        {'train': lambda self, batch: None},
        {'__init__': lambda self: None},
    ],
    ids=lambda own: next(iter(own)),
)
def test_a_method_that_changes_a_value_or_a_helper_behaves_otherwise(own, monkeypatch):
    # As if they were files of the folder of methods.
    monkeypatch.setattr(Weighted, '__module__', Ours.__module__)
    same = shared_stage._behaviour(derived(), 'correct')
    assert shared_stage._behaviour(Weighted, 'correct') == same
    assert shared_stage._behaviour(derived(fine_tune=None), 'correct') == same
    assert shared_stage._behaviour(derived(**own), 'correct') != same


def test_another_number_of_threads_trains_its_own(tmp_path, monkeypatch):
    run(tiny.config('tanaka'), tmp_path)
    present = trial.result.environment
    monkeypatch.setattr(
        trial.result, 'environment', lambda *args: present(*args) | {'threads': 'another'}
    )

    assert 'shared' not in run(tiny.config('ours'), tmp_path)


def test_nothing_is_handed_on_unless_asked_for_nor_by_a_method_of_one_stage(tmp_path):
    run(tiny.config('ours'), tmp_path, share=False)
    run(tiny.config('cross_entropy'), tmp_path)

    assert handed_on(tmp_path) == []


def test_a_damaged_file_is_told_and_the_stage_trained_anew(tmp_path):
    run(tiny.config('ours'), tmp_path / 'shared')
    [path] = handed_on(tmp_path / 'shared')
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said = []

    second = run(tiny.config('tanaka'), tmp_path / 'shared', said=said)

    assert 'shared' not in second
    assert any('damaged' in line and 'trained again' in line for line in said)
    assert tiny.digests(second) == tiny.digests(run(tiny.config('tanaka'), tmp_path / 'alone'))
    assert 'shared' in run(tiny.config('ours', KL), tmp_path / 'shared')


def test_a_file_under_the_name_of_another_is_told_and_the_stage_trained_anew(tmp_path):
    for seed in (0, 1):
        run(tiny.config('ours', seed=seed), tmp_path / 'shared')
    one, other = handed_on(tmp_path / 'shared')
    one.rename(tmp_path / 'aside')
    other.rename(one)
    (tmp_path / 'aside').rename(other)
    said = []

    second = run(tiny.config('tanaka'), tmp_path / 'shared', said=said)

    assert 'shared' not in second
    assert [line for line in said if 'first stage is trained again' in line]
    assert tiny.digests(second) == tiny.digests(run(tiny.config('tanaka'), tmp_path / 'alone'))
    assert 'shared' in run(tiny.config('ours', KL), tmp_path / 'shared')


@pytest.mark.parametrize('name', ['trial', 'digest'])
def test_a_file_that_does_not_say_what_it_is_is_not_used(name, tmp_path):
    run(tiny.config('ours'), tmp_path)
    [path] = handed_on(tmp_path)
    arrays = store.read_arrays(path)
    del arrays[name]
    store.write_arrays(path, arrays)
    said = []

    assert 'shared' not in run(tiny.config('tanaka'), tmp_path, said=said)
    assert [line for line in said if 'trained again' in line]


def test_a_file_that_may_not_be_read_is_told_and_kept(tmp_path, monkeypatch):
    run(tiny.config('ours'), tmp_path)
    [path] = handed_on(tmp_path)
    content, read, said = path.read_bytes(), store.read_arrays, []

    def refused(file):
        if file == path:
            raise WriteError(f'cannot read {path}', seen='Permission denied', fix='')
        return read(file)

    monkeypatch.setattr(store, 'read_arrays', refused)

    assert 'shared' not in run(tiny.config('tanaka'), tmp_path, said=said)
    words = f'cannot read {path} (Permission denied): the first stage is trained again'
    assert words in said
    assert path.read_bytes() == content


def test_a_trial_stopped_later_still_says_who_trained_its_first_stage(sigterm_at, tmp_path):
    first, second = tiny.config('tanaka'), tiny.config('ours')
    run(first, tmp_path)
    sigterm_at([3])
    with pytest.raises(StoppedError):
        run(second, tmp_path)
    shared_stage.remove_all(tmp_path)

    assert run(second, tmp_path)['shared']['trial'] == first.trial


def test_what_two_environments_have_trained_is_not_handed_on(sigterm_at, tmp_path, monkeypatch):
    present = trial.result.environment
    sigterm_at([3])
    with pytest.raises(StoppedError):
        run(tiny.config('ours'), tmp_path)
    monkeypatch.setattr(
        trial.result, 'environment', lambda *args: present(*args) | {'threads': 'another'}
    )
    with pytest.raises(StoppedError) as stopped:
        run(tiny.config('ours'), tmp_path)
    run_on = run(tiny.config('ours'), tmp_path)

    assert 'snapshot' in stopped.value.seen
    assert len(run_on['environments']) == 2
    assert handed_on(tmp_path) == []


def test_two_that_want_the_same_stage_at_once_both_end_right(tmp_path, monkeypatch):
    # The second looks for the stage before the first has handed it on.
    take, both = shared_stage.SharedStage.take, threading.Event()
    inner = []

    def take_while_another_trains(shared, warn):
        found = take(shared, warn)
        if not both.is_set():
            both.set()
            inner.append(run(tiny.config('tanaka'), tmp_path / 'shared'))
        return found

    monkeypatch.setattr(shared_stage.SharedStage, 'take', take_while_another_trains)
    outer = run(tiny.config('ours'), tmp_path / 'shared')

    assert 'shared' not in outer
    assert 'shared' not in inner[0]
    for method, seen in (('ours', outer), ('tanaka', inner[0])):
        alone = run(tiny.config(method), tmp_path / 'alone', share=False)
        assert tiny.digests(seen) == tiny.digests(alone)
    assert 'shared' in run(tiny.config('ours', KL), tmp_path / 'shared')


def test_removing_what_was_handed_on_leaves_everything_else(tmp_path):
    run(tiny.config('ours'), tmp_path)
    stranger = tmp_path / shared_stage.SHARED / 'notes.txt'
    store.write_text(stranger, 'mine')

    shared_stage.remove_all(tmp_path)
    assert handed_on(tmp_path) == [stranger]
    stranger.unlink()
    shared_stage.remove_all(tmp_path)
    shared_stage.remove_all(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'runs'}


def test_what_was_handed_on_may_stay_where_it_cannot_be_removed(tmp_path, monkeypatch):
    theirs = tmp_path / shared_stage.SHARED / 'theirs.arrays'
    store.make_folder(theirs.parent)
    store.write_text(theirs, '')

    def not_mine(path, **_):
        raise PermissionError(path)

    monkeypatch.setattr(Path, 'unlink', not_mine)
    shared_stage.remove_all(tmp_path)
    assert handed_on(tmp_path) == [theirs]


def test_the_papers_settings_give_its_method_and_tanakas_the_same_first_stage():
    settings = paper.hyperparameters('paper')
    assert settings['ours']['correct'] == settings['tanaka']['correct']
    assert paper.updaters('ours', 'correct') == paper.updaters('tanaka', 'correct')


def test_a_stage_that_cannot_be_handed_on_does_not_end_the_trial(tmp_path):
    # As on a full disk, or when another process removes the folder at that moment.
    store.write_text(tmp_path / shared_stage.SHARED, 'no folder')

    assert 'shared' not in run(tiny.config('ours'), tmp_path)
    assert 'shared' not in run(tiny.config('tanaka'), tmp_path)
