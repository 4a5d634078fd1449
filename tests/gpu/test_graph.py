"""A captured step against the same step launched kernel by kernel."""

import gc

import chainer
import fashion_files
import gpu
import numpy as np
import pytest
import tiny

from chainer_jo import paper
from chainer_jo.backends.cuda_graph import WARM_UP, CudaGraph
from chainer_jo.errors import ConfigError, DivergedError
from chainer_jo.training import trial
from chainer_jo.training.assembly import assemble

VARIANTS = (
    *((name,) for name in paper.methods()),
    ('cnn_crf', 'cnn_crf.train.negative_phase=pcd'),
    ('d2l', 'd2l.train.begin=1', 'd2l.train.lid_window=1', 'd2l.train.neighbours=5'),
    ('gce', 'gce.train.truncated=false'),
    ('ours', 'ours.correct.label_pass=eval', 'ours.fine_tune.loss=kl'),
    ('ours', 'ours.correct.window=1', 'ours.fine_tune.mix_lambda=sample'),
    ('ours', 'ours.correct.labels=hard', 'ours.fine_tune.loss=mix'),
    ('tanaka', 'tanaka.correct.window=all'),
    ('pencil', 'pencil.correct.softmax=twice', 'pencil.correct.lambda_last=0.0'),
)


def run(config, out, graph, dataset=None):
    return trial.run(config, gpu.machine(out, graph=graph), tiny.SILENT, dataset=dataset)


def outcome(config, out, graph):
    """All that a trial leaves behind, but for times and for the graph that made it."""
    run(config, out, graph)
    left = tiny.outcome(config, out)
    for place in (left['result.json']['environment'], *left['result.json']['environments']):
        assert place.pop('graph') is graph
    return left


@pytest.mark.parametrize('variant', VARIANTS, ids=' '.join)
def test_a_trial_is_the_same_bit_for_bit_with_and_without_graphs(variant, tmp_path):
    config = gpu.config(*variant)
    captured = outcome(config, tmp_path / 'captured', True)
    assert captured == outcome(config, tmp_path / 'eager', False)


def test_images_that_are_read_while_it_trains_make_the_same_trial_with_and_without_graphs(tmp_path):
    config = gpu.config('ours', 'common.pad=2', 'common.flip=true')
    arrays, files = fashion_files.first(400), fashion_files.write(tmp_path, 400)
    captured, eager, resident = (
        tiny.digests(run(config, tmp_path / name, graph, dataset))
        for name, graph, dataset in (
            ('captured', True, files),
            ('eager', False, files),
            ('resident', True, arrays),
        )
    )
    assert captured == eager == resident


@pytest.mark.parametrize('precision', ['float16', 'strict_float32'])
def test_so_it_is_in_every_precision(precision, tmp_path):
    config = gpu.config('ours', precision=precision)
    captured = outcome(config, tmp_path / 'captured', True)
    assert captured == outcome(config, tmp_path / 'eager', False)


def test_a_captured_trial_that_diverges_says_so(tmp_path):
    config = gpu.config('cross_entropy', 'cross_entropy.train.learning_rate=1e9')
    with pytest.raises(DivergedError, match='not finite'):
        run(config, tmp_path, True)


def updater(method, stage, capture, precision='float32', backend='auto'):
    """An updater of a stage on the GPU before its first step."""
    config, machine = gpu.config(method, precision=precision), gpu.machine(backend=backend)
    made = assemble(config, tiny.prepare(config), machine)
    made.capturer = capture
    made = made.updater(stage)
    made.optimizer.lr = 0.01
    return made


@pytest.mark.parametrize(
    ('captured', 'steps'), [pytest.param(True, 1000, marks=pytest.mark.long), (False, 200)]
)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_the_memory_of_many_steps_is_that_of_fifty(captured, steps, precision):
    pools = [chainer.get_device(gpu.DEVICE).xp.get_default_memory_pool()]

    def capture(step, state):
        graphs.append(CudaGraph(step, state))
        return graphs[0]

    graphs = []
    made = updater('ours', 'fine_tune', capture if captured else None, precision)
    with chainer.using_config('type_check', False):
        for _ in range(50):
            made.update()
        pools += [graph.pool for graph in graphs]
        before = held(pools)
        for _ in range(steps - 50):
            made.update()
    assert held(pools) == before
    assert np.isfinite(list(made.report().values())).all()


def held(pools):
    """What is taken from the GPU."""
    gc.collect()
    chainer.get_device(gpu.DEVICE).xp.cuda.runtime.deviceSynchronize()
    return [pool.total_bytes() for pool in pools]


def test_a_captured_step_follows_the_learning_rate():
    weights = {}
    for capture in (CudaGraph, None):
        made = updater('cross_entropy', 'train', capture)
        for lr in (0.1, 0.0, 0.05):
            made.optimizer.lr = lr
            made.update()
        weights[capture] = gpu.fetch(made.method.net.conv.W)
    assert (weights[CudaGraph] == weights[None]).all()


def array(values):
    return gpu.send(np.asarray(values, np.float32))


def is_capturing():
    return chainer.get_device(gpu.DEVICE).xp.cuda.get_current_stream().is_capturing()


def test_python_runs_a_step_to_warm_up_and_to_capture_and_never_again():
    x, factor, calls = array([0, 0, 0]), array(1), []

    def step():
        calls.append(len(calls))
        x[...] += factor

    graph = CudaGraph(step, lambda: [x])
    for launch in range(1, 6):
        graph()
        assert (gpu.fetch(x) == launch).all()
    assert len(calls) == WARM_UP + 1
    factor[...] = 10
    graph()
    assert (gpu.fetch(x) == 15).all()


def test_a_number_of_python_is_frozen_in_a_graph():
    """What the learning rate and its like would be, did they not lie on the device."""
    x, rate = array(0), [1.0]
    graph = CudaGraph(lambda: x.__iadd__(rate[0]), lambda: [x])
    graph()
    rate[0] = 100.0
    graph()
    assert gpu.fetch(x) == 2


REFUSED = {
    'a number': lambda x: float(x[0]),
    'a branch': lambda x: 1 if x[0] > 0 else 2,
    'an item': lambda x: x[0].item(),
    'a list': lambda x: x.tolist(),
    'a product': lambda x: x.reshape(2, 2).dot(x.reshape(2, 2)),
    'a mask': lambda x: x[x > 0],
    'places': lambda x: x.nonzero(),
    'an array of the host': lambda x: x.set(np.zeros(4, np.float32)),
    'to wait': lambda x: x.device.synchronize(),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_a_capture_refuses_ends_with_the_way_out_and_leaves_the_state(what):
    x = array([0, 1, 2, 3])

    def step():
        if is_capturing():
            x[...] = 7
            REFUSED[what](x)

    with pytest.raises(ConfigError, match='cannot be captured') as raised:
        CudaGraph(step, lambda: [x])()
    assert raised.value.setting == ('graph', False)
    assert gpu.fetch(x).tolist() == [0, 1, 2, 3]


def test_an_error_of_the_step_itself_is_not_taken_for_a_refusal():
    def step():
        if is_capturing():
            raise KeyError('a slip')

    with pytest.raises(KeyError, match='a slip'):
        CudaGraph(step, lambda: [])()


def test_what_cannot_be_captured_is_an_error_that_names_the_way_out():
    # Its products are cuBLAS's.
    made = updater('cross_entropy', 'train', CudaGraph, backend='chainer')
    with pytest.raises(ConfigError, match='cannot be captured') as raised:
        made.update()
    assert raised.value.setting == ('graph', False)
