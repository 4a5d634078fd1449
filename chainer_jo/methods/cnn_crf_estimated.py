"""CNN-CRF with an estimated auxiliary distribution, re-implemented from the equations.

Paper      Vahdat. Toward Robustness against Label Noise in Training Deep Discriminative Neural
           Networks. NIPS 2017. arXiv 1706.00038
Idea       As `cnn_crf`, for unknown noise: p_aux is Bayes' rule on the matrix that is estimated
           from a first training, as in `forward_estimated`.
Symbols    p_aux(y_hat | y) = T[y_hat, y] / sum_i T[i, y];  T_ij = f_j(x_i) at the anchors x_i
Differs    As `cnn_crf` and `forward_estimated`. Vahdat learns the auxiliary distribution from clean
           labels, and there are none here.
Measured   Quick preset, symmetric 70 % (`quick_all_systems`), `last`: 36.15, below cross
           entropy's 36.50, for the reason that the card of `cnn_crf` gives; 60.30 at its best
           epoch. With negative_phase = "pcd" it is 62.45.
"""

from chainer_jo.methods.cnn_crf import CNNCRF
from chainer_jo.methods.estimated import EstimatedTransition


class CNNCRFEstimated(EstimatedTransition, CNNCRF):
    pass
