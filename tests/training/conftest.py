"""Signals that arrive while a test trains."""

import itertools
import os
import signal

import chainer
import pytest
import tiny


@pytest.fixture
def sigterm_at(monkeypatch):
    """SIGTERM arrives in the middle of the given steps of every stage, as one from outside does."""
    update, count = chainer.GradientMethod.update, itertools.count(1)

    def install(steps):
        def interrupted(optimizer, *arguments):
            if next(count) % tiny.STEPS in {step % tiny.STEPS for step in steps}:
                os.kill(os.getpid(), signal.SIGTERM)
            update(optimizer, *arguments)

        monkeypatch.setattr(chainer.GradientMethod, 'update', interrupted)

    return install
