"""What ``import chainer_jo`` offers: its examples, its errors, its cost, what it agrees with."""

import ast
import doctest
import importlib
import inspect
import itertools
import json
import pydoc
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

import chainer_jo
from chainer_jo import cli, config, datasets, methods, paper, store
from chainer_jo.api import checks, trials
from chainer_jo.datasets.cifar10 import FLIPS
from chainer_jo.errors import ConfigError, DataError, StoppedError
from chainer_jo.report import integrity
from chainer_jo.training import corrections, trial

ROOT = Path(__file__).parents[1]
PLACES = sorted(chainer_jo._PLACES)


@pytest.mark.parametrize('place', PLACES)
def test_the_examples_of_the_docstrings_give_what_they_say(place, monkeypatch):
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(f'chainer_jo.api.{place}')
    failed, attempted = doctest.testmod(module)
    assert failed == 0
    assert attempted > 0


def test_the_example_of_the_package_gives_what_it_says():
    assert doctest.testmod(chainer_jo) == (0, 4)


def test_the_examples_of_the_readme_print_what_they_say(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    section = (ROOT / 'README.md').read_text().partition('\n## From Python')[2]
    examples = re.findall(r'```python\n(.*?)```', section.partition('\n## ')[0], re.S)
    known = {}
    for code in examples:
        exec(code, known)
        said = re.findall(r'^print\(.*\)  # (.+)$', code, re.M)
        assert said
        assert capsys.readouterr().out.splitlines() == said
    assert len(examples) == 2


def test_every_name_is_there_typed_and_explained_with_an_example():
    assert set(chainer_jo.__all__) == set(chainer_jo._PLACE) <= set(dir(chainer_jo))
    for name in chainer_jo.__all__:
        offered = getattr(chainer_jo, name)
        assert inspect.getdoc(offered)
        assert re.fullmatch(r'[A-Z].{20,90}\.', inspect.getdoc(offered).partition('\n')[0]), name
        if inspect.isfunction(offered):
            assert '>>> ' in offered.__doc__, name
            parameters = inspect.signature(offered).parameters
            assert set(offered.__annotations__) == {*parameters, 'return'}, name
            if parameters and name != 'columns':
                told = offered.__doc__.partition('Args:')[2]
                assert [p for p in parameters if not re.search(rf'\b{p}\b', told)] == [], name


def test_type_checkers_see_the_names_that_are_loaded_late():
    tree = ast.parse((ROOT / 'chainer_jo/__init__.py').read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {n: f'chainer_jo.api.{place}' for n, place in chainer_jo._PLACE.items()}


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match='no attribute'):
        chainer_jo.no_such_thing  # noqa: B018
    assert not hasattr(chainer_jo, 'chainer')


def test_pydoc_shows_every_name_and_nothing_of_chainers_own():
    text = pydoc.plain(pydoc.render_doc(chainer_jo))
    for name in chainer_jo.__all__:
        assert re.search(rf'^    (class )?{name}\b', text, re.M), name
    assert 'add_persistent' not in text
    assert text.count('\n') < 700


@pytest.mark.parametrize(
    ('code', 'absent'),
    [
        ('import chainer_jo', ('chainer', 'numpy', 'chainer_jo.api')),
        ('import chainer_jo; chainer_jo.symmetric_noise([0, 1], 0.5, 2)', ('chainer', 'cupy')),
        ('import chainer_jo; chainer_jo.results(".")', ('chainer', 'cupy', 'matplotlib')),
    ],
    ids=['nothing', 'noise', 'results'],
)
def test_what_is_not_asked_for_is_not_imported(code, absent):
    code += f'; import sys; print([name for name in {absent} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == '[]\n'


LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=40)


@given(LABELS, st.sampled_from([0, 0.25, 0.5, 1]), st.integers(0, 9))
def test_symmetric_noise_that_excludes_the_true_class_makes_the_rate_wrong(labels, rate, seed):
    noisy = chainer_jo.symmetric_noise(labels, rate, 5, rng=seed, exclude_true=True)
    assert noisy.dtype == np.int32
    assert (noisy != labels).sum() == int(np.ceil(rate * len(labels)))


def test_asymmetric_noise_of_the_papers_map_changes_each_class_to_its_neighbour():
    labels = np.repeat(np.arange(10), 10)
    noisy = chainer_jo.asymmetric_noise(labels, 0.4, FLIPS, rng=1)
    counts = [[int(((labels == i) & (noisy == j)).sum()) for j in range(10)] for i in range(10)]
    T = chainer_jo.transition_matrix('asymmetric', 0.4, 10, flips=FLIPS)
    assert np.allclose(np.array(counts) / 10, T)
    assert counts[9][1] == 4  # A truck taken for an automobile.
    assert (noisy != chainer_jo.asymmetric_noise(labels, 0.4, FLIPS, rng=2)).any()


def test_asymmetric_bernoulli_noise_varies_in_number_and_exact_noise_does_not():
    def counts(sampling):
        how = {'n_class': 2, 'sampling': sampling}
        draws = (
            chainer_jo.asymmetric_noise([0] * 100, 0.3, {0: 1}, rng=i, **how) for i in range(8)
        )
        return {int(noisy.sum()) for noisy in draws}

    assert counts('exact') == {30}
    assert len(counts('bernoulli')) > 1


def test_the_matrix_of_noise_that_excludes_the_true_class_has_the_rate_beside_the_diagonal():
    T = chainer_jo.transition_matrix('symmetric', 0.3, 4, exclude_true=True)
    assert np.allclose(T, np.where(np.eye(4), 0.7, 0.1))


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_mix_up_is_equation_8_for_images_and_labels(per):
    rng = np.random.default_rng(0)
    x = rng.random((6, 2, 3, 3), 'f')
    y = chainer_jo.one_hot(rng.integers(4, size=6), 4)
    before = x.copy()
    mixed = chainer_jo.mix_up(x, y, 0.5, per=per, rng=3)
    for i, j in enumerate(mixed.partner):
        lam = mixed.lam if per == 'batch' else mixed.lam[i]
        assert np.allclose(mixed.x[i], lam * x[i] + (1 - lam) * x[j])
        assert np.allclose(mixed.y[i], lam * y[i] + (1 - lam) * y[j])
    assert sorted(mixed.partner) == list(range(6))
    assert (x == before).all()
    again = chainer_jo.mix_up(x, y, 0.5, per=per, rng=np.random.default_rng(3))
    assert (again.x == mixed.x).all()


def batch(n_class=10):
    rng = np.random.default_rng(5)
    y = rng.dirichlet(np.ones(n_class), 8).astype('f')
    return L.Linear(12, n_class), rng.standard_normal((8, 3, 2, 2)).astype('f'), y


def slow_joint_loss(y, f, alpha, beta):
    y, f = y.astype('d'), f.astype('d')
    L_c = np.mean([sum(yj * np.log(yj / fj) for yj, fj in zip(*r, strict=True) if yj > 0)
                   for r in zip(y, f, strict=True)])  # fmt: skip
    L_p = sum(1 / len(m) * np.log(1 / len(m) / m)) if (m := f.mean(axis=0)).size else 0
    return L_c + alpha * L_p - beta * (f * np.log(f)).sum(axis=1).mean()


def test_the_joint_loss_is_equation_3():
    net, x, y = batch()
    log_f = F.log_softmax(net(x))
    loss = chainer_jo.joint_loss(y, log_f, 1.2, 0.8)
    assert np.isclose(float(loss.array), slow_joint_loss(y, np.exp(log_f.array), 1.2, 0.8))


def test_the_loss_of_a_stage_has_the_hyper_parameters_of_table_1():
    net, x, y = batch()
    f = F.softmax(net(x)).array
    for noise, rate, alpha, beta in (
        ('symmetric', 0.7, 1.2, 0.8), ('symmetric', 0.9, 0.8, 0.4), ('asymmetric', 0.3, 0.8, 0.4),
    ):  # fmt: skip
        how = {'noise': noise, 'rate': rate}
        loss, log_f = chainer_jo.method_loss('ours', 'correct', net, x, y, **how)
        assert np.isclose(float(loss.array), slow_joint_loss(y, f, alpha, beta))
        assert np.allclose(np.exp(log_f.array), f)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_the_loss_of_step_2_is_kl_divergence_and_mix_up(per):
    net, x, y = batch()
    mixed = chainer_jo.mix_up(x, y, 4.0, per=per, rng=2)  # Table 1 at 70 %.
    log_f, log_f_mixed = (np.log(F.softmax(net(v)).array) for v in (x, mixed.x))
    expected = (y * (np.log(y) - log_f)).sum() / 8 - (mixed.y * log_f_mixed).sum() / 8
    how = {'rate': 0.7, 'rng': 2, 'overrides': [f'ours.fine_tune.mix_lambda={per}']}
    loss, _ = chainer_jo.method_loss('ours', 'fine_tune', net, x, y, **how)
    assert np.isclose(float(loss.array), expected, rtol=1e-5)


STAGES = [
    (m, s) for m in paper.methods() for s in paper.hyperparameters('paper')[m] if s != 'title'
]


@pytest.mark.parametrize(('method', 'stage'), STAGES)
def test_every_stage_of_every_method_has_a_loss_with_a_gradient(method, stage):
    net, x, _ = batch()
    y, T = chainer_jo.one_hot(np.arange(8), 10), chainer_jo.transition_matrix('symmetric', 0.5, 10)
    net.name = 'mine'
    loss, log_f = chainer_jo.method_loss(method, stage, net, x, y, T=T)
    net.cleargrads()
    loss.backward()
    assert loss.shape == ()
    assert log_f.shape == y.shape
    assert np.isfinite(net.W.grad).all()
    assert np.abs(net.W.grad).max() > 0
    assert net.name == 'mine'


@pytest.mark.parametrize('window', [2, 'all'])
@pytest.mark.parametrize('hard', [False, True])
def test_labels_become_the_mean_of_the_outputs_in_the_window(window, hard):
    rng = np.random.default_rng(1)
    f = rng.dirichlet(np.ones(3), (4, 5)).astype('f')  # Epochs, images, classes.
    store = chainer_jo.LabelStore([0, 1, 2, 0, 1], 3, window)
    assert (store.y == chainer_jo.one_hot([0, 1, 2, 0, 1], 3)).all()
    for epoch in range(4):
        for part in ([4, 0], [2, 1, 3]):
            store.record(f[epoch][part], part, epoch)
    mean = f[-2:].mean(axis=0) if window == 2 else f.mean(axis=0)
    expected = chainer_jo.one_hot(mean.argmax(axis=1), 3) if hard else mean
    assert np.allclose(store.correct(hard), expected, atol=1e-6)


def test_labels_that_were_looked_at_before_do_not_change_with_the_store():
    store = chainer_jo.LabelStore([0, 1], 2, 1)
    before = store.y
    # Positions of any kind of integer.
    store.record(np.array([[0.25, 0.75], [1, 0]], 'f'), np.array([0, 1], np.uint64), 0)
    after = store.correct()
    assert before.tolist() == [[1, 0], [0, 1]]
    assert after.tolist() == [[0.25, 0.75], [1, 0]]


def test_labels_stay_as_they_are_until_every_image_has_an_output():
    for window in (3, 'all'):
        store = chainer_jo.LabelStore([0, 1, 1], 2, window)
        store.record(np.array([[0.5, 0.5]], 'f'), [1], 0)
        with pytest.raises(ConfigError, match='2 images, the first is 0'):
            store.correct()
        assert (store.y == chainer_jo.one_hot([0, 1, 1], 2)).all()


def test_the_net_is_the_one_that_a_trial_of_the_seed_begins_with():
    assembly = tiny.assembly(tiny.config('ours', seed=4))
    net = chainer_jo.preact_resnet(1, 10, filters=[4] * 4, blocks=[1] * 3, stem_stride=4, seed=4)
    mine, theirs = (dict(link.namedparams()) for link in (net, assembly.method.net))
    assert all((mine[name].array == theirs[name].array).all() for name in theirs)


def test_train_ends_with_the_digests_of_the_command_and_hands_out_net_and_labels(tmp_path):
    config, rows = tiny.config('ours'), []
    command = tiny.run(config, tmp_path / 'command')
    trained = chainer_jo.train(
        'fashion_mnist', 'ours', noise='symmetric', rate=0.5, preset='quick',
        overrides=tiny.overrides('ours'), out=tmp_path / 'python', device='cpu',
        on_epoch=rows.append,
    )  # fmt: skip
    assert trained.result['trial'] == config.trial
    assert tiny.digests(trained.result) == tiny.digests(command)
    assert trained.log == rows
    data = tiny.prepare(config)
    assert (trained.index == data.train.index).all()
    assert (trained.noisy_labels == data.train.labels).all()
    right = (trained.labels.argmax(axis=1) == data.true_labels).mean()
    assert right == trained.result['label_accuracy']
    test = datasets.load('fashion_mnist').test
    hits = trained.predict(test.images).argmax(axis=1) == test.labels
    assert hits.mean() == trained.result['last']['test_accuracy']
    assert np.allclose(trained.predict(test.images[:3]).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    'method',
    [
        name
        if name in ('cnn_crf', 'noise_adaptation')
        else pytest.param(name, marks=pytest.mark.long)
        for name in paper.methods()
    ],
)
def test_a_method_predicts_as_it_was_evaluated_also_when_it_is_read_again(method, tmp_path):
    overrides = tiny.overrides(method)
    if method.startswith('cnn_crf'):
        # So that b and W count.
        overrides = [*overrides, f'{method}.train.learning_rate=1.0']
    test = datasets.load('fashion_mnist').test
    for _ in range(2):
        trained = chainer_jo.train(
            'fashion_mnist', method, noise='asymmetric', rate=0.4, preset='quick',
            overrides=overrides, out=tmp_path, device='cpu',
        )  # fmt: skip
        hits = trained.predict(test.images).argmax(axis=1) == test.labels
        assert hits.mean() == trained.result['last']['test_accuracy']
    assert integrity.verify(tmp_path)[2] == []
    for path in tmp_path.glob('runs/*/method.arrays'):
        store.write_arrays(path, {name: v + 1 for name, v in store.read_arrays(path).items()})
        (problem,) = integrity.verify(tmp_path)[2]
        assert problem['path'] == str(path)
        with pytest.raises(DataError, match='method.arrays does not belong'):
            chainer_jo.train(
                'fashion_mnist', method, noise='asymmetric', rate=0.4, preset='quick',
                overrides=overrides, out=tmp_path, device='cpu',
            )  # fmt: skip


def test_a_row_that_is_changed_by_who_is_told_of_it_changes_nothing():
    def change(row):
        row['when'] = np.float32(row.pop('validation/main/accuracy'))

    changed = train_own(own(), 'cross_entropy', on_epoch=change)
    plain = train_own(own(), 'cross_entropy')
    assert tiny.digests(changed.result)['model'] == tiny.digests(plain.result)['model']
    assert changed.result['best'] == plain.result['best']
    assert [row.keys() for row in changed.log] == [row.keys() for row in plain.log]


def own(count=160, **more):
    train = datasets.load('fashion_mnist').train
    return chainer_jo.image_set(train.images[:count], train.labels[:count], **more)


def train_own(dataset, method='ours', **more):
    overrides = [o for o in tiny.overrides(method) if '_images' not in o]
    return chainer_jo.train(
        dataset, method, preset='quick', overrides=overrides, device='cpu', **more
    )


def test_a_trial_may_run_in_another_thread_than_the_main_one():
    with ThreadPoolExecutor(1) as pool:
        trained = pool.submit(train_own, own(), 'cross_entropy').result()
    assert trained.result['epochs'] == len(trained.log)


def test_arrays_of_ones_own_are_trained_without_true_labels_or_a_test_set():
    trained = train_own(own())
    assert len(trained.index) == len(trained.labels) == 144  # 90 % of them.
    assert trained.result['data']['validation'] == 16
    assert trained.result['data']['name'] == trained.result['config']['dataset'] == 'arrays'
    assert trained.result['last']['test_accuracy'] is None
    assert trained.result['label_accuracy'] is None
    labels = datasets.load('fashion_mnist').train.labels
    assert (trained.noisy_labels == labels[:160][trained.index]).all()


def test_a_data_set_that_was_loaded_has_the_settings_of_its_name(monkeypatch):
    described = []
    monkeypatch.setattr(trials, '_run', lambda config, *_: described.append(config))
    chainer_jo.train('clothing1m', 'cross_entropy')
    chainer_jo.train(replace(own(), name='clothing1m'), 'cross_entropy')
    assert described[0] == described[1]


def test_noise_is_drawn_into_true_labels_of_ones_own_and_given_labels_take_its_place():
    train = datasets.load('fashion_mnist').train
    labels, test = train.labels[:160], (train.images[200:230], train.labels[200:230])
    dataset = own(true_labels=labels, test=test, flips={0: 1, 1: 0})
    drawn = train_own(dataset, 'forward', noise='asymmetric', rate=0.5)
    assert drawn.result['data']['test'] == 30
    # Known to be right, so that T is the matrix that noise is drawn by, and not a count.
    assert dataset.train.labels is dataset.train.true_labels
    wrong = (drawn.noisy_labels != labels[drawn.index]).mean()
    assert 0 < wrong == drawn.result['noise']['wrong']
    given_labels = (labels + 1) % 10
    trained = train_own(dataset, 'cross_entropy', noisy_labels=given_labels)
    assert trained.result['noise']['wrong'] == 1
    assert trained.result['config']['noise']['kind'] == 'file'


@pytest.mark.parametrize(
    'noise', [{}, {'noise': 'symmetric', 'rate': 0.3}, {'noisy_labels': [0, 1] * 80}]
)
def test_the_command_of_a_trial_on_arrays_is_a_call_that_runs_it(noise):
    images = own()
    result = train_own(images, 'cross_entropy', seed=2, **noise).result
    command = config.from_dict(result['config']).command
    names = {'chainer_jo': chainer_jo, 'IMAGES': images, 'LABELS': noise.get('noisy_labels')}
    again = eval(command.removesuffix(')') + ", device='cpu')", names)
    assert again.result['trial'] == result['trial']


def test_the_command_of_a_correction_is_one_of_correct_that_runs_it():
    images = own()
    labels = images.train.labels
    described = corrections.describe(images, labels, 3, ['ours.fine_tune.a=1.0'])
    given = cli.parser().parse_args(shlex.split(described.command)[3:])
    assert given.folder == Path('FOLDER')
    settings = (given.seed, given.overrides, given.precision)
    assert corrections.describe(images, labels, *settings) == described


def test_a_trial_that_was_stopped_goes_on_and_one_that_is_done_is_read(tmp_path):
    dataset, seen = own(), []

    def stop(row):
        if row['epoch'] == 4:
            raise StoppedError(15, seen='', fix='')

    with pytest.raises(StoppedError):
        train_own(dataset, out=tmp_path, on_epoch=stop)
    resumed = train_own(dataset, out=tmp_path, on_epoch=seen.append)
    again = train_own(dataset, out=tmp_path, on_epoch=lambda row: pytest.fail('trained again'))
    whole = train_own(dataset)
    assert again.result == resumed.result
    assert tiny.digests(resumed.result) == tiny.digests(whole.result)
    assert len(seen) < len(resumed.log) == len(whole.log)
    assert (again.labels == whole.labels).all()
    with pytest.raises(ConfigError, match='other data'):
        train_own(own(true_labels=np.zeros(160, int)), out=tmp_path)


def test_a_damaged_file_of_a_finished_trial_names_a_remedy_that_works(tmp_path):
    before = train_own(own(), 'cross_entropy', out=tmp_path)
    (model,) = tmp_path.glob('runs/*/model.arrays')
    model.write_bytes(model.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(DataError) as refused:
            train_own(own(), 'cross_entropy', out=tmp_path)
        assert f'delete {model.parent} and run' in refused.value.fix
        model.unlink(missing_ok=True)
    shutil.rmtree(model.parent)
    assert train_own(own(), 'cross_entropy', out=tmp_path).result['last'] == before.result['last']


def test_the_files_of_another_trial_are_not_taken_for_those_of_this_one(tmp_path):
    for seed in (0, 1):
        train_own(own(), 'cross_entropy', seed=seed, out=tmp_path)
    mine, other = sorted(tmp_path.glob('runs/*'))
    for name in ('model', 'labels', 'noisy_labels'):
        with tempfile.TemporaryDirectory() as kept:
            path = mine / f'{name}.arrays'
            shutil.copy(path, kept)
            shutil.copy(other / path.name, path)
            same = name == 'labels' and path.read_bytes() == Path(kept, path.name).read_bytes()
            if not same:
                with pytest.raises(DataError, match=f'{name}.arrays does not belong to its result'):
                    train_own(own(), 'cross_entropy', out=tmp_path)
            shutil.copy(Path(kept, path.name), path)
    train_own(own(), 'cross_entropy', out=tmp_path)


def test_whoever_stops_a_trial_without_a_folder_is_not_promised_its_snapshot():
    def stop(row):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError) as stopped:
        train_own(own(), 'cross_entropy', on_epoch=stop)
    assert (stopped.value.exit_code, stopped.value.fix[:15]) == (130, 'pass out=FOLDER')
    assert 'snapshot' not in str(stopped.value)


@pytest.mark.parametrize(
    ('sizes', 'train', 'validation'),
    [
        ({}, 144, 16),
        ({'validation_images': 40}, 120, 40),
        ({'train_images': 100}, 100, 16),
        ({'train_images': 150}, 150, 10),
        ({'train_images': 100, 'validation_images': 20}, 100, 20),
        ({'train_images': 'all', 'validation_images': '1_0'}, 'all', 10),
    ],
)
def test_an_image_set_is_used_whole_unless_both_sizes_say_otherwise(
    sizes, train, validation, monkeypatch
):
    described = []
    monkeypatch.setattr(trials, '_run', lambda config, *_: described.append(config))
    overrides = [f'common.{name}={size}' for name, size in sizes.items()]
    chainer_jo.train(own(), 'cross_entropy', overrides=overrides)
    common = described[0].common
    assert (common['train_images'], common['validation_images']) == (train, validation)


def test_without_a_folder_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train_own(own(), 'cross_entropy')
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_snapshot_is_a_warning(tmp_path, monkeypatch):
    def run(config, machine, observer, labels, dataset):
        observer.warn('set aside')
        raise StoppedError(15, seen='', fix='')

    monkeypatch.setattr(trial, 'run', run)
    with pytest.warns(UserWarning, match='set aside'), pytest.raises(StoppedError):
        train_own(own(), out=tmp_path)


@pytest.mark.parametrize(
    'changed',
    [{'true_labels': [0] * 160}, {'flips': {1: 2}}, {'classes': [str(i) for i in range(11)]}],
)
def test_image_sets_that_differ_in_what_is_trained_have_other_digests(changed):
    assert own(**changed).digest != own().digest
    assert own().digest == own().digest


def test_image_sets_that_differ_in_their_test_part_have_other_digests():
    labels = [0, 1] * 20
    parts = [None, (IMAGES, labels), (IMAGES + np.uint8(1), labels), (IMAGES, labels[::-1])]
    assert len({chainer_jo.image_set(IMAGES, labels, test=part).digest for part in parts}) == 4


def test_a_trial_has_the_precision_that_was_asked_for(monkeypatch):
    described = []
    monkeypatch.setattr(trials, '_run', lambda config, *_: described.append(config))
    for precision in ('float32', 'bfloat16'):
        chainer_jo.train(own(), precision=precision)
    assert [config.precision for config in described] == ['float32', 'bfloat16']


def test_the_arrays_of_the_caller_stay_writeable():
    images, labels = np.zeros((40, 1, 8, 8), np.uint8), np.arange(40) % 2
    chainer_jo.image_set(images, labels, true_labels=labels)
    images[0], labels[0] = 1, 1


def test_a_table_of_variants_is_read_from_the_folder_of_its_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path('results').mkdir()
    Path('results/quick_decay').symlink_to(ROOT / 'results/reference/quick_decay')
    assert sum(row['trials'] for row in chainer_jo.table('decay', 'quick')) == 80


def test_numpy_classes_and_an_iterator_of_overrides_are_as_good_as_a_list():
    swapped = {np.int64(0): np.int64(1)}
    dataset = chainer_jo.image_set(IMAGES, [0, 1] * 20, flips=swapped)
    assert [*map(type, [*dataset.flips, *dataset.flips.values()])] == [int, int]
    assert checks.overrides(text for text in ['ours.fine_tune.a=1']) == ['ours.fine_tune.a=1']


def test_a_table_is_the_rows_of_report_and_results_are_the_trials(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    rows = chainer_jo.table('table2', 'quick', 'results/reference/quick')
    done = subprocess.run(
        [sys.executable, '-c', 'import json, sys\nfrom chainer_jo.report import publish\n'
         'print(json.dumps(publish.read("table2", "quick", "results/reference/quick").rows))'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(json.dumps(rows)) == json.loads(done.stdout)
    trials = chainer_jo.results('results/reference/quick')
    found = {(r['method'], r['rate'], r['last_test']) for r in trials if not r['modified']}
    assert {(r['method'], r['rate'], r['last_mean']) for r in rows if r['trials'] == 1} <= found
    assert chainer_jo.columns(rows)['rate'] == [row['rate'] for row in rows]


def test_a_row_of_results_has_the_accuracies_of_the_best_and_of_the_last_epoch():
    out = ROOT / 'results/reference/quick'
    for row in chainer_jo.results(out):
        result = store.read_sealed(out / 'runs' / row['trial'] / 'result.json')
        for which, part in itertools.product(('best', 'last'), ('test', 'validation')):
            assert row[f'{which}_{part}'] == result[which][f'{part}_accuracy']


def test_a_result_that_cannot_be_read_is_a_warning(tmp_path):
    folder = tmp_path / 'runs' / 'torn'
    folder.mkdir(parents=True)
    (folder / 'result.json').write_text('{')
    with pytest.warns(UserWarning, match='torn'):
        assert chainer_jo.results(tmp_path) == []
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert chainer_jo.results(folder) == []


def correct_own(images=None, **more):
    dataset = own(60)
    images = dataset.train.images if images is None else images
    tiny_net = ['net.filters=[4, 4, 4, 4]', 'net.stem_stride=4', 'ours.correct.epochs=2',
                'ours.correct.begin=1', 'ours.fine_tune.epochs=1']  # fmt: skip
    return chainer_jo.correct(
        images, dataset.train.labels, overrides=tiny_net, device='cpu', **more
    )


def test_labels_of_arrays_are_judged_and_what_is_known_is_kept(tmp_path):
    found = correct_own(out=tmp_path)
    labels = own(60).train.labels
    changed = found.labels != labels
    assert found.is_label_issue[changed].all()
    assert (found.labels[changed] == found.predicted_label[changed]).all()
    assert (found.label_score[changed] < 0.5).all()
    assert found.held_out.sum() == 6
    assert found.probabilities.shape == (60, 10)
    new = found.predict(own(60).train.images)
    assert np.allclose(new[found.held_out], found.probabilities[found.held_out], atol=1e-5)
    # As from a transpose of channels-last images: the same pixels in another order in memory.
    turned = np.asfortranarray(own(60).train.images)
    again = correct_own(turned, out=tmp_path, on_epoch=lambda row: pytest.fail('trained again'))
    assert (again.labels == found.labels).all()
    rows = []
    sure = correct_own(out=tmp_path, known=np.ones(60, bool), on_epoch=rows.append)
    assert (sure.labels == labels).all()
    assert len(rows) == 3
    with pytest.raises(ConfigError, match='another size'):
        found.predict(np.zeros((1, 1, 8, 8), np.uint8))


def test_labels_are_judged_by_the_threshold_with_copies_together_and_without_the_known(monkeypatch):
    images = np.arange(8, dtype=np.uint8).repeat(64).reshape(8, 1, 8, 8)
    labels = np.arange(8) % 2
    images[1] = images[0]
    # The net takes images 2 and 3 for the other class.
    p = np.where(np.eye(2, dtype=bool)[labels], 0.9, 0.1).astype('f')
    p[2:4] = [[0.4, 0.6], [0.6, 0.4]]
    trained = SimpleNamespace(probabilities=p, held_out=None, result=None, net=None)
    monkeypatch.setattr(corrections, 'run', lambda *_: trained)

    def issues(**how):
        found = chainer_jo.correct(images, labels, device='cpu', **how)
        return np.flatnonzero(found.is_label_issue).tolist()

    # One label of the two copies is wrong, whatever the threshold.
    assert issues(threshold=0) == [1]
    assert issues(threshold=1) == [1, 2, 3]
    assert issues(threshold=1, known=np.arange(8) == 3) == [1, 2]


def test_labels_of_classes_without_an_image_are_refused_by_correct():
    images = np.zeros((6, 1, 8, 8), np.uint8)
    for labels in ([1, 2] * 3, [0, 10, 100] * 2):
        with pytest.raises(ConfigError, match=f'no image has the label {min({0, 1} - {*labels})}'):
            chainer_jo.correct(images, labels, device='cpu')


X, Y = np.zeros((2, 3, 4, 4), 'f'), np.eye(2, dtype='f')
IMAGES = np.zeros((40, 3, 8, 8), np.uint8)
MISTAKES = {
    'a label out of range': lambda c: c.symmetric_noise([0, 3], 0.5, 3),
    'a negative label': lambda c: c.one_hot([-1], 3),
    'no rate': lambda c: c.transition_matrix('symmetric', None, 2),
    'a number of classes below 0': lambda c: c.one_hot([0], -1),
    'an empty batch': lambda c: c.LabelStore([0, 1], 2).record(Y[:0], np.zeros(0, int), 0),
    'labels that are not whole': lambda c: c.one_hot([0.5], 3),
    'one-hot labels for classes': lambda c: c.LabelStore(Y, 2),
    'no labels': lambda c: c.symmetric_noise([], 0.5, 3),
    'a rate in percent': lambda c: c.symmetric_noise([0, 1], 70, 2),
    'a rate that is NaN': lambda c: c.symmetric_noise([0, 1], float('nan'), 2),
    'a sampling': lambda c: c.symmetric_noise([0, 1], 0.5, 2, sampling='some'),
    'a seed below 0': lambda c: c.symmetric_noise([0, 1], 0.5, 2, rng=-1),
    'one class': lambda c: c.symmetric_noise([0, 0], 0.5, 1),
    'a map to no class': lambda c: c.asymmetric_noise([0, 1], 0.5, {0: 2}, n_class=2),
    'no map': lambda c: c.asymmetric_noise([0, 1], 0.5, None, n_class=2),
    'a kind of noise': lambda c: c.transition_matrix('salt', 0.5, 2),
    'images of float64': lambda c: c.mix_up(X.astype('d'), Y),
    'more images than labels': lambda c: c.mix_up(np.zeros((3, 4), 'f'), Y),
    'labels of float64': lambda c: c.mix_up(X, Y.astype('d')),
    'labels that do not sum to 1': lambda c: c.mix_up(X, 2 * Y),
    'labels that are NaN': lambda c: c.mix_up(X, np.full_like(Y, np.nan)),
    'a of 0': lambda c: c.mix_up(X, Y, 0),
    'a way to mix': lambda c: c.mix_up(X, Y, per='pixel'),
    'logits for log f': lambda c: c.joint_loss(Y, chainer.Variable(Y)),
    'log f of another shape': lambda c: c.joint_loss(Y, F.log_softmax(np.zeros((2, 3), 'f'))),
    'a method': lambda c: c.method_loss('theirs', 'train', L.Linear(2), X, Y),
    'a stage': lambda c: c.method_loss('ours', 'train', L.Linear(2), X, Y),
    'no T': lambda c: c.method_loss('forward', 'train', L.Linear(2), X, Y),
    'T of columns': lambda c: c.method_loss(
        'forward', 'train', L.Linear(2), X, Y, T=[[1, 1], [0, 0]]
    ),
    'a setting': lambda c: c.method_loss('ours', 'correct', L.Linear(2), X, Y, overrides=['a.b=1']),
    'a window of 0': lambda c: c.LabelStore([0, 1], 2, window=0),
    'outputs of other classes': lambda c: c.LabelStore([0, 1], 3).record(Y, [0, 1], 0),
    'an index out of range': lambda c: c.LabelStore([0, 1], 2).record(Y, [0, 2], 0),
    'an index that is not whole': lambda c: c.LabelStore([0, 1], 2).record(Y, [0.0, 1.0], 0),
    'an epoch below 0': lambda c: c.LabelStore([0, 1], 2).record(Y, [0, 1], -1),
    'blocks without filters': lambda c: c.preact_resnet(3, 10, blocks=[1]),
    'half a block': lambda c: c.preact_resnet(3, 10, blocks=[1, 1, 0.5]),
    'images that are floats': lambda c: c.image_set(IMAGES / 255, [0] * 40),
    'a seed in words': lambda c: c.correct(IMAGES, [0, 1] * 20, seed='1'),
    'fewer images than labels': lambda c: c.method_loss('ours', 'correct', L.Linear(2), X[:1], Y),
    'a matrix with NaN': lambda c: c.method_loss(
        'forward', 'train', L.Linear(2), X, Y, T=np.nan * Y
    ),
    'T of text': lambda c: c.method_loss('forward', 'train', L.Linear(2), X, Y, T='x'),
    'an empty T': lambda c: c.method_loss('forward', 'train', L.Linear(2), X, Y, T=[]),
    'labels in rows of two lengths': lambda c: c.one_hot([[0], [0, 1]], 3),
    'images of two sizes': lambda c: c.image_set([[[[1]]], [[[1, 2]]]], [0, 1]),
    'labels of two lengths': lambda c: c.image_set(IMAGES, [[0], [0, 1]] * 20),
    'known of two lengths': lambda c: c.correct(IMAGES, [0, 1] * 20, known=[[True], []]),
    'the log of a softmax that is 0': lambda c: c.joint_loss(
        Y, chainer.Variable(np.array([[0, -np.inf]] * 2, 'f'))
    ),
    'alpha of text': lambda c: c.joint_loss(Y, F.log_softmax(X[:, 0, 0, :2]), alpha='a'),
    'a net with one output': lambda c: c.method_loss('ours', 'correct', L.Linear(1), X, Y),
    'a net with one output for a method that adds to it': lambda c: c.method_loss(
        'cnn_crf_estimated', 'train', L.Linear(1), X, Y
    ),
    'a net with three outputs': lambda c: c.method_loss('d2l', 'train', L.Linear(3), X, Y),
    'more images than there are': lambda c: c.train(
        own(), preset='quick', overrides=['common.train_images=200']
    ),
    'no overrides': lambda c: c.train(own(), overrides=None),
    'a list of methods': lambda c: c.train(own(), ['ours']),
    'a number for a device': lambda c: c.train(own(), device=0),
    'a rate of text without noise': lambda c: c.train(own(), rate='0.5'),
    'a number of classes for their names': lambda c: c.image_set(IMAGES, [0, 1] * 20, classes=3),
    'classes that are numbers': lambda c: c.image_set(IMAGES, [0, 1] * 20, classes=np.arange(2)),
    'a set of classes': lambda c: c.image_set(IMAGES, [0, 1] * 20, classes={'a', 'b'}),
    'a class twice': lambda c: c.image_set(IMAGES, [0, 1] * 20, classes=['a', 'a']),
    'a class without a name': lambda c: c.image_set(IMAGES, [0, 1] * 20, classes=['a', '']),
    'no such folder of results': lambda c: c.results('/nowhere'),
    'no such folder of a table': lambda c: c.table('table2', 'quick', out='/nowhere'),
    'a name that is a number': lambda c: c.image_set(IMAGES, [0, 1] * 20, name=3),
    'a number of filters': lambda c: c.preact_resnet(3, 10, filters=3),
    'ids for labels': lambda c: c.image_set(IMAGES, [0, 25_000_000] * 20),
    'labels that are names': lambda c: c.image_set(IMAGES, ['cat', 'dog'] * 20),
    'no images': lambda c: c.image_set(IMAGES[:0], []),
    'channels last': lambda c: c.image_set(IMAGES.transpose(0, 2, 3, 1), [0] * 40),
    'fewer labels than images': lambda c: c.image_set(IMAGES, [0, 1]),
    'test images of another size': lambda c: c.image_set(
        IMAGES, [0, 1] * 20, test=(IMAGES[:, :, :4], [0, 1] * 20)
    ),
    'test images without labels': lambda c: c.image_set(IMAGES, [0, 1] * 20, test=IMAGES),
    'a map out of the classes': lambda c: c.image_set(IMAGES, [0, 1] * 20, flips={0: 7}),
    'arrays for a data set': lambda c: c.train((IMAGES, [0, 1] * 20)),
    'no method': lambda c: c.train(own(), None),
    'a rate of text': lambda c: c.symmetric_noise([0, 1], '0.5', 2),
    'a rate of text in a trial': lambda c: c.train(own(), noise='symmetric', rate='0.5'),
    'a number of classes of text': lambda c: c.one_hot([0, 1], '2'),
    'a name that is taken': lambda c: c.image_set(IMAGES, [0, 1] * 20, name='cifar10'),
    'a data set': lambda c: c.train('cifar', 'ours'),
    'a method that is no word': lambda c: c.train('fashion_mnist', 5),
    'noise and noisy labels': lambda c: c.train(
        own(), noise='symmetric', rate=0.5, noisy_labels=[0] * 160
    ),
    'noise file without labels': lambda c: c.train(own(), noise='file'),
    'fewer noisy labels than images': lambda c: train_own(own(), noisy_labels=[0, 1]),
    'fewer images than a batch': lambda c: train_own(own(40)),
    'a table': lambda c: c.table('table9'),
    'labels of one class': lambda c: c.correct(IMAGES, [0] * 40),
    'a threshold in percent': lambda c: c.correct(IMAGES, [0, 1] * 20, threshold=80),
    'a threshold of text': lambda c: c.correct(IMAGES, [0, 1] * 20, threshold='0.5'),
    'a seed that is not whole': lambda c: c.correct(IMAGES, [0, 1] * 20, seed=0.5),
    'one override': lambda c: c.train(own(), overrides='ours.fine_tune.a=1'),
    'known of another length': lambda c: c.correct(IMAGES, [0, 1] * 20, known=[True]),
    'three images': lambda c: c.correct(IMAGES[:3], [0, 1, 0]),
}  # fmt: skip


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_is_a_problem_what_was_seen_and_a_fix(mistake):
    with pytest.raises(ConfigError) as raised:
        MISTAKES[mistake](chainer_jo)
    assert raised.value.problem
    assert raised.value.seen
    assert raised.value.fix


@pytest.mark.parametrize(
    ('images', 'labels', 'fix'),
    [
        (IMAGES[:0], [], 'at least one'),
        (IMAGES.repeat(2, axis=1)[:, :4], [0, 1] * 20, 'images[:, :3]'),
        (IMAGES, ['cat', 'dog'] * 20, 'np.unique'),
        (IMAGES, np.eye(2)[[0, 1] * 20], 'argmax'),
        (IMAGES, np.array([[0], [1]] * 20), '[:, 0]'),
        (IMAGES, [-1, 1] * 20, 'from 0 to 1'),
    ],
    ids=['no images', 'an alpha channel', 'names', 'one-hot rows', 'a column', 'below 0'],
)
def test_the_fix_is_for_the_arrays_that_were_passed(images, labels, fix):
    with pytest.raises(ConfigError) as raised:
        chainer_jo.image_set(images, labels)
    assert fix in raised.value.fix
    assert 'larger' not in raised.value.fix


def test_images_of_another_size_are_refused_by_predict():
    trained = train_own(own(), 'cross_entropy')
    with pytest.raises(ConfigError, match='another size'):
        trained.predict(np.zeros((1, 1, 8, 8), np.uint8))


def test_what_the_face_offers_is_no_second_implementation():
    """Draws and losses come from the rooms below: the very same numbers."""
    labels, rng = np.arange(50, dtype=np.int32) % 10, np.random.default_rng
    assert (
        chainer_jo.symmetric_noise(labels, 0.5, 10, rng=7)
        == datasets.noise.symmetric(labels, 0.5, 10, rng(7))
    ).all()
    assert methods.load('ours').__name__ == 'Ours'
