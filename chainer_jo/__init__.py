"""Learning with noisy labels: mix-up with KL entropy (arXiv 1908.05488), in Chainer.

The public functions and classes, in the order in which a program needs them:

    symmetric_noise, asymmetric_noise   draw noisy labels from true ones
    transition_matrix                   T[i, j] = P(noisy = j | true = i) of that noise
    mix_up                              mixes the images and labels of a batch, Eq. (8)
    one_hot, joint_loss                 one-hot labels; L_c + alpha L_p + beta L_e, Eq. (3)
    method_loss                         the loss of any of the fourteen methods on one batch
    LabelStore                          corrects labels by the mean of past outputs (Algorithm 1)
    preact_resnet                       the net of the paper
    image_set, train, Trained           train one trial, on a named data set or on your own arrays
    correct, Corrections                find and correct the wrong labels of your own arrays
    table, results, columns             finished trials as rows, or as columns

All but the last three lines are pure functions and plain objects that need no trainer. ``python -m
chainer_jo --help`` lists the commands. Every error that a caller can cause is a
:class:`chainer_jo.errors.ChainerJoError`. Its message states the problem, the value that was seen,
and a fix.

>>> import chainer_jo
>>> labels = [0, 1, 2, 3] * 25
>>> noisy = chainer_jo.symmetric_noise(labels, 0.5, n_class=4, rng=0)
>>> int((noisy != labels).sum())  # About a quarter of the 50 redrawn labels stay correct.
39
"""

import importlib
from typing import TYPE_CHECKING

from chainer_jo import compat
from chainer_jo.version import __version__ as __version__

if TYPE_CHECKING:
    from chainer_jo.api.corrections import Corrections, correct
    from chainer_jo.api.label_store import LabelStore
    from chainer_jo.api.losses import joint_loss, method_loss, one_hot
    from chainer_jo.api.mixing import Mixed, mix_up
    from chainer_jo.api.nets import preact_resnet
    from chainer_jo.api.noise import asymmetric_noise, symmetric_noise, transition_matrix
    from chainer_jo.api.tables import columns, results, table
    from chainer_jo.api.trials import Trained, image_set, train

__all__ = [
    'symmetric_noise', 'asymmetric_noise', 'transition_matrix',
    'mix_up', 'Mixed',
    'one_hot', 'joint_loss', 'method_loss',
    'LabelStore',
    'preact_resnet',
    'image_set', 'train', 'Trained',
    'correct', 'Corrections',
    'table', 'results', 'columns',
]  # fmt: skip

# Chainer 7.8.1 cannot be imported with current NumPy without this, so it has to run before any
# module of the package is imported. It imports neither Chainer nor NumPy itself.
compat.install()

_PLACES = {
    'noise': ('symmetric_noise', 'asymmetric_noise', 'transition_matrix'),
    'mixing': ('mix_up', 'Mixed'),
    'losses': ('one_hot', 'joint_loss', 'method_loss'),
    'label_store': ('LabelStore',),
    'nets': ('preact_resnet',),
    'trials': ('image_set', 'train', 'Trained'),
    'corrections': ('correct', 'Corrections'),
    'tables': ('table', 'results', 'columns'),
}
_PLACE = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name):
    # Imported on first use (PEP 562): Chainer takes a second to import, and every command imports
    # this module, including those that train nothing.
    if name not in _PLACE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.api.{_PLACE[name]}'), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
