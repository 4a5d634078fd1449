"""Backward correction with an estimated transition matrix.

Paper      Patrini, Rozza, Menon, Nock, Qu. Making Deep Neural Networks Robust to Label Noise: a
           Loss Correction Approach. CVPR 2017. arXiv 1609.03683
Idea       Estimate T as `forward_estimated` does, then train a new net as `backward` does.
Symbols    x_i = argmax_x f_i(x) without the top `drop` of f_i;  T_ij = f_j(x_i), rows normalised
           L = [T^-1 l]_y with l_j = -log f_j
Differs    Not in the paper's tables. f as in `forward_estimated`; log f is clipped as in
           `backward`. An estimated T is hardly ever singular, but its inverse may have large
           entries, which make the steps large: the quick preset needs a tenth of the learning rate.
"""

from chainer_jo.methods.backward import Backward
from chainer_jo.methods.estimated import EstimatedTransition


class BackwardEstimated(EstimatedTransition, Backward):
    pass
