"""Momentum SGD with weight decay whose learning rate a captured step sees change."""

import chainer
import numpy as np

from chainer_jo import backends
from chainer_jo.backends import kernels

# So many that the kernel's arguments stay below the 4 KB that every GPU takes.
TENSORS = 120
_Tensors = np.dtype(
    [
        *((name, np.uint64, TENSORS) for name in ('p', 'g', 'v')),
        *((name, np.int32, TENSORS) for name in ('size', 'first_block')),
    ]
)


class MomentumSGD(chainer.optimizers.MomentumSGD):
    """Chainer's momentum SGD and weight decay; on cuDNN's arrays one kernel for all parameters.

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
        self.add_hook(chainer.optimizer_hooks.WeightDecay(self.weight_decay))
        self.hyperparam.lr = link.device.send(np.zeros((), np.float32))
        for param in link.params():
            # Chainer makes `v` in the first step; a step that is captured has to find it.
            param.update_rule._init_states(param)
        return self

    @property
    def lr(self):
        """The learning rate, a float; it takes effect with the next step."""
        return self._lr

    @lr.setter
    def lr(self, value):
        self._lr = value
        self.hyperparam.lr[...] = value
        if value == 0:
            for param in self.target.params():
                param.update_rule.state['v'][...] = 0

    def update(self, lossfun=None, *args, **kwds):
        if lossfun is None and backends.name_for(self.hyperparam.lr) == 'cudnn':
            self._update_at_once()
        else:
            super().update(lossfun, *args, **kwds)

    def _update_at_once(self):
        self.reallocate_cleared_grads()
        arrays = [
            (param.array, _like(param.grad, param.array), param.update_rule.state['v'])
            for param in self.target.params()
        ]
        factors = np.float32(self.momentum), np.float32(self.weight_decay)
        kernel = kernels.function('update', 'update', TENSORS=TENSORS)
        for start in range(0, len(arrays), TENSORS):
            group = arrays[start : start + TENSORS]
            tensors, blocks = _pack(group)
            arguments = (tensors, np.int32(len(group)), self.hyperparam.lr, *factors)
            kernel((blocks,), (kernels.THREADS,), arguments)


def _like(array, other):
    """Returns an array that lies in memory as ``other`` does: both are read in one order."""
    steps = zip(array.shape, array.strides, other.strides, strict=True)
    # The stride of an axis of length 1 says nothing: weights of 1x1 have it either way.
    if all(length == 1 or stride == wanted for length, stride, wanted in steps):
        return array
    copy = chainer.backend.get_array_module(other).empty_like(other)
    copy[...] = array
    return copy


def _pack(arrays):
    """Returns the kernel's ``Tensors`` of at most as many ``(p, g, v)``, and its blocks."""
    tensors, blocks = np.zeros((), _Tensors), 0
    for t, triple in enumerate(arrays):
        for name, array in zip('pgv', triple, strict=True):
            tensors[name][t] = _address(array)
        tensors['size'][t], tensors['first_block'][t] = triple[0].size, blocks
        blocks += -(-triple[0].size // kernels.THREADS)
    return tensors, blocks


def _address(array):
    on_gpu = hasattr(array, '__cuda_array_interface__')
    interface = array.__cuda_array_interface__ if on_gpu else array.__array_interface__
    return interface['data'][0]
