import chainer
import numpy as np
import pytest
from steps import ten_batches, train

from chainer_jo import backends
from chainer_jo.links.preact_resnet import PreActResNet

pytestmark = pytest.mark.usefixtures('onednn_loaded')


def ten_steps(backend):
    """Returns the losses, and parameters and running statistics after the last step."""
    backends.use(backend)
    rng = np.random.default_rng(0)
    net = PreActResNet(3, 10, filters=(8, 8, 16, 24), blocks=(2, 1, 2), rng=rng)
    optimizer = chainer.optimizers.MomentumSGD(0.02).setup(net)
    batches = ten_batches(rng)
    losses = train(net, optimizer, batches)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        outputs = net(batches[-1][0]).array
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
