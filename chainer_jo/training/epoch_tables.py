"""Tables of all random choices of one epoch, drawn on the host before the epoch starts.

A table is a function of (seed, stage, epoch). A resumed trial recomputes it, CPU and GPU use the
same numbers, and a step that reads one row can be captured completely.
"""

from dataclasses import dataclass, fields
from typing import Any

from chainer_jo.datasets.augment import crops, flips, mixing
from chainer_jo.datasets.streams import balanced_batches, batches, rng


@dataclass
class EpochTables:
    """The choices for ``S`` mini-batches of ``B`` images; row ``s`` belongs to step ``s``.

    Attributes:
        index: Indices in the training set, ``(S, B)``, int32.
        turn: Epoch of the stage to which each image belongs, ``(S, B)``, int32; the last batch of
            an epoch already has the first images of the next.
        offset: Crop offsets, rows first, ``(S, B, 2)``, int32 in ``[0, 2 pad]``, or in
            ``[0, margin]`` if the source has a margin.
        flip: Whether to mirror, ``(S, B)``, bool.
        partner: Mix-up partner, ``(S, B)``, int32 in ``[0, B)``; ``None`` without mix-up.
        lam: Mix-up weight, ``(S,)`` or ``(S, B)``, float32; ``None`` without mix-up.
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
        """Returns the columns of one of ``size`` ranks, with partners within them (D-54)."""
        width = self.index.shape[1] // size
        columns = slice(rank * width, (rank + 1) * width)
        tables = {
            name: table[:, columns] if table.ndim > 1 else table
            for name, table in self._drawn().items()
        }
        if self.partner is not None:
            # The ranks of some numbers of a random permutation are again a random permutation.
            tables['partner'] = tables['partner'].argsort(axis=1).argsort(axis=1).astype('i')
        return EpochTables(**tables)

    def to_device(self, device):
        """Returns the tables as arrays on a ``chainer.Device``."""
        return EpochTables(**{name: device.send(table) for name, table in self._drawn().items()})

    def copy_row(self, s, row=None):
        """Returns a copy of row ``s`` of every table, in the arrays of ``row`` if given."""
        if row is None:
            # With `...` a single weight per batch stays an array. A number would become a constant
            # of the captured step.
            return EpochTables(**{name: t[s, ...].copy() for name, t in self._drawn().items()})
        for name, table in self._drawn().items():
            getattr(row, name)[...] = table[s]
        return row


def images_per_epoch(n, common):
    """Returns the number of images in an epoch, from the section ``[common]``; ``n`` by default."""
    return common.get('balanced_batches', 0) * common['batch_size'] or n


def draw(seed, stage, epoch, n, common, margin=(0, 0), mixing=None, labels=None):
    """Draws the :class:`EpochTables` of one epoch of a stage.

    Args:
        seed (int): The trial's seed.
        stage (str): The stage's name; each stage draws from its own random streams.
        epoch (int): Counted from 0.
        n (int): Number of training images.
        common (dict): ``batch_size``, ``pad`` (pixels), ``flip``, and optionally
            ``balanced_batches``: batches per epoch, with the same number of images of every class
            (D-30).
        margin (tuple): Margin of the source. Without one, images are padded before the crop.
        mixing (dict): Parameters of :func:`add_mixing`, for stages with mix-up.
        labels (numpy.ndarray): Given labels, ``(n,)``, integers, for balanced batches.
    """
    batch_size, balanced = common['batch_size'], common.get('balanced_batches', 0)
    order = f'{stage}/order'
    if balanced:
        index, turn = balanced_batches(seed, order, epoch, labels, balanced, batch_size)
    else:
        index, turn = batches(seed, order, epoch, n, batch_size)
    # Images with a margin are larger than the net's input, so they are cropped without padding.
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
        per (str): ``batch`` for one weight per mini-batch, ``sample`` for one per image.
    """
    # A separate random stream, so that order, crops and flips are the same with and without mix-up.
    generator = rng(seed, f'{stage}/mix', epoch)
    tables.lam, tables.partner = mixing(generator, *tables.index.shape, a, per)
