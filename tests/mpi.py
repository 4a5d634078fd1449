"""Commands as several processes of a real MPI, and a slow reference for what they compute."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import chainer
import numpy as np
import pytest
import tiny

from chainer_jo.training import evaluation, parallel, processes
from chainer_jo.training.assembly import assemble
from chainer_jo.training.extensions import learning_rate
from chainer_jo.training.updaters import LabelCorrectionUpdater

# Chainer itself could not be the first import.
STEPS = ['-c', 'import chainer_jo, mpi; mpi.main()']
OUTPUTS = ['-c', 'import chainer_jo, mpi; mpi.save_outputs()']
PATIENCE = 100  # Seconds until a test gives up; nothing is expected to take long.
MPIEXEC = shutil.which('mpiexec', path=str(Path(sys.executable).parent))
NEEDED = pytest.mark.skipif(
    not (MPIEXEC and importlib.util.find_spec('mpi4py')),
    reason='mpi4py and an mpiexec beside python are not installed: pip install ".[mpi]"',
)


def start(size, words, log):
    """Starts ``python`` with some words as ``size`` processes, their output in a file."""
    with log.open('w') as file:
        return subprocess.Popen(
            [MPIEXEC, '-n', str(size), sys.executable, *map(str, words)],
            cwd=Path(__file__).parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def run(size, words, log):
    """Runs ``python`` as ``size`` processes to their end; returns their exit code."""
    return start(size, words, log).wait(PATIENCE)


def answer(size, words, log):
    """Runs ``python`` as ``size`` processes, which must end well; returns its last line of JSON."""
    code, said = run(size, words, log), log.read_text()
    assert code == 0, said
    return json.loads(said.splitlines()[-1])


def train(config, out, size, *more):
    """Runs a trial as ``size`` processes, which must end well."""
    code = run(size, ['-m', 'chainer_jo', *tiny.words(config, out, *more)], out.with_suffix('.log'))
    assert code == 0, out.with_suffix('.log').read_text()


def steps(config, stage, n, ranks):
    """Takes ``n`` steps of a trial's stage, batch normalisation in test mode.

    Returns the parameters and the labels, by name, without what only a trainer would add.
    """
    assembly = assemble(config, tiny.prepare(config), tiny.machine(ranks=ranks))
    updater = assembly.updater(stage)
    updater.optimizer.lr = 0.1
    ranks.begin(updater)
    with chainer.using_config('train', False):
        for _ in range(n):
            updater.update()
            if updater.is_new_epoch:
                ranks.end_epoch(updater)
                updater.correct_labels()
                updater.method.end_epoch(updater.epoch, None)
    return content(updater.method) | {'sums': updater.sums}


def content(method):
    """Returns parameters and persistent arrays, by name."""
    found = {}
    method.serialize(chainer.serializers.DictionarySerializer(found))
    return {name: np.array(value) for name, value in found.items()}


class Part(processes.Alone):
    """The columns of one of ``size`` ranks, in one process, which brings them together itself."""

    def __init__(self, rank, size):
        super().__init__(rank)
        self.size = size
        self.own = self.whole = None

    def mean(self, array):
        self.own = array
        return array if self.whole is None else self.whole


def emulate(config, size):
    """Trains a trial as ``size`` processes would, one after the other, with nothing but NumPy.

    Knows what the methods "ours" and "pencil" do. Returns as :func:`content`.
    """
    data = tiny.prepare(config)
    made = [assemble(config, data, tiny.machine(ranks=Part(r, size))) for r in range(size)]
    for stage, settings in config.stages.items():
        updaters = [one.updater(stage) for one in made]
        for epoch in range(settings['epochs']):
            for updater in updaters:
                updater.optimizer.lr = learning_rate(settings, epoch)
            while updaters[0].epoch == epoch:
                _step(updaters)
            _end_epoch(updaters, epoch + 1)
    return content(made[0].method)


def _step(updaters):
    methods, outputs = [u.method for u in updaters], []
    for updater in updaters:
        next(updater.iterator)
    _tell_the_mean(updaters)
    for updater, method in zip(updaters, methods, strict=True):
        loss, log_f = method(updater.batch())
        method.cleargrads()
        loss.backward()
        outputs.append(np.exp(log_f.array))
    index, turn = (
        np.concatenate([getattr(u.row, name) for u in updaters]) for name in ('index', 'turn')
    )
    for method in methods:
        if hasattr(methods[0], 'yt') and method.stage == 'correct':
            # The loss of the whole batch divides by its images.
            gradient = np.concatenate([m.yt.grad for m in methods]) / len(methods)
            np.subtract.at(method.labels.logits, index, method.lam * gradient)
        elif isinstance(updaters[0], LabelCorrectionUpdater):
            method.labels.record(np.concatenate(outputs), index, turn)
    for params in zip(*(method.params() for method in methods), strict=True):
        if params[0].grad is not None:
            mean = sum(param.grad for param in params) / len(params)
            for param in params:
                param.grad = mean.copy()
    for updater in updaters:
        updater.optimizer.update()


def _tell_the_mean(updaters):
    """Finds the mean output of the whole batch, by copies whose statistics nobody uses."""
    ranks = [updater.ranks for updater in updaters]
    for part, updater in zip(ranks, updaters, strict=True):
        part.own = part.whole = None
        method = updater.method.copy('copy')
        # Chainer copies what a method is bound to as well.
        method.mean = part.mean
        method(updater.batch())
    for part in ranks if ranks[0].own is not None else ():
        part.whole = sum(other.own for other in ranks) / len(ranks)


def _end_epoch(updaters, epoch):
    contents = [content(updater.method) for updater in updaters]
    for updater in updaters:
        for path, link in updater.method.namedlinks():
            for name in ('avg_mean', 'avg_var'):
                if hasattr(link, name):
                    values = [c[f'{path[1:]}/{name}'] for c in contents]
                    getattr(link, name)[...] = sum(values) / len(values)
        updater.correct_labels()
        updater.method.end_epoch(epoch, None)


def main():
    """Takes N steps as one of the ranks, and writes its file: METHOD STAGE N FILE SETTING..."""
    method, stage, n, file, *settings = sys.argv[1:]
    ranks = parallel.join()
    np.savez(f'{file}{ranks.rank}', **steps(tiny.config(method, *settings), stage, int(n), ranks))


def save_outputs():
    """Computes the outputs for all images as one of the ranks, and writes its file: FILE."""
    ranks, (file,) = parallel.join(), sys.argv[1:]
    made, read = tiny.assembly(tiny.config('ours', 'common.batch_size=48'), ranks=ranks), []
    method, log_f = made.method, made.method.log_f
    method.log_f = lambda x: read.append(len(x)) or log_f(x)
    f = evaluation.outputs(method, made.train, ranks=ranks)
    np.savez(f'{file}{ranks.rank}', f=f, read=sum(read))
