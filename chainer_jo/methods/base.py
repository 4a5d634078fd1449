"""The base class of all methods: a net, a label store, and a loss for each stage."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import chainer

from chainer_jo.errors import ConfigError
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.links.label_store import LabelStore


@dataclass
class Batch:
    """One mini-batch, all arrays on the net's device.

    Attributes:
        x: Augmented, mean-subtracted images, ``(B, channels, H, W)``, float32.
        index: Their positions in the training set, ``(B,)``, int32.
        y: Their current labels, ``(B, C)``, float32.
        x_mixed: The mixed images of Eq. (8), as ``x``; only in stages with mix-up.
        partner: ``j`` of mix-up, ``(B,)``, int32, positions in the batch; only in stages with
            mix-up.
        lam: ``lambda`` of mix-up, float32, ``()`` or ``(B,)``; only in stages with mix-up.
    """

    x: Any
    index: Any
    y: Any
    x_mixed: Any = None
    partner: Any = None
    lam: Any = None


class Probe(Protocol):
    """What a method can query at the end of an epoch; arrays are on the method's device."""

    #: Accuracy on the validation images, a fraction.
    validation_accuracy: float

    def outputs(self):
        """Returns ``f`` of all training images, not augmented, ``(N, C)``, BN in test mode."""

    def features(self, index):
        """Returns the inputs of the last layer for some training images, ``(n, D)``."""

    def rng(self, purpose):
        """Returns a random generator for a purpose, specific to the epoch."""


class Method(chainer.Chain):
    """A net, its label store and the losses of its stages.

    For each stage in its section of ``hyperparameters.toml``, a subclass has a method of the same
    name. It takes a :class:`Batch` and returns ``(loss, log_f)``: a scalar Variable, and the
    log-probabilities ``(B, C)`` of the images that are not mixed. ``self.hyper`` holds the stage's
    hyper-parameters as attributes. Everything else that affects the result must be a parameter or
    a persistent value, so that it is in every snapshot.

    Args:
        net (chainer.Chain): Maps images to logits.
        noisy_labels (numpy.ndarray): Shape ``(N,)``, integers in ``[0, C)``.
        n_class (int): ``C``.
        stages (dict): Stage name to hyper-parameters.
        T (numpy.ndarray): The true ``T[i, j] = P(noisy = j | true = i)``, ``(C, C)``, float64, for
            the methods that are given it; see :meth:`uses_true_T`.

    Attributes:
        n_class (int): ``C``.
        stages (dict): As given.
        stage (str): Name of the current stage.
        hyper (types.SimpleNamespace): Hyper-parameters of the current stage.
        pins (bool): Whether labels that are known to be correct can be pinned. The method must then
            take all labels from the store and, once they are corrected, treat them as true labels.
    """

    pins = False

    def __init__(self, net, noisy_labels, n_class, stages, T=None):
        super().__init__()
        for stage in stages:
            taken = hasattr(Method, stage)
            if taken or not callable(getattr(self, stage, None)):
                raise ConfigError(
                    f'{type(self).__name__} has no loss for the stage {stage}',
                    seen=f'every method has {stage}' if taken else f'no function {stage}',
                    fix='give the stage another name in hyperparameters.toml and the class'
                    if taken
                    else 'write it, or name the section of hyperparameters.toml after another',
                )
        self.n_class, self.stages = n_class, stages
        windows = [stage['window'] for stage in stages.values() if 'window' in stage]
        # One store for all stages, so that labels and outputs carry over from one to the next.
        window = 'all' if 'all' in windows else max(windows, default=0)
        with self.init_scope():
            self.net = net
            self.labels = LabelStore(noisy_labels, n_class, window)
        # Last, because what a method adds may depend on its labels.
        self.setup(noisy_labels, T)

    @classmethod
    def uses_true_T(cls, stages):
        """Returns whether the method, with these settings, is given the true ``T``."""
        return False

    def setup(self, noisy_labels, T):
        """Adds parameters and persistent values that a method needs besides net and labels.

        Called once, while the net is still on the host. Arguments as above.
        """

    #: Returns the mean of an array over all processes; ``None`` with a single process.
    mean = None

    @staticmethod
    def gather(array):
        """Gathers the parts of a batch from all processes, and returns the whole batch in order.

        This version is for a single process; training with several processes replaces it.
        """
        return array

    @property
    def predicts_itself(self):
        """Whether values of the method's own, besides the net, take part in its predictions."""
        kind = type(self)
        return kind.log_f is not Method.log_f or kind.predict is not Method.predict

    def begin(self, stage):
        """Makes ``stage`` the current stage; called before its first step, and on a resume."""
        self.stage = stage
        # Attributes, so that a loss reads like its equation: hyper.alpha, hyper.beta.
        self.hyper = SimpleNamespace(**self.stages[stage])

    def forward(self, batch):
        """Returns the current stage's ``(loss, log_f)``."""
        # A stage in hyperparameters.toml has the name of the method that computes its loss.
        return getattr(self, self.stage)(batch)

    def log_f(self, x):
        """Returns ``log f(x, theta)``, ``(B, C)``, for images ``x``."""
        return log_softmax(self.net(x))

    def predict(self, x):
        """Returns scores ``(B, C)`` for evaluation; the largest one is the predicted class."""
        # Logits: the softmax does not change which one is the largest.
        return self.net(x)

    def after_backward(self, batch):
        """Called after the gradients of a batch are computed, before the optimizer's step."""

    def end_epoch(self, epoch, probe):
        """Called at the end of each epoch; labels may change here.

        A signal can end a query of ``probe``, and then all of this is repeated when the trial
        resumes: so nothing may change before the last query.

        Args:
            epoch (int): Epoch of the current stage, counted from 1.
            probe (Probe): What the method can query about the net and its data.
        """
