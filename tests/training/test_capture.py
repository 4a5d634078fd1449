"""Every step of every method, captured once and launched as a graph, on a GPU that is played."""

import tempfile

import capture_safe
import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
import tiny
from capture_safe import DeviceArray, RefusedError
from chainer import training

from chainer_jo import datasets, methods, paper
from chainer_jo.backends.cuda_graph import WARM_UP, CudaGraph
from chainer_jo.errors import ConfigError
from chainer_jo.training import data, extensions, snapshot, state, updaters

EPOCHS = 3
VARIANTS = (
    *((name,) for name in paper.methods()),
    ('cnn_crf', 'cnn_crf.train.negative_phase=pcd'),
    ('d2l', 'd2l.train.begin=1', 'd2l.train.lid_window=1', 'd2l.train.neighbours=5'),
    ('gce', 'gce.train.prune_from=1', 'gce.train.prune_every=1'),
    ('gce', 'gce.train.truncated=false'),
    ('ours', 'ours.correct.label_pass=eval', 'ours.fine_tune.loss=kl'),
    ('ours', 'ours.correct.window=1', 'ours.fine_tune.mix_lambda=sample'),
    ('ours', 'ours.correct.labels=hard', 'ours.fine_tune.loss=mix'),
    ('pencil', 'pencil.correct.softmax=twice', 'pencil.correct.lambda_last=0.0'),
)
# A sum over the batch that is BLAS's on the CPU and is not on a GPU.
WITH_PRODUCTS = ('cnn_crf', 'cnn_crf_estimated', 'noise_adaptation')


@pytest.fixture
def played(monkeypatch):
    """A played CuPy."""
    return capture_safe.install(monkeypatch)


class Net(chainer.Chain):
    """Says of an image what its rows' means, normalised over the batch, say linearly."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.bn = L.BatchNormalization(28)
            self.W = chainer.Parameter(np.random.default_rng(0).normal(size=(10, 28)).astype('f'))

    def features(self, x):
        return self.bn(F.mean(x, axis=(1, 3)))

    def forward(self, x):
        return F.sum(F.expand_dims(self.features(x), 1) * self.W, axis=2)


def train(config, device, capture=None):
    """Yields the updater after each stage."""
    dataset = datasets.load(config.dataset)
    host_data, noisy, _ = data.prepare(dataset, config)
    transition = data.transition(dataset, config, noisy, host_data.true_labels)
    method = methods.load(config.method)(Net(), noisy, 10, config.stages, transition)
    method.to_device(device)
    for stage in config.stages:
        method.begin(stage)
        updater = updaters.create(method, host_data.to_device(device), config, capture)
        trainer = training.Trainer(
            updater, lambda trainer: trainer.updater.epoch >= EPOCHS, out=tempfile.gettempdir()
        )
        for extension in (
            extensions.Evaluate(), extensions.CorrectLabels(), extensions.Schedule(),
        ):  # fmt: skip
            trainer.extend(extension)
        trainer.run()
        yield updater


def results(updater):
    """What a snapshot holds but for the counts of Chainer's optimizer, which nothing reads."""
    return {name: np.array(array.view(np.ndarray)) for name, array in state.arrays(updater).items()}


@pytest.mark.parametrize('variant', VARIANTS, ids=' '.join)
def test_a_captured_step_does_what_the_step_does_launch_by_launch(variant, played):
    config, graphs = tiny.config(*variant), []

    def capture(step, changing):
        graphs.append(CudaGraph(step, changing))
        return graphs[-1]

    device = capture_safe.Device()
    plain, eager, captured = (
        train(config, *how)
        for how in ((chainer.get_device('@numpy'),), (device,), (device, capture))
    )
    for one, other, third in zip(plain, eager, captured, strict=True):
        expected, found, by_graph = results(one), results(other), results(third)
        assert len(expected) > 8
        for name in expected:
            np.testing.assert_array_equal(by_graph[name], found[name], err_msg=name)
            near = {'rtol': 1e-4, 'atol': 1e-5} if config.method in WITH_PRODUCTS else {'rtol': 0}
            np.testing.assert_allclose(found[name], expected[name], err_msg=name, **near)
        assert graphs[-1].graph.launches == tiny.STEPS
    assert len(graphs) == len(config.stages)


HOST = np.arange(4, dtype='f')
REFUSED = {
    'a number': lambda x: float(x[0]),
    'a whole number': lambda x: int(x[0]),
    'an index that is read': lambda x: [1, 2, 3, 4][x.argmax()],
    'a branch': lambda x: 1 if x[0] > 0 else 2,
    'an item': lambda x: x[0].item(),
    'a list': lambda x: x.tolist(),
    'a product': lambda x: x.dot(x),
    'a matrix product': lambda x: x[None] @ x[:, None],
    'a tensor product': lambda x: np.tensordot(x, x, 1),
    'a sum of products': lambda x: np.einsum('i,i', x, x),
    'a mask': lambda x: x[x > 0],
    'writing by a mask': lambda x: x.__setitem__(x > 0, 0),
    'places': lambda x: np.nonzero(x),
    'places of a condition': lambda x: np.where(x > 0),
    'a list as an index': lambda x: x[[0, 2]],
    'adding in any order': lambda x: np.add.at(x, [0, 0], 1),
    'random numbers': lambda x: np.random.default_rng(0),
    'an array of a list': lambda x: np.array([1.0, 2.0]),
    'an array of numbers': lambda x: np.asarray(1.0),
    'an array of the host': lambda x: x + HOST,
    'writing from the host': lambda x: x.__setitem__(..., HOST),
    'comparing as a whole': lambda x: np.array_equal(x, x),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_a_capture_refuses_ends_with_the_way_out_and_leaves_the_state(what, played):
    x = HOST.copy().view(DeviceArray)

    def step():
        # Only while the stream captures: CuPy does all of it otherwise.
        if capture_safe._captured is not None:
            x[...] = 7
            REFUSED[what](x)

    with pytest.raises(ConfigError, match='cannot be captured') as error:
        CudaGraph(step, lambda: [x])()
    assert '--no-graph' in error.value.fix
    assert isinstance(error.value.__cause__, RefusedError)
    assert error.value.seen == f'RefusedError: {error.value.__cause__}'
    np.testing.assert_array_equal(x.view(np.ndarray), HOST)
    assert capture_safe._captured is None


def test_an_error_of_the_step_itself_is_not_taken_for_a_refusal(played):
    def step():
        if capture_safe._captured is not None:
            raise KeyError('a slip')

    with pytest.raises(KeyError):
        CudaGraph(step, lambda: [])()
    assert capture_safe._captured is None


def test_python_runs_a_step_to_warm_up_and_to_capture_and_never_again(played):
    x, scratch = (np.zeros(3, 'f').view(DeviceArray) for _ in range(2))
    factor, calls = np.ones((), 'f').view(DeviceArray), []

    def step():
        calls.append(len(calls))
        scratch[...] = x
        x[...] += factor

    graph = CudaGraph(step, lambda: [x])
    for launch in range(1, 6):
        graph()
        assert (x.view(np.ndarray) == launch).all()
        assert (scratch.view(np.ndarray) == launch - 1).all()
    assert len(calls) == WARM_UP + 1
    factor[...] = 10
    graph()
    assert (x.view(np.ndarray) == 15).all()


def test_a_number_of_python_is_frozen_in_a_graph_as_on_a_gpu(played):
    """What the learning rate and its like would be, did they not lie on the device."""
    x, rate = np.zeros((), 'f').view(DeviceArray), [1.0]
    graph = CudaGraph(lambda: x.__iadd__(rate[0]), lambda: [x])
    graph()
    rate[0] = 100.0
    graph()
    assert x.view(np.ndarray) == 2


def test_a_restored_snapshot_is_copied_into_the_arrays_that_a_graph_would_use(tmp_path):
    config = tiny.config('cnn_crf', 'cnn_crf.train.negative_phase=pcd')
    first, second = (tiny.updater(config, tmp_path / name) for name in 'ab')
    first.update()
    before = state.arrays(second)
    snapshot.restore(second, extensions.finite_state(first))
    for name, array in state.arrays(second).items():
        assert array is before[name], name
        np.testing.assert_array_equal(array, state.arrays(first)[name], err_msg=name)


def test_a_trial_on_the_cpu_captures_nothing_and_says_so(tmp_path):
    result = tiny.run(tiny.config('cross_entropy'), tmp_path)
    assert result['environment']['graph'] is False
