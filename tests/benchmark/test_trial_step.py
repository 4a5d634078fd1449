"""The step of a trial as a benchmark's worker runs it; here on the CPU, where it may run too."""

import chainer
import numpy as np
import pytest

from chainer_jo.benchmark import systems, worker, workload

NET = {'filters': [8, 8, 16], 'blocks': [2, 1], 'stem_stride': 2}
OPTIMIZER = {'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4}


@pytest.fixture
def work(tmp_path):
    return workload.create(tmp_path, NET, OPTIMIZER, 16, images=40, evaluation_images=20)


def answers(system, work, *commands):
    with chainer.using_config('type_check', True):
        greeting, *rest = worker.serve(system.task | {'workload': work.as_dict()}, commands)
    return greeting, rest


def test_it_has_the_losses_of_the_plain_step_while_both_see_the_same_batches(work):
    commands = ['step 1', 'step 1']
    greeting, trial = answers(systems.trial('t', 'cpu', 'float32'), work, *commands)
    other, plain = answers(systems.plain('p', 'cpu', 'chainer'), work, *commands)
    assert greeting['parameters'] == other['parameters']
    assert [a['loss'] for a in trial] == pytest.approx([a['loss'] for a in plain], rel=1e-4)


def test_its_loss_is_the_mean_over_the_steps_asked_for_and_survives_the_end_of_an_epoch(work):
    system = systems.trial('t', 'cpu', 'float32')
    _, one_by_one = answers(system, work, *['step 1'] * 5)
    _, together = answers(system, work, 'step 2', 'step 1', 'step 2')
    losses = [answer['loss'] for answer in one_by_one]  # 40 images: an epoch ends after three.
    expected = [np.mean(losses[:2]), losses[2], np.mean(losses[3:])]
    assert [a['loss'] for a in together] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('stage', ['correct', 'fine_tune'])
def test_both_steps_of_our_method_run(work, stage):
    system = systems.trial('t', 'cpu', 'float32', 'ours', stage)
    _, (step, evaluation, memory, kernels) = answers(
        system, work, 'step 3', 'evaluate', 'memory', 'kernels'
    )
    assert np.isfinite(step['loss'])
    assert 0 < step['seconds'] < 60
    assert evaluation['seconds'] > 0
    assert memory['bytes'] > 10 << 20
    assert kernels == {'kernels': None}


def test_the_kernels_of_a_graph_are_counted_without_its_copies():
    # As CUDA 12.8 writes a graph of two kernels and a copy between them, shortened.
    dot = r"""digraph dot {
subgraph cluster_1 {
label="graph_1" graph[style="dashed"];
"graph_1_node_0"[style="bold" shape="record" label="{KERNEL
| {ID | 0 (topoId: 2) | cupy_add\<\<\<1,128,0\>\>\>}
}"];
"graph_1_node_1"[style="solid" shape="record" label="{
MEMCPY
| {{ID | node handle} | {1 (topoId: 1) | 0x000055E7277A6AC0}}
}"];
"graph_1_node_2"[style="bold" shape="record" label="{KERNEL
| {ID | 2 (topoId: 0) | sm90_xmma_fprop\<\<\<132,256,0\>\>\>}
}"];
"graph_1_node_0" -> "graph_1_node_1" [headlabel=0];
"graph_1_node_1" -> "graph_1_node_2" [headlabel=0];
}
}
"""
    assert worker.count_kernels(dot) == 2
