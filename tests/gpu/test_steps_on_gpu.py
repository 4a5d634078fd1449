"""Ten steps of the net on the GPU against the same steps by Chainer's own functions on the CPU."""

import chainer
import gpu
import numpy as np
import pytest
from steps import ten_batches, train

from chainer_jo import backends
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.training import evaluation
from chainer_jo.training.images import ResidentImages
from chainer_jo.training.optimizer import MomentumSGD


def ten_steps(device, backend, precision='float32'):
    """Returns the losses, the outputs in test mode after them, and all arrays of the net."""
    backends.use(backend)
    device, rng = chainer.get_device(device), np.random.default_rng(0)
    device.use()
    net = PreActResNet(3, 10, (8, 8, 16, 24), (2, 1, 2), precision=precision, rng=rng)
    net.to_device(device)
    optimizer = MomentumSGD(0.9, 1e-4).setup(net)
    optimizer.lr = 0.02
    batches = [device.send(batch) for batch in ten_batches(rng)]
    losses = train(net, optimizer, batches)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        outputs = gpu.fetch(net(batches[-1][0]))
    serializer = chainer.serializers.DictionarySerializer()
    serializer.save(net)
    return losses, outputs, {name: np.asarray(v) for name, v in serializer.target.items()}


@pytest.fixture(scope='module')
def reference():
    return ten_steps('@numpy', 'chainer')


@pytest.mark.parametrize(
    ('backend', 'precision', 'of_loss', 'of_arrays'),
    [
        ('chainer', 'float32', 1e-3, 2e-2),
        ('cudnn', 'strict_float32', 1e-3, 2e-2),
        ('cudnn', 'float32', 2e-2, 0.3),
        ('cudnn', 'float16', 2e-2, 0.3),
    ],
)
def test_ten_steps_are_those_of_the_cpu(reference, backend, precision, of_loss, of_arrays):
    losses, outputs, arrays = ten_steps(gpu.DEVICE, backend, precision)
    np.testing.assert_allclose(losses, reference[0], rtol=of_loss)
    assert gpu.error(outputs, reference[1]) < of_arrays
    for name, array in reference[2].items():
        # Rounding grows from step to step, most of all in what began at zero.
        difference = np.linalg.norm(arrays[name] - array)
        assert difference <= of_arrays * np.linalg.norm(array) + 1e-3, name


def test_ten_steps_are_the_same_bit_for_bit_when_they_are_run_again():
    first, again = (ten_steps(gpu.DEVICE, 'cudnn', 'float16') for _ in range(2))
    assert first[0] == again[0]
    for name, array in first[2].items():
        np.testing.assert_array_equal(array, again[2][name], name)


@pytest.mark.parametrize('precision', ['strict_float32', 'float16'])
def test_evaluation_is_that_of_the_cpu_also_in_a_last_batch_of_its_own_size(precision):
    images = np.random.default_rng(1).integers(256, size=(2600, 3, 8, 8), dtype=np.uint8)
    mean, scores = np.full((3, 8, 8), 0.5, 'f'), {}
    for device, backend in (('@numpy', 'chainer'), (gpu.DEVICE, 'cudnn')):
        backends.use(backend)
        net = PreActResNet(
            3, 10, (8, 8), (1,),
            precision='float32' if backend == 'chainer' else precision,
            rng=np.random.default_rng(0),
        )  # fmt: skip
        chainer.get_device(device).use()
        net.to_device(device)
        arrays = chainer.get_device(device).send((images, mean))
        scores[backend] = gpu.fetch(evaluation.collect(net, ResidentImages(*arrays)))
    bound = {'strict_float32': 1e-5, 'float16': 4e-3}[precision]
    assert gpu.error(scores['cudnn'], scores['chainer']) < bound
