"""What every test shares."""

from hypothesis import settings

import chainer_jo  # noqa: F401  Chainer can be imported only after it, and tests import Chainer first

# The same examples on every machine, and no time limit on a busy one.
settings.register_profile('reproducible', deadline=None, derandomize=True)
settings.load_profile('reproducible')
