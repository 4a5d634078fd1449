"""Forward correction with an estimated transition matrix ("Forward T^" in Patrini et al.).

Paper      Patrini, Rozza, Menon, Nock, Qu. Making Deep Neural Networks Robust to Label Noise: a
           Loss Correction Approach. CVPR 2017. arXiv 1609.03683
Idea       T is unknown. A net trained on noisy labels learns P(noisy | x). At an anchor x_i, an
           image that certainly shows class i, this is row i of T. Estimate T from the anchors, and
           train a new net with it as `forward` does.
Symbols    x_i = argmax_x f_i(x) without the top `drop` of f_i;  T_ij = f_j(x_i), rows normalised
           L = -log [T' f]_y
Differs    Not in the paper's tables. f is taken at the epoch with the best accuracy on the
           validation labels (clean by default, D-19); Patrini's code takes the lowest noisy loss.
"""

from chainer_jo.methods.estimated import EstimatedTransition
from chainer_jo.methods.forward import Forward


class ForwardEstimated(EstimatedTransition, Forward):
    pass
