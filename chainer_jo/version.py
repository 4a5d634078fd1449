"""The version of the package, where every room may read it; ``setup.py`` does, too."""

__version__ = '0.1.0'
