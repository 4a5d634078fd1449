"""What all methods share: a net, a label store, and a loss for each stage."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import chainer

from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.links.label_store import LabelStore


@dataclass
class Batch:
    """One mini-batch, all arrays on the net's device.

    Attributes:
        x: Augmented, mean-subtracted images, ``(B, channels, H, W)``, float32.
        index: Their places in the training set, ``(B,)``, int32.
        y: Their labels now, ``(B, C)``, float32.
        x_mixed: The mixed images of Eq. (8), as ``x``; only in stages that mix.
        partner: ``j`` of mix-up, ``(B,)``, int32, places in the batch; only in stages that mix.
        lam: ``lambda`` of mix-up, float32, ``()`` or ``(B,)``; only in stages that mix.
    """

    x: Any
    index: Any
    y: Any
    x_mixed: Any = None
    partner: Any = None
    lam: Any = None


class Probe(Protocol):
    """What a method may ask at the end of an epoch; answers are arrays on its device."""

    #: Share of validation images that the method predicts right, a fraction.
    validation_accuracy: float

    def outputs(self):
        """Returns ``f`` of all training images as they are, ``(N, C)``, BN in test mode."""

    def features(self, index):
        """Returns the features below the last layer of some training images, ``(n, D)``."""

    def rng(self, purpose):
        """Returns the epoch's own generator for a purpose."""


class Method(chainer.Chain):
    """A net, its label store and the losses of its stages.

    A subclass has one method for each stage in its section of ``hyperparameters.toml``, of the same
    name, that takes a :class:`Batch` and returns ``(loss, log_f)``: a scalar Variable, and the
    log-probabilities ``(B, C)`` of the images as they are. ``self.hyper`` holds the stage's
    hyper-parameters as attributes. Everything else that changes the result is a parameter or a
    persistent value, so that it is in every snapshot.

    Args:
        net (chainer.Chain): Images to logits.
        noisy_labels (numpy.ndarray): Shape ``(N,)``, integers in ``[0, C)``.
        n_class (int): ``C``.
        stages (dict): Stage name to hyper-parameters.
        T (numpy.ndarray): The true ``T[i, j] = P(noisy = j | true = i)``, ``(C, C)``, float64, for
            the methods that are granted it; see :meth:`uses_true_T`.

    Attributes:
        n_class (int): ``C``.
        stages (dict): As given.
        stage (str): Name of the current stage.
        hyper (types.SimpleNamespace): Hyper-parameters of the current stage.
        pins (bool): Whether labels that are known to be right can be pinned: it takes all
            labels from the store, and for the true ones, once they are corrected.
    """

    pins = False

    def __init__(self, net, noisy_labels, n_class, stages, T=None):
        super().__init__()
        self.n_class, self.stages = n_class, stages
        windows = [stage['window'] for stage in stages.values() if 'window' in stage]
        # One store serves all stages, so that labels and outputs go on from one to the next.
        window = 'all' if 'all' in windows else max(windows, default=0)
        with self.init_scope():
            self.net = net
            self.labels = LabelStore(noisy_labels, n_class, window)
        # Last, because what a method adds may start from its labels.
        self.setup(noisy_labels, T)

    @classmethod
    def uses_true_T(cls, stages):
        """Returns whether the method, with these settings, is granted the true ``T``."""
        return False

    def setup(self, noisy_labels, T):
        """Adds what a method has beside the net and its labels: parameters, persistent values.

        Called once, when the net is still on the host. Arguments as above.
        """

    @staticmethod
    def gather(array):
        """Returns an array of this process's part of a batch for the whole batch, in its order.

        Where several processes train the method together, another function is put in its place.
        """
        return array

    def begin(self, stage):
        """Makes ``stage`` the current one; called before its first step and after a resume."""
        self.stage = stage
        # Attributes, so that a loss reads like its equation: hyper.alpha, hyper.beta.
        self.hyper = SimpleNamespace(**self.stages[stage])

    def forward(self, batch):
        """Returns the current stage's ``(loss, log_f)``."""
        # A stage in hyperparameters.toml has the name of its loss in the method's file.
        return getattr(self, self.stage)(batch)

    def log_f(self, x):
        """Returns ``log f(x, theta)``, ``(B, C)``, of images ``x``."""
        return log_softmax(self.net(x))

    def predict(self, x):
        """Returns the scores ``(B, C)`` whose largest is the predicted class, for evaluation."""
        # Logits: the softmax does not change which one is largest.
        return self.net(x)

    def after_backward(self, batch):
        """Called when a batch's gradients are there, before the step of the optimizer."""

    def end_epoch(self, epoch, probe):
        """Called after ``epoch`` (1 for the first) of the current stage; labels change here.

        Args:
            epoch (int): Epoch of the stage.
            probe (Probe): What the method may ask about the net and its data.
        """
