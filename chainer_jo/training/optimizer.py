"""Momentum SGD with weight decay whose learning rate can change in a captured step."""

import chainer
import numpy as np

from chainer_jo import backends


class MomentumSGD(chainer.optimizers.MomentumSGD):
    """Chainer's momentum SGD with weight decay, as one kernel for all parameters if available.

    ``v <- momentum v - lr (g + weight_decay p);  p <- p + v``

    At a learning rate of 0 the parameters do not move (D-42): setting it to 0 also clears ``v``,
    which would otherwise keep moving them.

    Args:
        momentum (float): Factor by which ``v`` is kept.
        weight_decay (float): Applied to all parameters (D-17).
    """

    def __init__(self, momentum, weight_decay):
        super().__init__(momentum=momentum)
        self.weight_decay = weight_decay

    def setup(self, link):
        super().setup(link)
        # On batch normalisation and biases too, as in the public code; today's practice is to leave
        # them out (D-17).
        self.add_hook(chainer.optimizer_hooks.WeightDecay(self.weight_decay))
        # A Python number would be frozen in a captured step; an array is read in every step.
        self.hyperparam.lr = link.device.send(np.zeros((), np.float32))
        for param in link.params():
            # Chainer creates `v` in the first step, but a captured step must not allocate it.
            param.update_rule._init_states(param)
        return self

    @property
    def lr(self):
        """The learning rate, a float. A new value takes effect in the next step."""
        # Chainer's own property would read the array, and on a GPU wait for it.
        return self._lr

    @lr.setter
    def lr(self, value):
        self._lr = value
        self.hyperparam.lr[...] = value
        if value == 0:
            for param in self.target.params():
                param.update_rule.state['v'][...] = 0

    def update(self, lossfun=None, *args, **kwds):
        update_all = backends.op('update', self.hyperparam.lr)
        if lossfun is not None or update_all is None:
            super().update(lossfun, *args, **kwds)
            return
        # As in Chainer's update: a parameter without a gradient still decays.
        self.reallocate_cleared_grads()
        arrays = [
            (param.array, param.grad, param.update_rule.state['v'])
            for param in self.target.params()
        ]
        update_all(arrays, self.hyperparam.lr, self.momentum, self.weight_decay)
