"""Methods without a net: the images are the logits, so that every gradient can be written down."""

import chainer
import numpy as np

from chainer_jo import config, methods
from chainer_jo.functions.losses import mix_up
from chainer_jo.methods.base import Batch


class Bare(chainer.Chain):
    """A net that returns its images."""

    def forward(self, x):
        return x


def method(name, labels, *overrides, n_class=3, noise='symmetric', rate=0.7, dataset='cifar10'):
    """Returns a method at the paper's settings but for ``overrides``, at its first stage."""
    stages = config.trial(name, dataset, noise, rate, 0, overrides=overrides).stages
    made = methods.load(name)(Bare(), np.array(labels), n_class, stages, np.eye(n_class))
    made.begin(next(iter(stages)))
    return made


def batch(method, z, index, **mixing):
    """Returns the Batch of the images ``index`` whose logits are ``z``."""
    index = np.array(index, 'i')
    x = chainer.Variable(np.array(z, 'f'))
    if mixing:
        mixing['x_mixed'] = mix_up(x, **mixing)
    return Batch(x, index, method.labels.y[index], **mixing)


def backward(method, batch):
    """Returns the loss as a number, and its gradient at the logits; the labels make their step."""
    loss, _ = method(batch)
    method.cleargrads()
    loss.backward()
    method.after_backward(batch)
    return float(loss.array), batch.x.grad


def slope(loss, z, step=1e-5):
    """Returns the gradient of ``loss`` at ``z`` by central differences in float64."""
    z = np.array(z, 'd')
    gradient = np.empty_like(z)
    for place in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (loss(up) - loss(down)) / (2 * step)
    return gradient


def softmax(z):
    """Returns the softmax of one row, float64."""
    e = np.exp(np.array(z, 'd') - max(z))
    return e / e.sum()
