"""Every random choice of one epoch, drawn on the host before it starts.

A table is a function of (seed, stage, epoch), so a resumed trial recomputes it, the CPU and the GPU
use the same numbers, and a step that reads it by row can be captured whole.
"""

from dataclasses import dataclass, fields
from typing import Any

from chainer_jo.datasets.augment import crops, flips, mixing
from chainer_jo.datasets.streams import balanced_batches, batches, rng


@dataclass
class EpochTables:
    """The choices for ``S`` mini-batches of ``B`` images; row ``s`` belongs to step ``s``.

    Attributes:
        index: Places in the training set, ``(S, B)``, int32.
        turn: In which epoch of the stage the image is drawn here, ``(S, B)``, int32; the batch that
            closes an epoch already holds the first images of the next.
        offset: Crop offsets ``(S, B, 2)``, int32 in ``[0, 2 pad]``, or in ``[0, margin]`` of a
            source that has one; vertical first.
        flip: Whether to mirror, ``(S, B)``, bool.
        partner: Mix-up partner, ``(S, B)``, int32 in ``[0, B)``; ``None`` where nothing is mixed.
        lam: Mix-up weight, ``(S,)`` or ``(S, B)``, float32; ``None`` where nothing is mixed.
    """

    index: Any
    turn: Any
    offset: Any
    flip: Any
    partner: Any = None
    lam: Any = None

    def _drawn(self):
        tables = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: table for name, table in tables.items() if table is not None}

    def part(self, rank, size):
        """Returns the columns of one of ``size`` ranks; partners are among them (D-54)."""
        width = self.index.shape[1] // size
        columns = slice(rank * width, (rank + 1) * width)
        tables = {
            name: table[:, columns] if table.ndim > 1 else table
            for name, table in self._drawn().items()
        }
        if self.partner is not None:
            # The order of some of the numbers in a random permutation is itself a random
            # permutation.
            tables['partner'] = tables['partner'].argsort(axis=1).argsort(axis=1).astype('i')
        return EpochTables(**tables)

    def to_device(self, device):
        """Returns the tables as arrays on a ``chainer.Device``."""
        return EpochTables(**{name: device.send(table) for name, table in self._drawn().items()})

    def copy_row(self, s, row=None):
        """Returns a copy of row ``s`` of every table, in the arrays of an earlier one if given."""
        if row is None:
            # With `...` a single weight per batch stays an array: a number would be frozen in a
            # captured step.
            return EpochTables(**{name: t[s, ...].copy() for name, t in self._drawn().items()})
        for name, table in self._drawn().items():
            getattr(row, name)[...] = table[s]
        return row


def images_per_epoch(n, common):
    """Returns how many images an epoch draws of ``n``, by the section ``[common]``."""
    return common.get('balanced_batches', 0) * common['batch_size'] or n


def draw(seed, stage, epoch, n, common, margin=(0, 0), mixing=None, labels=None):
    """Returns the :class:`EpochTables` for epoch ``epoch`` (0 for the first) of a stage.

    Args:
        seed (int): The trial's seed.
        stage (str): The stage's name: each stage draws from its own streams.
        n (int): Number of training images.
        common (dict): ``batch_size``, ``pad`` (pixels), ``flip`` and, where there is a choice,
            ``balanced_batches``: batches an epoch with as many images of every class (D-30).
        margin (tuple): Of the source of the images. Where there is none they are padded, and crops
            move over the border.
        mixing (dict): Parameters of :func:`add_mixing` where batches are mixed.
        labels (numpy.ndarray): Given labels, ``(n,)``, integers, where batches may be balanced.
    """
    batch_size, balanced = common['batch_size'], common.get('balanced_batches', 0)
    order = f'{stage}/order'
    if balanced:
        index, turn = balanced_batches(seed, order, epoch, labels, balanced, batch_size)
    else:
        index, turn = batches(seed, order, epoch, n, batch_size)
    # A source with a margin has larger images than the net sees, so they are cropped without
    # padding.
    limit = margin if any(margin) else 2 * common['pad']
    offset = crops(rng(seed, f'{stage}/crop', epoch), index.shape, limit)
    flip = flips(rng(seed, f'{stage}/flip', epoch), index.shape) & common['flip']
    tables = EpochTables(index, turn, offset, flip)
    if mixing:
        add_mixing(tables, seed, stage, epoch, **mixing)
    return tables


def add_mixing(tables, seed, stage, epoch, a, per):
    """Draws mix-up partners and weights ``lam ~ Beta(a, a)`` into ``tables`` (Eq. 8; D-10 to D-12).

    Args:
        per (str): ``batch`` for one weight a mini-batch, ``sample`` for one an image.
    """
    # A separate random stream: a stage without mix-up has the same order, crops and flips as one
    # with it.
    generator = rng(seed, f'{stage}/mix', epoch)
    tables.lam, tables.partner = mixing(generator, *tables.index.shape, a, per)
