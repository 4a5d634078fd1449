import chainer
import numpy as np
import tiny

from chainer_jo.training.optimizer import MomentumSGD

SHAPES = [(), (1,), (257,), (32, 3, 3, 3), (10, 128)]


def link(shapes, seed=0):
    rng, made = np.random.default_rng(seed), chainer.Link()
    with made.init_scope():
        for i, shape in enumerate(shapes):
            setattr(made, f'p{i}', chainer.Parameter(rng.normal(size=shape).astype('f')))
    return made


def step(made, seed):
    """Gives every parameter but the last one a gradient."""
    rng = np.random.default_rng(seed)
    for name, param in sorted(made.namedparams()):
        gradient = rng.normal(size=param.shape).astype('f')
        param.grad = gradient if name != f'/p{len(list(made.params())) - 1}' else None


def test_steps_at_several_learning_rates_are_those_of_chainer_bit_for_bit():
    ours, theirs = link(SHAPES), link(SHAPES)
    optimizer = MomentumSGD(0.9, 1e-2).setup(ours)
    reference = chainer.optimizers.MomentumSGD(momentum=0.9).setup(theirs)
    reference.add_hook(chainer.optimizer_hooks.WeightDecay(1e-2))
    for seed in range(5):
        optimizer.lr = reference.lr = 0.1 / (1 + seed // 2)
        for made, method in ((ours, optimizer), (theirs, reference)):
            step(made, seed)
            method.update()
    for name, param in theirs.namedparams():
        mine = dict(ours.namedparams())[name]
        np.testing.assert_array_equal(mine.array, param.array, err_msg=name)
        v = mine.update_rule.state['v']
        np.testing.assert_array_equal(v, param.update_rule.state['v'], err_msg=name)
        assert v.any()


def test_the_learning_rate_is_a_number_here_and_an_array_that_stays_where_steps_read_it():
    made = MomentumSGD(0.9, 0.0).setup(link([(3,)]))
    before = made.hyperparam.lr
    made.lr = 0.05
    assert made.lr == 0.05
    assert made.hyperparam.lr is before
    assert before == np.float32(0.05)


def test_momenta_are_there_before_the_first_step_and_in_every_snapshot(tmp_path):
    updater = tiny.updater(tiny.config('cross_entropy'), tmp_path)
    saved = chainer.serializers.DictionarySerializer()
    updater.serialize(saved)
    parameters = {name for name, _ in updater.method.namedparams()}
    momenta = {name for name in saved.target if name.endswith('/v')}
    assert momenta == {f'optimizer{name}/v' for name in parameters}
