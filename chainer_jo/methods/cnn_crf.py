"""CNN-CRF, our re-implementation from the equations; no reference code exists.

Paper      Vahdat. Toward Robustness against Label Noise in Training Deep Discriminative Neural
           Networks. NIPS 2017. arXiv 1706.00038
Idea       The clean label is hidden. A net and a matrix W score each pair (clean, noisy); EM raises
           the likelihood of the noisy labels. An auxiliary distribution holds the hidden label
           near sense, strongly at first.
Symbols    y_hat, y = clean and noisy class;  a(x) = logits (B, C);  W (C, C), b (C,) learned
           s = a_y_hat(x) + b_y + W[y_hat, y];  p(y_hat, y | x) = exp(s) / Z(x)
           q ~ [p(y_hat | y, x) p_aux(y_hat | y)^alpha]^(1 / (1 + alpha));  L = -E_q[s] + log Z
Differs    One-hot labels and no clean ones: 100 states, all sums exact. Vahdat's Gibbs chains are
           the switch negative_phase = "pcd". No hidden units: summed out, they add a function of
           y alone, which b already is. p_aux is Bayes' rule on the true T ("oracle", as for
           `forward`) or keeps the noisy label with probability 1 - epsilon ("prior");
           `cnn_crf_estimated` takes an estimated T. alpha and schedule are ours.
Measured   Quick preset, symmetric 70 % (`quick_all_systems`), `last`: 31.80, below cross
           entropy's 36.50, though 63.15 at its best epoch. We suppose that it memorises: doing so
           raises the exact likelihood of the noisy labels, and W and b, which are learned, do not
           prevent it. With Gibbs chains, negative_phase = "pcd", it is 72.40.
"""

import chainer
import chainer.functions as F
import numpy as np

from chainer_jo.functions import crf, scatter
from chainer_jo.functions.log_softmax import log_softmax
from chainer_jo.functions.loss_correction import TINY
from chainer_jo.functions.product import product
from chainer_jo.methods.base import Method


class CNNCRF(Method):
    @classmethod
    def uses_true_T(cls, stages):
        return stages['train']['auxiliary'] == 'oracle'

    def setup(self, noisy_labels, T):
        settings, n_class = self.stages['train'], self.n_class
        with self.init_scope():
            # In init_scope: the optimizer, weight decay included, treats them as weights of the
            # net.
            self.b = chainer.Parameter(np.zeros(n_class, 'f'))
            self.W = chainer.Parameter(np.zeros((n_class, n_class), 'f'))
        self.add_persistent('alpha', np.array(settings['alpha_first'], 'f'))
        self.add_persistent('log_auxiliary', np.empty((n_class, n_class), 'f'))
        if settings.get('auxiliary') == 'prior':
            wrong = settings['epsilon']
            T = np.full((n_class, n_class), wrong / (n_class - 1))
            np.fill_diagonal(T, 1 - wrong)
        self.know(T)
        chains = noisy_labels if settings['negative_phase'] == 'pcd' else noisy_labels[:0]
        self.add_persistent('chain', chains.astype(np.int32))
        # Until the end of the first epoch the seed is derived from the labels.
        self.add_persistent(
            'uniform', np.random.default_rng(noisy_labels).random((len(chains), 2), 'f')
        )

    def know(self, T):
        """Makes ``p_aux(y_hat | y)`` Bayes' rule on ``T``, ``(C, C)``, and equal classes."""
        xp = self.xp
        p_aux = T / xp.maximum(T.sum(axis=0), TINY)
        self.log_auxiliary[...] = xp.log(xp.maximum(p_aux, TINY))

    @property
    def pair(self):
        """``b_y + W[y_hat, y]``, a Variable ``(C, C)``."""
        return self.W + self.b

    def predict(self, x):
        # Not the net's logits alone: W and b contribute to the clean class as well.
        return crf.clean_scores(self.net(x), self.pair)

    def log_f(self, x):
        return log_softmax(self.predict(x))

    def train(self, batch):
        a, pair = self.net(batch.x), self.pair
        s = crf.clamped_scores(a, pair, batch.y)
        log_auxiliary = product(batch.y, self.log_auxiliary, transposed=True).array
        q = crf.e_step(s.array, log_auxiliary, self.alpha)
        clean = crf.clean_scores(a, pair)
        if self.hyper.negative_phase == 'pcd':
            negative = self.score_of_chains(a, pair, batch.index)
        else:
            negative = F.sum(F.logsumexp(clean, axis=1))
        return (negative - F.sum(q * s)) / len(q), log_softmax(clean)

    def score_of_chains(self, a, pair, index):
        """Moves the images' chains by one sweep and returns the sum of ``s`` over their states.

        Its gradient is an estimate of that of ``log Z``; its value is not.
        """
        one_hot = self.xp.eye(len(pair), dtype='f')
        y_hat, y = crf.gibbs_sweep(a.array, pair.array, self.chain[index], self.uniform[index])
        scatter.put(self.chain, self.gather(index), self.gather(y))
        return F.sum(one_hot[y_hat] * crf.clamped_scores(a, pair, one_hot[y]))

    def end_epoch(self, epoch, probe):
        fallen = min(epoch / self.hyper.alpha_epochs, 1)
        first, last = self.hyper.alpha_first, self.hyper.alpha_last
        self.alpha[...] = first + fallen * (last - first)
        self.uniform[...] = self.xp.asarray(probe.rng('gibbs').random(self.uniform.shape, 'f'))
