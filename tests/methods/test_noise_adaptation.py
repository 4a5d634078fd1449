import bare
import chainer
import numpy as np
import pytest

LABELS = [0, 1, 2, 2, 0]


def adapting(*overrides, labels=LABELS):
    method = bare.method('noise_adaptation', labels, *overrides)
    method.begin('adapt')
    return method


def slow_loss(z, logits, y, penalty):
    """The loss of one image at a time, with the layer's rows one at a time."""
    Q = [bare.softmax(row) for row in logits]
    total = 0.0
    for row, label in zip(z, y, strict=True):
        f = bare.softmax(row)
        total -= np.log(sum(f[i] * Q[i][label] for i in range(3)))
    return total / len(y) + penalty * sum(Q[i][i] for i in range(3))


def test_the_loss_and_both_gradients_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    method = adapting('noise_adaptation.adapt.penalty=0.3')
    method.logits.array[...] = rng.normal(size=(3, 3))
    z, logits = rng.normal(size=(5, 3)), method.logits.array.astype('d')
    loss, gradient = bare.backward(method, bare.batch(method, z, range(5)))
    assert loss == pytest.approx(slow_loss(z, logits, LABELS, 0.3), rel=1e-5)
    at_z = bare.slope(lambda z: slow_loss(z, logits, LABELS, 0.3), z)
    np.testing.assert_allclose(gradient, at_z, atol=1e-5)
    at_Q = bare.slope(lambda logits: slow_loss(z, logits, LABELS, 0.3), logits)
    np.testing.assert_allclose(method.logits.grad, at_Q, atol=1e-5)


def test_the_loss_of_one_image_by_hand():
    method = adapting('noise_adaptation.adapt.penalty=0.5', labels=[2])
    method.logits.array[...] = np.log([[2, 1, 1], [1, 2, 1], [1, 1, 2]])
    # f = (1/2, 1/4, 1/4), Q = 1/2 on the diagonal and 1/4 beside it:
    # p(noisy = 2) = 1/8 + 1/16 + 1/8 = 5/16, tr Q = 3/2.
    loss, _ = bare.backward(method, bare.batch(method, np.log([[2.0, 1, 1]]), [0]))
    assert loss == pytest.approx(np.log(16 / 5) + 0.75, rel=1e-6)


def test_the_layer_begins_near_the_identity_whatever_happened_before_it_is_used():
    method = bare.method('noise_adaptation', LABELS)
    method.logits.array[...] = 3
    method.begin('adapt')
    e = np.exp(6)
    expected = (np.ones((3, 3)) + (e - 1) * np.eye(3)) / (e + 2)
    np.testing.assert_allclose(method.Q().array, expected, rtol=1e-5)


def test_warming_up_is_cross_entropy():
    z = np.random.default_rng(1).normal(size=(5, 3))
    losses = []
    for name in ('noise_adaptation', 'cross_entropy'):
        method = bare.method(name, LABELS)
        losses.append(bare.backward(method, bare.batch(method, z, range(5)))[0])
    assert losses[0] == losses[1]


def test_it_predicts_without_the_layer():
    method = adapting()
    method.logits.array[...] = np.roll(np.eye(3, dtype='f'), 1, axis=1) * 9
    z = np.eye(3, dtype='f')
    assert method.predict(z).argmax(axis=1).tolist() == [0, 1, 2]


def test_where_the_net_is_sure_and_right_the_layer_learns_how_labels_were_flipped():
    truth = np.repeat(np.arange(3), 10)
    T = np.array([[0.8, 0.2, 0], [0, 0.7, 0.3], [0.1, 0.3, 0.6]])
    noisy = np.concatenate([np.repeat(np.arange(3), np.round(row * 10).astype(int)) for row in T])
    settings = ('noise_adaptation.adapt.initial=1.0', 'noise_adaptation.adapt.penalty=0.0')
    method = adapting(*settings, labels=noisy)
    optimizer = chainer.optimizers.SGD(5.0).setup(method)
    for _ in range(500):
        bare.backward(method, bare.batch(method, 50 * np.eye(3)[truth], range(30)))
        optimizer.update()
    np.testing.assert_allclose(method.Q().array, T, atol=0.01)
