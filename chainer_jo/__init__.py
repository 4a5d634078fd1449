"""Learning with noisy labels: mix-up with KL entropy (arXiv 1908.05488), in Chainer."""

from chainer_jo import compat

__version__ = '0.1.0'

# Chainer 7.8.1 cannot be imported on today's NumPy without this, so no module of the package may
# be importable before it has run. It imports neither Chainer nor NumPy.
compat.install()
