"""The layers in a net, in every precision."""

import numpy as np
import pytest
from bottleneck import Net, distance, features_in, run, slow

from chainer_jo import backends
from chainer_jo.errors import ConfigError
from chainer_jo.links.layers import Convolution2D


@pytest.fixture(scope='module')
def exact():
    return run(slow, 'd')


@pytest.mark.parametrize('backend', ['auto', 'chainer'])
def test_results_and_gradients_are_those_of_float64(backend, exact):
    backends.use(backend)
    found = run(Net.features)
    assert set(found) == set(exact)
    for name, actual in found.items():
        # The bias before a normalisation by the batch has no gradient: rounding is all there is.
        if name != '/stem/b':
            assert actual.dtype == np.float32
            assert distance(actual, exact[name]) < 1e-3, name
    assert abs(found['/stem/b']).max() < 1e-4


def test_results_and_gradients_in_bfloat16_are_those_of_float64_up_to_rounding(exact):
    try:
        backends.check_precision('bfloat16')
    except ConfigError as error:
        pytest.skip(error.seen)

    for name, actual in run(features_in('bfloat16')).items():
        if name != '/stem/b':
            assert actual.dtype == np.float32
            # Rounding turns some ReLUs on and off, and deep below that is much of a gradient.
            bound = 0.02 if name in ('y', '/fc/b') else 0.5
            assert distance(actual, exact[name]) < bound, name


def test_padding_is_half_a_window_unless_it_is_named():
    rng = np.random.default_rng(0)
    x = np.zeros((1, 2, 8, 8), 'f')
    assert Convolution2D(2, 3, 5, rng=rng)(x).shape == (1, 3, 8, 8)
    assert Convolution2D(2, 3, 5, pad=0, rng=rng)(x).shape == (1, 3, 4, 4)


def test_parameters_are_those_of_chainers_layers_and_begin_as_theirs():
    rng = np.random.default_rng(0)
    names = {name: param.shape for name, param in Net(rng).namedparams()}
    assert names['/stem/b'] == (16,)
    assert '/first/conv1/b' not in names
    assert (Net(rng).stem.b.array == 0).all()
