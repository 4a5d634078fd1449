import json

import chainer
import numpy as np
import tiny

from chainer_jo import store
from chainer_jo.training import snapshot, trial
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


def test_at_a_rate_of_zero_no_weight_moves_and_at_another_it_moves_again():
    made = link(SHAPES)
    optimizer = MomentumSGD(0.9, 1e-2).setup(made)
    arrays = [param.array for param in made.params()]
    for lr in (0.1, 0.0, 0.05, 0.0):
        optimizer.lr = lr
        before = [array.copy() for array in arrays]
        for seed in range(3):
            step(made, seed)
            optimizer.update()
        moved = [(a != b).any() for a, b in zip(arrays, before, strict=True)]
        assert sum(moved) == (len(SHAPES) if lr else 0)


def test_pencils_floor_division_leaves_the_net_where_it_is(tmp_path):
    """D-42: as in PENCIL's public code, nothing but running statistics moves at rate 0."""
    weights = {}

    def note(row):
        names = [path.name for path in snapshot.list_newest_first(folder)]
        arrays = store.read_arrays(folder / names[0]) if names else {}
        weights[row['epoch']] = {k: v for k, v in arrays.items() if k.endswith(('/W', '/gamma'))}

    config = tiny.config(
        'pencil', 'pencil.fine_tune.division=floor', 'pencil.fine_tune.divide_after=[1]'
    )
    folder = tiny.folder(config, tmp_path)
    tiny.run(config, tmp_path, trial.Observer(epoch=note), seconds=0)
    rows = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert [row['learning_rate'] for row in rows[-3:]] == [0.1, 0, 0]
    model = store.read_arrays(folder / 'model.arrays')
    # The snapshot before the last epoch's end is one of rate 0.
    last = {k.removeprefix('model:main/net/'): v for k, v in weights[9].items() if '/net/' in k}
    last = {k: v for k, v in last.items() if k in model}
    assert len(last) > 5
    for name, array in last.items():
        np.testing.assert_array_equal(model[name], array, err_msg=name)
    earlier = {k.removeprefix('model:main/net/'): v for k, v in weights[7].items()}
    assert any((model[name] != earlier[name]).any() for name in last)


def test_momenta_are_there_before_the_first_step_and_in_every_snapshot():
    updater = tiny.updater(tiny.config('cross_entropy'))
    saved = chainer.serializers.DictionarySerializer()
    updater.serialize(saved)
    parameters = {name for name, _ in updater.method.namedparams()}
    momenta = {name for name in saved.target if name.endswith('/v')}
    assert momenta == {f'optimizer:main{name}/v' for name in parameters}
