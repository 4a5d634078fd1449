"""Writes the columns of ``log.jsonl`` for TensorBoard, which plots them during training."""

import importlib.util

from chainer import training

from chainer_jo.errors import ConfigError
from chainer_jo.training.extensions import epoch_end

FOLDER = 'tensorboard'


def check():
    """Raises ConfigError unless tensorboardX, which writes event files, is installed."""
    if importlib.util.find_spec('tensorboardX') is None:
        raise ConfigError(
            'cannot write for TensorBoard', seen='no tensorboardX', fix='pip install tensorboardX'
        )


class TensorBoard(training.Extension):
    """Writes each new row of the log to ``tensorboard/`` in the trial's folder.

    Args:
        folder (pathlib.Path): The trial's folder.
        rows (list of dict): Rows of the epochs so far; :class:`~extensions.Log` appends to them.
    """

    trigger = staticmethod(epoch_end)

    def __init__(self, folder, rows):
        self.folder, self.rows, self._writer, self._written = folder / FOLDER, rows, None, 0

    def initialize(self, trainer):
        from tensorboardX import SummaryWriter

        # Every stage and process writes all rows again. Otherwise epochs that are trained twice
        # after a kill would be plotted twice.
        for path in self.folder.glob('events.*'):
            path.unlink()
        self._writer = SummaryWriter(str(self.folder))
        self._write()

    def __call__(self, trainer):
        self._write()

    def _write(self):
        for row in self.rows[self._written :]:
            for name, value in row.items():
                if type(value) in (int, float) and name != 'epoch':
                    self._writer.add_scalar(name, value, row['epoch'])
        self._written = len(self.rows)
        self._writer.flush()

    def finalize(self):
        if self._writer:
            self._writer.close()
