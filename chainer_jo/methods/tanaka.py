"""Joint optimisation of net and labels ("Tanaka et al." in the tables).

Paper      Tanaka, Ikami, Yamasaki, Aizawa. Joint Optimization Framework for Learning with Noisy
           Labels. CVPR 2018. arXiv 1803.11364
Idea       A high learning rate keeps the net from memorising wrong labels. Train with it, and from
           epoch `begin` on replace every label by the mean of the net's last `window` outputs for
           its image (the updater "label_correction"). Then train a new net on the final labels.
Symbols    f = softmax output (B, C);  y = soft labels (B, C), rows sum to 1;  p = 1/C
           L = L_c + alpha L_p + beta L_e, Eq. (3)
Differs    D-01 to D-09 (labels), D-16 (new net in the second stage), D-32 (alpha, beta, rate)
"""

from chainer_jo.functions.losses import joint_loss, kl_divergence
from chainer_jo.methods.base import Method


class Tanaka(Method):
    pins = True

    def correct(self, batch):
        log_f = self.log_f(batch.x)
        return joint_loss(batch.y, log_f, self.hyper.alpha, self.hyper.beta, self.mean), log_f

    def retrain(self, batch):
        log_f = self.log_f(batch.x)
        # Without L_p and L_e, which guard against degenerate labels: here the labels are fixed.
        return kl_divergence(batch.y, log_f), log_f
