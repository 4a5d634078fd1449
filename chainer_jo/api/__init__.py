"""The public API: what ``import chainer_jo`` offers, one file per subject.

Each function checks its arguments and calls the internal module that does the work. Nothing is
implemented twice.
"""
