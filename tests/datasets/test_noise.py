import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainer_jo import datasets
from chainer_jo.datasets import cifar10, fashion_mnist, noise
from chainer_jo.datasets.streams import rng
from chainer_jo.errors import ConfigError

CLEAN = np.tile(np.arange(10, dtype=np.int32), 4500)
N = len(CLEAN)
RATES = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
FLIPS = cifar10.FLIPS
KINDS = [
    ('none', {}),
    ('symmetric', {}),
    ('symmetric', {'exclude_true': True}),
    ('asymmetric', {'flips': FLIPS}),
    ('asymmetric', {'flips': fashion_mnist.FLIPS}),
]


@pytest.mark.parametrize('rate', RATES)
def test_redrawn_share_is_exact_when_the_true_class_is_excluded(rate):
    noisy = noise.symmetric(CLEAN, rate, 10, rng(0, 'noise'), exclude_true=True)
    assert (noisy != CLEAN).sum() == round(rate * N)


def test_seventy_percent_leaves_sixty_three_percent_wrong():
    wrong = (noise.symmetric(CLEAN, 0.7, 10, rng(0, 'noise')) != CLEAN).mean()
    assert wrong == pytest.approx(0.63, abs=0.005)  # 3 sigma of the 31,500 classes drawn


def test_symmetric_noise_equals_a_loop_over_the_shuffled_examples():
    draw = rng(3, 'noise')
    slow, order = CLEAN.copy(), draw.permutation(N)
    drawn = draw.integers(10, size=31_500)
    for i, example in enumerate(order):
        if i < round(0.7 * N):
            slow[example] = drawn[i]
    np.testing.assert_array_equal(noise.symmetric(CLEAN, 0.7, 10, rng(3, 'noise')), slow)


@pytest.mark.parametrize('rate', RATES)
def test_asymmetric_noise_changes_an_exact_share_of_each_mapped_class(rate):
    noisy = noise.asymmetric(CLEAN, rate, FLIPS, rng(0, 'noise'))
    for c in range(10):
        row = np.bincount(noisy[c == CLEAN], minlength=10)
        expected = np.zeros(10, int)
        expected[c] = 4500
        if c in FLIPS:
            expected[[c, FLIPS[c]]] = 4500 - round(rate * 4500), round(rate * 4500)
        assert row.tolist() == expected.tolist()


@pytest.mark.parametrize('sampling', noise.SAMPLINGS)
@pytest.mark.parametrize(('kind', 'options'), KINDS)
def test_the_transition_matrix_is_what_the_generator_does(kind, options, sampling):
    T = noise.transition_matrix(kind, 0.4, 10, **options)
    noisy = noise.noisy_labels(
        CLEAN, 10, rng(1, 'noise'), kind=kind, rate=0.4, sampling=sampling, **options
    )
    seen = np.stack([np.bincount(noisy[c == CLEAN], minlength=10) for c in range(10)]) / 4500
    np.testing.assert_allclose(T.sum(axis=1), 1)
    assert noisy.dtype == np.int32
    assert ((seen == 0) == (T == 0)).all()
    np.testing.assert_allclose(seen, T, atol=4 * 0.5 / np.sqrt(4500))  # 4 sigma at most


def test_bernoulli_noise_varies_in_number_and_exact_noise_does_not():
    def counts(sampling):
        draws = [
            noise.symmetric(CLEAN, 0.5, 10, rng(s, 'noise'), sampling=sampling, exclude_true=True)
            for s in range(4)
        ]
        return {int((noisy != CLEAN).sum()) for noisy in draws}

    assert counts('exact') == {22_500}
    assert len(counts('bernoulli')) > 1


@given(n=st.integers(0, 300), percent=st.integers(0, 100))
def test_a_share_that_is_no_whole_number_is_rounded_up(n, percent):
    labels = np.zeros(n, np.int32)
    noisy = noise.asymmetric(labels, percent / 100, {0: 1}, rng(0, 'noise'))
    assert noisy.sum() == -(-n * percent // 100)


def test_the_true_labels_are_not_modified():
    before = CLEAN.copy()
    for kind, options in KINDS:
        noise.noisy_labels(CLEAN, 10, rng(0, 'noise'), kind=kind, rate=0.9, **options)
    np.testing.assert_array_equal(CLEAN, before)


def test_cifar10_has_the_map_of_the_paper():
    flips = {cifar10.CLASSES[a]: cifar10.CLASSES[b] for a, b in cifar10.FLIPS.items()}
    # Sec. 4.1: truck to automobile, bird to airplane, deer to horse, cat and dog to each other.
    assert flips == {
        'truck': 'automobile', 'bird': 'airplane', 'deer': 'horse', 'cat': 'dog', 'dog': 'cat',
    }  # fmt: skip


def test_fashion_mnist_has_a_map_of_the_same_kind():
    classes = datasets.load('fashion_mnist').classes
    assert {classes[a]: classes[b] for a, b in fashion_mnist.FLIPS.items()} == {
        'ankle boot': 'sneaker', 'sneaker': 'sandal', 'pullover': 'shirt', 'coat': 'dress',
        'dress': 'coat',
    }  # fmt: skip


@pytest.mark.parametrize('flips', [cifar10.FLIPS, fashion_mnist.FLIPS])
def test_every_map_touches_five_classes_and_swaps_one_pair(flips):
    assert len(flips) == 5
    assert sum(flips.get(other) == true for true, other in flips.items()) == 2


def test_asymmetric_noise_of_one_half_has_a_singular_matrix():
    T = noise.transition_matrix('asymmetric', 0.5, 10, flips=FLIPS)
    assert np.linalg.matrix_rank(T) == 9


@pytest.mark.parametrize('kind', ['symmetric', 'asymmetric'])
def test_a_percentage_is_refused_with_the_line_to_write(kind):
    with pytest.raises(ConfigError, match=r'fix:  write 0\.7$'):
        noise.noisy_labels(CLEAN, 10, rng(0, 'noise'), kind=kind, rate=70, flips=FLIPS)


@pytest.mark.parametrize('rate', [-0.1, 101, float('nan'), float('inf')])
def test_a_rate_outside_zero_to_one_is_refused(rate):
    with pytest.raises(ConfigError, match='from 0 to 1'):
        noise.symmetric(CLEAN, rate, 10, rng(0, 'noise'))


@pytest.mark.parametrize(
    ('wrong', 'match'),
    [
        ({'kind': 'pairflip'}, 'kind of noise'),
        ({'sampling': 'poisson'}, 'sampling'),
        ({'kind': 'asymmetric'}, 'map'),
    ],
)
def test_unknown_words_and_a_missing_map_are_refused(wrong, match):
    with pytest.raises(ConfigError, match=match):
        noise.noisy_labels(CLEAN, 10, rng(0, 'noise'), **{'kind': 'symmetric', 'rate': 0.5} | wrong)


def test_a_share_that_is_a_whole_number_is_not_rounded_up_for_a_float_error():
    assert 0.07 * 100 > 7
    labels = np.zeros(100, int)
    drawn = noise.noisy_labels(
        labels, 10, np.random.default_rng(0), kind='symmetric', rate=0.07, exclude_true=True
    )
    assert (drawn != labels).sum() == 7


@pytest.mark.parametrize('flips', [{0: 0, 1: 2, 2: 2}, {0: 1, 1: 0, 2: 2}])
def test_a_map_in_which_a_class_stays_itself_has_the_matrix_of_its_noise(flips):
    clean = np.repeat(np.arange(3, dtype=np.int32), 1000)
    noisy = noise.asymmetric(clean, 0.3, flips, rng(0, 'noise'))
    counted = np.array([np.bincount(noisy[clean == true], minlength=3) for true in range(3)]) / 1000
    T = noise.transition_matrix('asymmetric', 0.3, 3, flips=flips)
    np.testing.assert_allclose(T, counted, atol=1e-12)
    np.testing.assert_allclose(T.sum(axis=1), 1)


def test_asymmetric_noise_is_drawn_in_the_order_of_the_classes_however_the_map_is_written():
    turned = dict(reversed(FLIPS.items()))
    draw, slow = rng(0, 'noise'), CLEAN.copy()
    for true in range(10):
        if true in FLIPS:
            members = np.flatnonzero(true == CLEAN)
            slow[members[draw.permutation(len(members))[: round(0.4 * 4500)]]] = FLIPS[true]
    for flips in (FLIPS, turned):
        noisy = noise.asymmetric(CLEAN, 0.4, flips, rng(0, 'noise'))
        np.testing.assert_array_equal(noisy, slow)
