"""Iterators over the steps of a stage, by its epoch tables: resident or streamed images."""

import itertools

import chainer
from chainer import backend

from chainer_jo.functions.augment import augment
from chainer_jo.training.read_ahead import read_ahead


class TableIterator(chainer.dataset.Iterator):
    """Takes one row of the epoch tables after the other.

    A step has two parts. ``next`` runs on the host: it copies the row, and the images if streamed,
    into arrays with fixed addresses. :meth:`images` runs on the device and reads only those arrays,
    so that a CUDA graph can capture it.

    The iterator draws nothing and saves no table, because tables are a function of the epoch.

    Args:
        dataset (ResidentImages or StreamedImages): The training images.
        draw (callable): Maps an epoch, from 0, to its :class:`EpochTables` on the host.
        batch_size (int): ``B``.
        pad (int): Width of the border that is added to images without a margin.
        device (chainer.Device): The device of the rows.
        n (int): Images per epoch; by default all of the data set.
        size (int): Number of ranks that share a batch; the tables have the columns of one.

    Attributes:
        dataset (ResidentImages or StreamedImages): As given.
        row (EpochTables): One row of each table, on the device, for the current step.
        iteration (int): Steps of this stage so far.
        epoch (int): Completed epochs; the last step of an epoch counts it.
        is_new_epoch (bool): Whether the current step is the last of its epoch.
    """

    repeat = True

    def __init__(self, dataset, draw, batch_size, pad, device, n=None, size=1):
        self.dataset, self._draw, self._batch_size, self._pad = dataset, draw, batch_size, pad
        self._n, self._width = n or len(dataset), batch_size // size
        self.device, self.iteration, self.epoch, self.is_new_epoch = device, 0, 0, False
        self.row = self._tables = None

    def __next__(self):
        if self._tables is None or self.is_new_epoch:
            # Chainer's iterators draw an order and have to save it. A table for a whole epoch needs
            # no saved state, and only one copy to the device per epoch.
            self._tables = self._draw(self.epoch).to_device(self.device)
        step = self.iteration - self.first_iteration(self.epoch)
        # Into the arrays of the previous row: a captured step reads fixed addresses.
        self.row = self._tables.copy_row(step, self.row)
        self.iteration += 1
        self.is_new_epoch = self.iteration == self.first_iteration(self.epoch + 1)
        self.epoch += self.is_new_epoch
        return self.row

    def images(self):
        """Returns the augmented images of the row, ``(B, channels, H, W)``, float32."""
        raise NotImplementedError

    def first_iteration(self, epoch):
        """Returns the first iteration of ``epoch``, counted from 0; batches are always full."""
        # Rounded up: the batch that crosses the end of an epoch belongs to that epoch (D-35).
        return -(-epoch * self._n // self._batch_size)

    @property
    def epoch_detail(self):
        """Epochs so far, a float: images taken / images per epoch."""
        return self.iteration * self._batch_size / self._n

    @property
    def previous_epoch_detail(self):
        """:attr:`epoch_detail` one step ago, at least 0."""
        return max(0, self.iteration - 1) * self._batch_size / self._n

    def finalize(self):
        self._tables = None

    def serialize(self, serializer):
        self.iteration = int(serializer('iteration', self.iteration))
        self.epoch = int(serializer('epoch', self.epoch))
        self.is_new_epoch = bool(serializer('is_new_epoch', self.is_new_epoch))
        if isinstance(serializer, chainer.Deserializer):
            # Tables and images that were read ahead belong to another iteration.
            self.finalize()


class ResidentIterator(TableIterator):
    """Gathers each batch from images in the device's memory."""

    def images(self):
        row, dataset = self.row, self.dataset
        return augment(dataset.images, dataset.mean, row.index, row.offset, row.flip, self._pad)


class StreamedIterator(TableIterator):
    """Sends each batch to the device. Threads read ahead in the order of the tables."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        xp, source = self.device.xp, self.dataset.part.source
        self._ahead = None
        # Sent as bytes: a quarter of the traffic of float32 images.
        self._batch = xp.empty((self._width, *source.shape), 'B')
        # augment() gathers by index. A streamed batch is already gathered, so its indices are 0 to
        # B - 1.
        self._places = xp.arange(self._width, dtype='i')
        self._crops_itself = any(source.margin)
        if self._crops_itself:
            self._pad, self._offset = 0, xp.zeros((self._width, 2), 'i')

    def __next__(self):
        if self._ahead is None:
            self._ahead = read_ahead(self._read, self._rows())
        # Before the parent counts the step: _rows() starts from the current iteration.
        backend.copyto(self._batch, next(self._ahead))
        return super().__next__()

    def _rows(self):
        """Yields rows on the host from the current iteration on, without end."""
        step = self.iteration - self.first_iteration(self.epoch)
        for epoch in itertools.count(self.epoch):
            # Drawn a second time for the host: the threads are ahead of the rows on the device.
            tables = self._draw(epoch)
            for s in range(step, len(tables.index)):
                yield tables.copy_row(s)
            step = 0

    def _read(self, row):
        # A source without a margin reads whole images; the device pads and crops them.
        return self.dataset.read(row.index, row.offset if self._crops_itself else 0 * row.offset)

    def images(self):
        row = self.row
        offset = self._offset if self._crops_itself else row.offset
        mean = self.dataset.mean
        return augment(self._batch, mean, self._places, offset, row.flip, self._pad)

    def finalize(self):
        super().finalize()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
