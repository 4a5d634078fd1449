"""Improved mix-up with KL entropy: the paper's own method ("Our method" in the tables).

Paper      Zhang, Lee, Wang, Chen. Improved Mix-up with KL-Entropy for Learning From Noisy Labels.
           arXiv 1908.05488
Idea       Correct the labels as Tanaka et al. do (Algorithm 1). Some stay wrong, so fine-tune the
           same net on the KL divergence plus mix-up, which resists memorising them (Algorithm 2).
Symbols    f = softmax output (B, C);  y = corrected soft labels (B, C), rows sum to 1
           lam ~ Beta(a, a);  x~ = lam x_i + (1 - lam) x_j, Eq. (8);  L = L_c + L_mix
Differs    D-01 to D-09 (labels), D-10 to D-15 (mix-up), D-16 (same net), D-26 (L_c or L_mix alone)
"""

from chainer_jo.functions.losses import kl_divergence, mix_up_loss
from chainer_jo.methods.tanaka import Tanaka


class Ours(Tanaka):
    def fine_tune(self, batch):
        log_f = self.log_f(batch.x)
        L_c = kl_divergence(batch.y, log_f)
        # The plain pass is needed even with L_mix alone, for training accuracy and outputs (D-14).
        if self.hyper.loss == 'kl':
            return L_c, log_f
        # A separate pass: for batch normalisation, plain and mixed images are two batches (D-14).
        log_f_mixed = self.log_f(batch.x_mixed)
        L_mix = mix_up_loss(batch.y, batch.partner, batch.lam, log_f_mixed)
        return (L_mix if self.hyper.loss == 'mix' else L_c + L_mix), log_f
