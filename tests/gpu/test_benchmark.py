"""The benchmark of a GPU, with a small net and few steps: all systems but PyTorch's."""

import gpu
import pytest

from chainer_jo.benchmark import compare, side_by_side, systems, workload

NET = {'filters': [8, 8, 16], 'blocks': [2, 1], 'stem_stride': 2}
OPTIMIZER = {'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4}
DEVICE = gpu.DEVICE.replace('@cupy', 'cuda')
pytestmark = pytest.mark.long


def small(folder, **_):
    return workload.create(folder, NET, OPTIMIZER, 16, images=64, evaluation_images=20)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for name, value in {'GPU_STEPS': 2, 'GPU_WARM_UP': 1, 'EVALUATIONS': 1}.items():
        monkeypatch.setattr(compare, name, value)
    monkeypatch.setitem(side_by_side.STEPS, 'gpu', 2)


def test_every_system_of_ours_is_measured_and_has_the_losses_of_plain_chainer(tmp_path):
    # A system whose first losses are not the reference's would be a note instead of a row.
    report = compare.run(DEVICE, 1, 'no-such-python', tmp_path, lambda _: None, small)
    ours = [s for s in systems.systems(DEVICE, 'no-such-python', NET) if 'pytorch' not in s.name]
    assert [(row['system'], row['precision']) for row in report['rows']] == [
        (system.name, system.precision) for system in ours
    ]
    assert all(row['seconds_per_step'] > 0 for row in report['rows'])
    assert 'times as fast as chainer float32' in (tmp_path / 'gpu.md').read_text()


def test_trials_side_by_side_are_measured_in_both_precisions(tmp_path):
    report = side_by_side.run(DEVICE, [1, 2], 1, tmp_path, lambda _: None, small)
    assert [(row['precision'], row['jobs']) for row in report['rows']] == [
        ('float32', 1), ('float32', 2), ('float16', 1), ('float16', 2),
    ]  # fmt: skip
    assert (tmp_path / 'jobs-gpu.md').exists()
