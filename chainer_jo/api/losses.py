"""Losses on one batch, without a trainer: Eq. (3), and the loss of any stage of any method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chainer
import numpy as np
from numpy.typing import NDArray

from chainer_jo import config, methods, paper
from chainer_jo.api import checks
from chainer_jo.api.mixing import mix_up
from chainer_jo.errors import ConfigError
from chainer_jo.functions import losses
from chainer_jo.methods.base import Batch


def one_hot(labels: Sequence[int] | NDArray[np.integer], n_class: int) -> NDArray[np.float32]:
    """Returns one-hot labels: 1 at the class, 0 elsewhere.

    Args:
        labels: ``(N,)``, integers in ``[0, n_class)``.
        n_class: Number of classes ``C``.

    Returns:
        ``(N, C)``, float32.

    Raises:
        ConfigError: The labels are not as described.

    >>> import chainer_jo
    >>> chainer_jo.one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    labels = checks.labels(labels, n_class)
    return np.eye(n_class, dtype='f')[labels]


def joint_loss(y: Any, log_f: Any, alpha: float = 0.0, beta: float = 0.0) -> chainer.Variable:
    """Returns ``L = L_c + alpha L_p + beta L_e``, Eq. (3): the loss of step 1.

    ``L_c`` is the KL divergence between labels and outputs, Eq. (4); ``L_p`` keeps the mean output
    of the batch near the uniform distribution, Eq. (6); ``L_e`` is the entropy of the output,
    Eq. (7).

    Args:
        y: Labels, ``(B, C)``, float32, rows that sum to 1; no gradient flows into them (D-07).
        log_f: Logarithm of the net's output, a Variable ``(B, C)``, float32.
        alpha: Weight of ``L_p``; 1.2 or 0.8 in Table 1.
        beta: Weight of ``L_e``; 0.8 or 0.4 in Table 1.

    Returns:
        A scalar Variable, the mean over the batch, in nats.

    Raises:
        ConfigError: Shapes, dtypes or values are not as described.

    >>> import chainer.functions as F, chainer_jo, numpy as np
    >>> log_f = F.log_softmax(np.zeros((2, 4), np.float32))
    >>> round(float(chainer_jo.joint_loss(chainer_jo.one_hot([0, 3], 4), log_f).array), 4)
    1.3863
    """
    y = checks.rows(y, 'y')
    for value, name in ((alpha, 'alpha'), (beta, 'beta')):
        checks.number(value, name)
    # The entropy of a probability of 0 would be NaN, and a log_softmax gives none.
    if not getattr(log_f, 'xp', np).isfinite(chainer.as_array(log_f)).all():
        raise ConfigError(
            'log_f must be finite',
            seen='the logarithm of 0, or no number',
            fix='take chainer.functions.log_softmax of the logits, not the log of a softmax',
        )
    checks.rows(getattr(log_f, 'xp', np).exp(chainer.as_array(log_f)), 'exp(log_f)', y.shape)
    return losses.joint_loss(y, log_f, alpha, beta)


def method_loss(
    method: str,
    stage: str,
    net: chainer.Link,
    x: Any,
    y: Any,
    *,
    T: Any = None,
    noise: str = 'symmetric',
    rate: float | None = 0.5,
    preset: str = 'paper',
    overrides: Sequence[str] = (),
    rng: int | np.random.Generator = 0,
) -> tuple[chainer.Variable, chainer.Variable]:
    """Returns the loss of a stage of a method on one batch, and the log-probabilities.

    Whatever a method learns in addition to the net has its initial value: PENCIL's label logits are
    K at the largest entry of each row of ``y`` and 0 elsewhere, all of GCE's weights are 1, and the
    transition matrix of the ``_estimated`` methods is the identity.

    Args:
        method: One of ``python -m chainer_jo methods``.
        stage: A stage of the method, such as ``'correct'`` or ``'fine_tune'`` of ``'ours'``.
        net: Any Chainer Link that maps images to logits ``(B, C)``. While ``chainer.config.train``
            is true, which is Chainer's default, its batch normalisation updates the running
            statistics, as in any forward pass.
        x: Images as the net takes them, float32, ``(B, ...)``, on the net's device.
        y: Their current labels, ``(B, C)``, float32, rows that sum to 1.
        T: ``T[i, j] = P(noisy = j | true = i)``, ``(C, C)``, for the methods that are given the
            true matrix (``forward``, ``backward``, ``cnn_crf``); see
            :func:`chainer_jo.transition_matrix`.
        noise, rate: The noise setting whose hyper-parameters in Table 1 are used.
        preset: The preset of the settings: ``'paper'``, ``'short'``, ``'reduced'`` or ``'quick'``.
        overrides: ``'section.key=value'``, as for :func:`chainer_jo.train`.
        rng: Random generator or seed of a stage with mix-up, as for :func:`chainer_jo.mix_up`.

    Returns:
        The loss, a scalar Variable, and ``log f`` of the images, a Variable ``(B, C)``.

    Raises:
        ConfigError: There is no such method, stage or setting, or shapes, dtypes or values are not
            as described.

    >>> import chainer.links as L, chainer_jo, numpy as np
    >>> net, x = L.Linear(3 * 32 * 32, 10), np.zeros((4, 3, 32, 32), np.float32)
    >>> y = chainer_jo.one_hot([3, 1, 4, 1], 10)
    >>> loss, log_f = chainer_jo.method_loss('ours', 'fine_tune', net, x, y, rate=0.7)
    >>> net.cleargrads()  # Chainer adds to existing gradients, and these are NaN at first.
    >>> loss.backward()
    >>> net.W.grad.shape
    (10, 3072)
    """
    # Any named data set will do: the name changes no hyper-parameter.
    overrides, method = checks.overrides(overrides), checks.text(method, 'method', 'ours')
    described = config.trial(method, 'cifar10', noise, rate, 0, preset, overrides)
    stages = described.stages
    if stage not in stages:
        raise paper.unknown(f'stage of {method}', stage, stages)
    y, kind = checks.rows(y, 'y'), methods.load(method)
    if len(x) != len(y):
        raise ConfigError(
            'the numbers of images and labels differ',
            seen=f'{len(x)} images, {len(y)} labels',
            fix='pass one label per image',
        )
    _check_outputs(net, x, y.shape[1])
    batch = Batch(x, net.xp.arange(len(y), dtype='i'), y)
    if 'mix_up' in paper.updaters(method, stage):
        settings = stages[stage]
        mixed = mix_up(x, y, settings['a'], per=settings['mix_lambda'], rng=rng)
        batch.x_mixed, batch.partner, batch.lam = mixed.x, mixed.partner, mixed.lam
    T = _checked_T(T, y.shape[1], method) if kind.uses_true_T(stages) else None
    return _first_loss(kind, stage, net, batch, stages, T)


def _first_loss(kind, stage, net, batch, stages, T):
    """Builds the method as if the batch were its whole training set, and returns its loss."""
    host = chainer.get_device('@numpy').send(batch.y)
    name = net.name
    try:
        method = kind(net, host.argmax(axis=1), host.shape[1], stages, T).to_device(net.device)
        method.begin(stage)
        return method(batch)
    finally:
        # A Chain renames its children, and the net belongs to the caller.
        net.name = name


def _check_outputs(net, x, n_class):
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        shape = net(x[:1]).shape
    # A single output would be broadcast over all classes.
    if shape != (1, n_class):
        raise ConfigError(
            "the net's outputs do not fit the labels",
            seen=f'{shape} for one image, {n_class} classes',
            fix=f'use a net with {n_class} outputs, one for each class',
        )


def _checked_T(T, n_class, method):
    example = f"T=chainer_jo.transition_matrix('symmetric', 0.5, {n_class})"
    if T is None:
        raise ConfigError(
            f'{method} needs the transition matrix T',
            seen='no T',
            fix=f'pass for example {example}',
        )
    T = checks.array(T, 'T', np.float64)
    # Written so that NaN fails too: every comparison with it is false.
    sums = T.shape == (n_class, n_class) and abs(T.sum(axis=1) - 1).max() <= 1e-6
    if not (sums and T.min() >= 0):
        entries = f', entries from {T.min():g} to {T.max():g}' if T.size else ''
        raise ConfigError(
            f'T must be ({n_class}, {n_class}) with rows that sum to 1',
            seen=f'{T.shape}{entries}',
            fix=f'pass for example {example}',
        )
    return T
