"""Systems, rows and pages of a GPU, from what their workers would answer."""

import json

import pytest

from chainer_jo.benchmark import compare, machine, page, side_by_side, systems

WORK = {'net': {'filters': [8, 8], 'blocks': [1]}, 'batch': 128, 'epoch_images': 45_000}
MILLISECONDS = {
    ('chainer', 'float32'): 24.0,
    ('pytorch', 'float32'): 8.0,
    ('chainer_jo', 'float32'): 2.0,
    ('pytorch channels_last graph', 'float32'): 3.0,
    ('pytorch channels_last compile graph', 'float32'): 2.5,
    ('chainer_jo', 'float16'): 1.0,
    ('pytorch channels_last compile graph', 'float16'): 1.5,
}


class Answering:
    """A worker process that has given its answers; it cannot be started without a GPU."""

    greeting = {'versions': 'V', 'parameters': 7}


class FewImages:
    images, batch, evaluation_images, epoch_images = 45_000, 128, 500, 45_000


def row(name, precision, milliseconds):
    system = systems.System(name, [], {'precision': precision, 'device': 'cuda:0'}, Answering)
    system.seconds = {'step': [milliseconds / 1e3] * 3, 'evaluate': [0.01], 'epoch': [0.002]}
    system.losses, system.peak_memory_bytes, system.kernels = [2.3, 2.2], 2 << 30, 270
    return compare._row(system, FewImages)


@pytest.fixture
def report():
    rows = [row(*key, value) for key, value in MILLISECONDS.items()]
    rows[0]['kernels_per_step'] = None
    return {
        'date': '2000-01-02T03:04:05', 'device': 'cuda:0', 'workload': WORK, 'rows': rows,
        'machine': machine.describe() | {'gpu': 'NVIDIA H100'},
        'steps_a_turn': 50, 'notes': ['a note'],
    }  # fmt: skip


def test_a_row_is_plain_json_and_gives_the_epoch_both_ways(report):
    one = json.loads(json.dumps(report['rows'][2]))
    assert one['device'] == 'cuda:0'
    assert one['seconds_per_epoch'] == pytest.approx(0.002 * 45_000 / 128)
    assert one['measured_epoch_seconds'] == pytest.approx(0.002 * 352)
    assert one['images_per_second'] == pytest.approx(64_000)


def test_the_page_names_the_gpu_and_gives_milliseconds_and_kernels(report):
    text = page.to_markdown(report)
    assert text.startswith('# Speed of a training step on the GPU\n\n2000-01-02, NVIDIA H100; ')
    assert '| chainer_jo | float32 | 2.00 | 64000 | 0.70 | 2.00 GiB | 50000 | 270 | 3 |' in text
    assert (
        '| chainer | float32 | 24.00 | 5333 | 8.44 | 2.00 GiB | 50000 | not counted | 3 |' in text
    )
    assert '- a note\n' in text


def test_the_page_of_a_net_without_a_trial_describes_its_own_steps(report):
    work = report['workload'] | {'net': {'name': 'resnet50', 'size': 224, 'n_class': 14}}
    text = page.to_markdown(report | {'workload': work})
    assert 'from a ready mini-batch on the GPU, launched one kernel after the other' in text
    assert 'crop and mirror' not in text
    assert 'crop and mirror' in page.to_markdown(report)


def test_the_page_compares_with_plain_chainer_with_pytorch_and_with_its_fastest_mode(report):
    text = page.to_markdown(report)
    assert 'chainer_jo float32 is 12.00 times as fast as chainer float32, with 1.00 times' in text
    assert 'chainer_jo float32 is 4.00 times as fast as pytorch float32' in text
    fastest = 'pytorch channels_last compile graph'
    assert f'chainer_jo float32 is 1.25 times as fast as {fastest} float32' in text
    assert f'chainer_jo float16 is 1.50 times as fast as {fastest} float16' in text
    assert text.count("PyTorch's fastest here") == 2


def test_every_system_of_a_gpu_has_a_title_of_its_own_and_a_tolerance():
    found = systems.systems('cuda:0', '/no/such/python', {})
    titles = [system.title for system in found]
    assert len(set(titles)) == len(titles)
    assert found[0].title == 'chainer float32'
    for words in ('graph', 'compile', 'compile graph'):
        assert f'pytorch channels_last {words} float16' in titles
    assert {system.task['device'] for system in found} == {'cuda:0'}
    assert {system.precision for system in found} <= set(compare.TOLERANCES['gpu'])


def test_only_systems_with_the_same_loss_are_compared_by_it():
    compared = {s.name: s.computes_the_reference for s in systems.systems('cuda:0', None, {})}
    assert compared.pop('chainer_jo ours step 1') is False
    assert compared.pop('chainer_jo ours step 2') is False
    assert all(compared.values())


def test_the_page_of_trials_side_by_side_says_how_many_are_fastest_in_sum(report):
    rows = [
        {
            'precision': precision, 'jobs': jobs, 'images_per_second': rate, 'turns': 3,
            'peak_memory_bytes': jobs << 30, 'versions': 'V', 'parameters': 7,
        }
        for precision, rates in (('float32', (40e3, 50e3, 45e3)), ('float16', (80e3, 70e3, 60e3)))
        for jobs, rate in zip((1, 2, 4), rates, strict=True)
    ]  # fmt: skip
    text = side_by_side.to_markdown(report | {'rows': rows})
    assert '# Trials side by side on one GPU' in text
    assert '| float32 | 4 | 45000 | 4.00 GiB | 3 |' in text
    assert 'float32: 2 side by side are fastest in sum, 1.25 times 1' in text
    assert 'float16: 1 side by side are fastest in sum, 1.00 times 1' in text
