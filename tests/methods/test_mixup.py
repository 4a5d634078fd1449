import bare
import numpy as np
import pytest

LABELS = [0, 1, 2, 2, 0]
PARTNER = np.array([3, 0, 2, 1, 4], 'i')


def slow_loss(z, lam, y):
    """Eq. (9) one image at a time, on mixtures of the logits."""
    total = 0.0
    for i, j in enumerate(PARTNER):
        log_f = np.log(bare.softmax(lam[i] * z[i] + (1 - lam[i]) * z[j]))
        for k in range(3):
            total -= lam[i] * y[i][k] * log_f[k] + (1 - lam[i]) * y[j][k] * log_f[k]
    return total / len(z)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_the_loss_and_its_gradient_are_those_of_a_slow_loop(per):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 3))
    lam = rng.random(5 if per == 'sample' else ()).astype('f')
    method = bare.method('mixup', LABELS)
    batch = bare.batch(method, z, range(5), partner=PARTNER, lam=lam)
    loss, gradient = bare.backward(method, batch)

    def slow(z):
        return slow_loss(z, np.broadcast_to(lam, 5), batch.y)

    assert loss == pytest.approx(slow(z), rel=1e-5)
    np.testing.assert_allclose(gradient, bare.slope(slow, z), atol=1e-5)


def test_two_images_mixed_three_to_one_by_hand():
    method = bare.method('mixup', [0, 1])
    # Their mixtures have the logits (log 2, 0, 0) and (0, 0, 0): f is (1/2, 1/4, 1/4), then thirds.
    z = np.log([[2.0**1.5, 1, 1], [2.0**-0.5, 1, 1]])
    lam, partner = np.array(0.75, 'f'), np.array([1, 0], 'i')
    loss, _ = bare.backward(method, bare.batch(method, z, [0, 1], partner=partner, lam=lam))
    first = 0.75 * np.log(2) + 0.25 * np.log(4)
    assert loss == pytest.approx((first + np.log(3)) / 2, rel=1e-5)


def test_with_a_weight_of_one_it_is_cross_entropy():
    z = np.random.default_rng(1).normal(size=(3, 3))
    mixup, plain = bare.method('mixup', [0, 1, 2]), bare.method('cross_entropy', [0, 1, 2])
    mixing = {'partner': np.array([1, 2, 0], 'i'), 'lam': np.ones((), 'f')}
    mixed = bare.backward(mixup, bare.batch(mixup, z, range(3), **mixing))
    unmixed = bare.backward(plain, bare.batch(plain, z, range(3)))
    assert mixed[0] == pytest.approx(unmixed[0])
    np.testing.assert_allclose(mixed[1], unmixed[1], atol=1e-7)
