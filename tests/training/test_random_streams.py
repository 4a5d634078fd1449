"""Which draws differ between seeds, stages and epochs, and which do not."""

import itertools

import numpy as np
import tiny

from chainer_jo.training.extensions import Probe


def weights(net):
    return np.concatenate([param.array.ravel() for _, param in sorted(net.namedparams())])


def test_methods_of_one_seed_begin_with_the_same_net_and_those_of_another_with_another():
    nets = {
        (method, seed): weights(tiny.assembly(tiny.config(method, seed=seed)).method.net)
        for method in ('ours', 'cross_entropy')
        for seed in (0, 1)
    }
    for seed in (0, 1):
        np.testing.assert_array_equal(nets['ours', seed], nets['cross_entropy', seed])
    assert (nets['ours', 0] != nets['ours', 1]).any()


def test_a_fresh_net_is_another_one_of_the_same_seed():
    fresh = {}
    for seed in (0, 1):
        made = tiny.assembly(tiny.config('tanaka', seed=seed))
        first = weights(made.method.net)
        made.start_anew('retrain')
        fresh[seed] = weights(made.method.net)
        assert (fresh[seed] != first).any()
    assert (fresh[0] != fresh[1]).any()


def test_every_seed_and_stage_has_its_own_batches():
    rows = []
    for seed, stage in itertools.product((0, 1), ('correct', 'fine_tune')):
        config = tiny.config('ours', 'common.pad=2', 'common.flip=true', seed=seed)
        updater = tiny.assembly(config).updater(stage)
        rows.append(next(updater.iterator))
    for one, other in itertools.combinations(rows, 2):
        for table in ('index', 'offset', 'flip'):
            assert (getattr(one, table) != getattr(other, table)).any(), table


def test_what_a_method_draws_is_a_function_of_seed_stage_epoch_and_purpose():
    made = tiny.assembly(tiny.config('noise_adaptation'))
    drawn = {}
    for stage in ('warm_up', 'adapt'):
        updater = made.updater(stage)
        updater.optimizer.lr = 0.01
        for epoch in (1, 2):
            while updater.epoch < epoch:
                updater.update()
            for seed, purpose in itertools.product((0, 1), ('lid', 'gibbs')):
                first, again = (Probe(updater, seed, 0.5).rng(purpose).random() for _ in range(2))
                assert first == again
                drawn[stage, epoch, seed, purpose] = first
    assert len(set(drawn.values())) == len(drawn) == 16
