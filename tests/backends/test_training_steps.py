import chainer
import chainer.functions as F
import numpy as np
import pytest

from chainer_jo import backends
from chainer_jo.links.preact_resnet import PreActResNet

pytestmark = pytest.mark.usefixtures('onednn_loaded')


def ten_steps(backend):
    """Returns the losses, and parameters and running statistics after the last step."""
    backends.use(backend)
    rng = np.random.default_rng(0)
    net = PreActResNet(3, 10, filters=(8, 8, 16, 24), blocks=(2, 1, 2), rng=rng)
    optimizer = chainer.optimizers.MomentumSGD(0.02).setup(net)
    losses = []
    for n in [16] * 9 + [5]:
        x = rng.normal(size=(n, 3, 12, 12)).astype(np.float32)
        t = rng.integers(0, 10, n).astype(np.int32)
        loss = F.softmax_cross_entropy(net(x), t)
        net.cleargrads()
        loss.backward()
        optimizer.update()
        losses.append(float(loss.array))
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        outputs = net(x).array
    return losses, outputs, net


def flat(net):
    serializer = chainer.serializers.DictionarySerializer()
    serializer.save(net)
    return serializer.target


def test_ten_training_steps_are_those_of_chainer():
    losses, outputs, net = ten_steps('onednn')
    reference_losses, reference_outputs, reference_net = ten_steps('chainer')
    np.testing.assert_allclose(losses, reference_losses, rtol=1e-4)
    np.testing.assert_allclose(outputs, reference_outputs, rtol=1e-2, atol=1e-3)
    reference = flat(reference_net)
    for name, array in flat(net).items():
        np.testing.assert_allclose(array, reference[name], rtol=1e-2, atol=1e-4, err_msg=name)
