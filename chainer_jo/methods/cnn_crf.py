"""CNN-CRF, re-implemented from the equations; there is no reference code.

Paper      Vahdat. Toward Robustness against Label Noise in Training Deep Discriminative Neural
           Networks. NIPS 2017. arXiv 1706.00038
Idea       The clean label is a hidden variable. A net and a matrix W score each pair (clean,
           noisy), and EM maximises the likelihood of the noisy labels. An auxiliary distribution
           regularises the hidden label, strongly at first.
Symbols    y_hat, y = clean and noisy class;  a(x) = logits (B, C);  W (C, C), b (C,) learned
           s = a_y_hat(x) + b_y + W[y_hat, y];  p(y_hat, y | x) = exp(s) / Z(x)
           q ~ [p(y_hat | y, x) p_aux(y_hat | y)^alpha]^(1 / (1 + alpha));  L = -E_q[s] + log Z
Differs    One-hot labels and no clean ones: 100 states, so all sums are exact. The setting
           negative_phase = "pcd" selects Vahdat's Gibbs chains. No hidden units: summed out, they
           only add a function of y, which b already is. p_aux is Bayes' rule on the true T
           ("oracle", as for `forward`), or keeps the noisy label with probability 1 - epsilon
           ("prior"); `cnn_crf_estimated` uses an estimated T. alpha and the schedule are ours.
Measured   Quick preset, symmetric 70 % (`quick_all_systems`), `last`: 31.80, below cross
           entropy's 36.50, though 63.15 at its best epoch. We suppose that it memorises: that
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

#: Steps of the golden ratio, modulo 1, are spread evenly and never repeat.
GOLDEN = 0.618034


class CNNCRF(Method):
    @classmethod
    def uses_true_T(cls, stages):
        return stages['train']['auxiliary'] == 'oracle'

    def setup(self, noisy_labels, T):
        settings, n_class = self.stages['train'], self.n_class
        with self.init_scope():
            # Parameters: the optimizer updates them, with weight decay, like weights of the net.
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
        # For the first epoch, seeded by the labels: a method has no generator before `end_epoch`.
        self.add_persistent(
            'uniform', np.random.default_rng(noisy_labels).random((len(chains), 2), 'f')
        )

    def know(self, T):
        """Sets ``p_aux(y_hat | y)`` by Bayes' rule on ``T``, ``(C, C)``, with a uniform prior."""
        xp = self.xp
        p_aux = T / xp.maximum(T.sum(axis=0), TINY)
        self.log_auxiliary[...] = xp.log(xp.maximum(p_aux, TINY))

    @property
    def pair(self):
        """``b_y + W[y_hat, y]``, a Variable ``(C, C)``."""
        return self.W + self.b

    def predict(self, x):
        # Not just the net's logits: W and b also contribute to the clean class.
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

        Its gradient estimates that of ``log Z``, but its value does not estimate ``log Z``.
        """
        one_hot = self.xp.eye(len(pair), dtype='f')
        own, images = self.uniform[index], self.gather(index)
        y_hat, y = crf.gibbs_sweep(a.array, pair.array, self.chain[index], own)
        scatter.put(self.chain, images, self.gather(y))
        # An image may come again before `end_epoch`, and with the same numbers its chain would
        # hardly move.
        scatter.put(self.uniform, images, self.gather((own + GOLDEN) % 1))
        return F.sum(one_hot[y_hat] * crf.clamped_scores(a, pair, one_hot[y]))

    def end_epoch(self, epoch, probe):
        fallen = min(epoch / self.hyper.alpha_epochs, 1)
        first, last = self.hyper.alpha_first, self.hyper.alpha_last
        self.alpha[...] = first + fallen * (last - first)
        self.uniform[...] = self.xp.asarray(probe.rng('gibbs').random(self.uniform.shape, 'f'))
