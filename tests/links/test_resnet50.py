"""ResNet-50 against its layers written out in float64, and against other people's."""

import functools
import subprocess
import sys
from pathlib import Path

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from bottleneck import distance

from chainer_jo import backends
from chainer_jo.errors import ConfigError
from chainer_jo.links.layers import BatchNormalization
from chainer_jo.links.resnet50 import CAFFE, TORCHVISION, ResNet50

FORMS = pytest.mark.parametrize('form', [TORCHVISION, CAFFE], ids=['torchvision', 'caffe'])
REPOSITORY = Path(__file__).parents[2]


def images():
    return np.random.default_rng(1).uniform(-0.5, 0.5, (4, 3, 64, 64)).astype('f')


@functools.cache
def values(form, kinks):
    """Returns parameters and statistics away from where they begin, where errors would not show.

    Without ``kinks`` nothing is close to 0 where a ReLU takes it: rounding there turns numbers on
    and off, and the gradient of a few numbers in a deep layer is much of that below.
    """
    backends.use('chainer')
    net, rng = ResNet50(14, form, rng=np.random.default_rng(0)), np.random.default_rng(0)
    for name, link in sorted(net.namedlinks()):
        if isinstance(link, BatchNormalization):
            size = link.gamma.shape
            link.gamma.array[...] = rng.uniform(0.8, 1.2, size)
            on = rng.random(size) < (1 if name.endswith(('bn3', 'bn4')) else 0.75)
            link.beta.array[...] = rng.normal(size=size) / 4 if kinks else np.where(on, 5, -5)
            if name.endswith('bn3'):
                # The residual branches add up over sixteen blocks: let each be small.
                link.gamma.array *= 0.3
                link.beta.array *= 0.3
            link.decay = 0
    if net.conv1.b is not None:
        net.conv1.b.array[...] = rng.normal(size=64)
    net(images())
    serializer = chainer.serializers.DictionarySerializer()
    serializer.save(net)
    backends.use('auto')
    return serializer.target


def made(form, kinks=False, **settings):
    net = ResNet50(14, form, **settings, rng=np.random.default_rng(0))
    chainer.serializers.NpzDeserializer(values(form, kinks)).load(net)
    return net


def slow(net, x):
    """The logits by Chainer's own functions, layer by layer."""

    def conv(link, h, stride):
        return F.convolution_2d(h, link.W, link.b, stride, link.W.shape[2] // 2)

    def bn(link, h):
        eps = 2e-5 if net.form is CAFFE else 1e-5
        if chainer.config.train:
            return F.batch_normalization(h, link.gamma, link.beta, eps=eps)
        statistics = (np.asarray(a, h.dtype) for a in (link.avg_mean, link.avg_var))
        return F.fixed_batch_normalization(h, link.gamma, link.beta, *statistics, eps=eps)

    def bottleneck(link, h, stride):
        first, second = (stride, 1) if net.form is CAFFE else (1, stride)
        projected = hasattr(link, 'conv4')
        shortcut = bn(link.bn4, conv(link.conv4, h, stride)) if projected else h
        h = F.relu(bn(link.bn1, conv(link.conv1, h, first)))
        h = F.relu(bn(link.bn2, conv(link.conv2, h, second)))
        return F.relu(bn(link.bn3, conv(link.conv3, h, 1)) + shortcut)

    std = [1 / 255] * 3 if net.form is CAFFE else [0.229, 0.224, 0.225]
    h = x / np.broadcast_to(np.reshape(std, (3, 1, 1)), x.shape)
    h = F.relu(bn(net.bn1, conv(net.conv1, h, 2)))
    # Caffe, and Chainer with it, lets the last windows reach out of the image; torch pads before.
    h = F.max_pooling_2d(h, 3, 2) if net.form is CAFFE else F.max_pooling_2d(h, 3, 2, 1, False)
    for i, stage in enumerate((net.res2, net.res3, net.res4, net.res5)):
        for j, link in enumerate(stage):
            h = bottleneck(link, h, 2 if i and not j else 1)
    return F.linear(F.average(h, axis=(2, 3)), net.fc.W, net.fc.b)


def run(net, logits, dtype, train=True):
    """Returns the logits and the gradients of the images and of all parameters, by name."""
    x = chainer.Variable(images().astype(dtype))
    for param in net.params():
        param.array = param.array.astype(dtype)
    net.cleargrads()
    with chainer.using_config('train', train):
        y = logits(net, x)
        y.grad = np.random.default_rng(2).normal(size=y.shape).astype(dtype)
        y.backward()
    return {'y': y.array, 'x': x.grad} | {name: param.grad for name, param in net.namedparams()}


@functools.cache
def exact(form, train, kinks=False):
    return run(made(form, kinks), slow, 'd', train)


def distances(found, wanted):
    """Returns by name how far results and gradients are from others, in parts of these."""
    assert set(found) == set(wanted)
    assert {array.dtype for array in found.values()} == {np.dtype('f')}
    # What is added before a normalisation by the batch has no gradient: rounding is all there is.
    norms = {name: max(np.linalg.norm(array), 0.1) for name, array in wanted.items()}
    return {name: np.linalg.norm(found[name] - wanted[name]) / norms[name] for name in found}


@FORMS
@pytest.mark.parametrize('train', [True, False], ids=['train', 'test'])
@pytest.mark.parametrize('backend', ['auto', 'chainer'])
def test_logits_and_gradients_are_those_of_the_layers_in_float64(backend, train, form):
    wanted, net = exact(form, train), made(form)
    backends.use(backend)
    found = distances(run(net, ResNet50.__call__, 'f', train), wanted)
    assert found.pop('y') < 1e-5
    assert max(found.values()) < 1e-3, sorted(found.items(), key=lambda item: item[1])[-3:]


@FORMS
@pytest.mark.parametrize('precision', ['float32', 'strict_float32'])
def test_where_relus_turn_numbers_off_they_are_too_up_to_rounding(precision, form):
    net = made(form, True, precision=precision)
    found = distances(run(net, ResNet50.__call__, 'f', False), exact(form, False, True))
    assert found.pop('y') < 1e-5
    assert max(found.values()) < 0.1


@FORMS
def test_in_bfloat16_they_are_those_of_float64_up_to_rounding(form):
    try:
        net = made(form, precision='bfloat16')
    except ConfigError as error:
        pytest.skip(error.seen)
    found = distances(run(net, ResNet50.__call__, 'f', False), exact(form, False))
    assert found.pop('y') < 0.02
    assert max(found.values()) < 0.4


def test_torchvisions_form_has_the_parameters_of_torchvisions_net():
    # 25,557,032 with 1000 classes.
    net = ResNet50(1000, rng=np.random.default_rng(0))
    assert net.count_params() == 25_557_032
    assert {link.eps for link in net.links() if isinstance(link, BatchNormalization)} == {1e-5}
    assert net.features(np.zeros((1, 3, 32, 32), 'f')).shape == (1, 2048)


def test_caffes_form_is_the_net_that_chainer_has():
    net, theirs = made(CAFFE), L.ResNet50Layers(None)
    given = dict(theirs.namedparams())
    for name, param in net.namedparams():
        if not name.startswith('/fc'):
            stage, *block = name.split('/')[1:]
            if block[0].isdecimal():
                block[0] = f'b{block[0]}' if int(block[0]) else 'a'
            given['/'.join(['', stage, *block])].array[...] = param.array
    for link, other in zip(_normalisations(net), _normalisations(theirs), strict=True):
        other.avg_mean[...], other.avg_var[...] = link.avg_mean, link.avg_var
    image = np.random.default_rng(0).integers(256, size=(2, 3, 70, 64)).astype('f')
    mean = np.array([123.152, 115.903, 103.063], 'f').reshape(3, 1, 1)
    with chainer.using_config('train', False):
        found = net.features(image / 255 - net.mean).array
        wanted = theirs(image - mean, layers=['pool5'])['pool5'].array
    assert distance(found, wanted) < 1e-5


def _normalisations(net):
    """All batch normalisations in the order of the layers."""

    def place(item):
        return [int(word) if word.isdecimal() else word for word in _split(item[0])]

    found = [(n, k) for n, k in net.namedlinks() if isinstance(k, L.BatchNormalization)]
    return [link for _, link in sorted(found, key=place)]


def _split(name):
    return name.replace('/a/', '/0/').replace('/b', '/').split('/')


def test_what_the_weights_were_trained_for_is_in_a_snapshot():
    net, other = made(CAFFE), made(TORCHVISION)
    serializer = chainer.serializers.DictionarySerializer()
    serializer.save(net)
    assert serializer.target['mean'].ravel() == pytest.approx([0.48295, 0.45452, 0.40417], abs=1e-5)
    assert other.mean.ravel() == pytest.approx([0.485, 0.456, 0.406])
    assert other.std.ravel() == pytest.approx([0.229, 0.224, 0.225])


def test_the_same_generator_gives_the_same_weights():
    first, same = (ResNet50(3, rng=np.random.default_rng(5)) for _ in range(2))
    for (name, param), (_, twin) in zip(first.namedparams(), same.namedparams(), strict=True):
        np.testing.assert_array_equal(param.array, twin.array, err_msg=name)


def test_a_precision_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match='there is no precision'):
        ResNet50(3, precision='float8', rng=np.random.default_rng(0))


def test_logits_and_gradients_are_those_of_transformers():
    peer = REPOSITORY / '.venv-peer' / 'bin' / 'python'
    has = [peer, '-c', 'import torch, transformers, safetensors']
    if not peer.exists() or subprocess.run(has, capture_output=True, check=False).returncode:
        pytest.skip('needs .venv-peer with transformers, which reproduce/benchmark.sh makes')
    script = REPOSITORY / 'reproduce' / 'check_resnet50.py'
    done = subprocess.run(
        [sys.executable, script, '--size', '64', '--peer', peer],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
