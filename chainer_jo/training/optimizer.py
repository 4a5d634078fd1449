"""Momentum SGD with weight decay whose learning rate a captured step sees change."""

import chainer
import numpy as np

from chainer_jo import backends


class MomentumSGD(chainer.optimizers.MomentumSGD):
    """Chainer's momentum SGD and weight decay; one kernel for all parameters where there is one.

    ``v <- momentum v - lr (g + weight_decay p);  p <- p + v``

    At a learning rate of 0 the parameters stand still (D-42): its setter takes ``v`` away, which
    would go on moving them.

    Args:
        momentum (float): Share of ``v`` that stays.
        weight_decay (float): Acts on all parameters (D-17).
    """

    def __init__(self, momentum, weight_decay):
        super().__init__(momentum=momentum)
        self.weight_decay = weight_decay

    def setup(self, link):
        super().setup(link)
        # On batch normalisation and biases too, unlike today's habit, as in the public code (D-17).
        self.add_hook(chainer.optimizer_hooks.WeightDecay(self.weight_decay))
        # A Python number would be frozen in a captured step; an array is read in every step.
        self.hyperparam.lr = link.device.send(np.zeros((), np.float32))
        for param in link.params():
            # Chainer makes `v` in the first step; a step that is captured has to find it.
            param.update_rule._init_states(param)
        return self

    @property
    def lr(self):
        """The learning rate, a float; it takes effect with the next step."""
        # Chainer's own property reads the array, which on a GPU means to wait for it.
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
        # As Chainer's update does: a parameter that the loss does not touch still decays.
        self.reallocate_cleared_grads()
        arrays = [
            (param.array, param.grad, param.update_rule.state['v'])
            for param in self.target.params()
        ]
        update_all(arrays, self.hyperparam.lr, self.momentum, self.weight_decay)
