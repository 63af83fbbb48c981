"""Which examples each member sees at each step: a function of its seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainers.seeding import Stream, generator


class Order:
    """Mini-batches of each member's own shuffled epochs over shared data; an incomplete last batch is left out."""

    def __init__(self, x: Tensor, y: Tensor, seeds: Sequence[int], stream: Stream, batch_size: int) -> None:
        self.x, self.y = x, y
        self.seeds, self.stream = seeds, stream
        self.batch_size = batch_size or len(y)
        self.per_epoch = len(y) // self.batch_size
        self.epoch = -1
        self.batches: tuple[Tensor, ...] = ()  # of this epoch, which examples, [P·B] each
        self.labels: tuple[Tensor, ...] = ()  # and their labels, [P, B] each
        self.drawn = x.new_empty(0)

    @property
    def is_whole(self) -> bool:
        """Whether a batch is the whole set. Then its order makes no difference, and nothing is copied."""
        return self.batch_size == len(self.y)

    def at(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch ``number`` (from 0) of every member: x [P, B, ...], y [P, B].

        Valid until the next call, which makes its batch in the same memory. The caller may write into x, unless it
        :attr:`is_whole`.
        """
        if self.is_whole:
            return self.x.expand(len(self.seeds), *self.x.shape), self.y.expand(len(self.seeds), -1)
        rows = self._rows(number)
        if self.drawn.numel() == 0:
            self.drawn = self.x.new_empty(len(rows), *self.x.shape[1:])
        torch.index_select(self.x, 0, rows, out=self.drawn)
        return self.drawn.view(len(self.seeds), self.batch_size, *self.x.shape[1:]), self.labels[
            number % self.per_epoch
        ]

    def first(self, number: int, examples: int) -> Tensor:
        """The inputs of the first ``examples`` of batch ``number``, [P, examples, ...]; :meth:`at` stays valid."""
        if self.is_whole:
            return self.x[:examples].expand(len(self.seeds), examples, *self.x.shape[1:])
        rows = self._rows(number).view(len(self.seeds), -1)[:, :examples].reshape(-1)
        return self.x.index_select(0, rows).view(len(self.seeds), examples, *self.x.shape[1:])

    def _rows(self, number: int) -> Tensor:
        """Which examples batch ``number`` consists of, [P·B]."""
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self.epoch:
            used = self.per_epoch * self.batch_size
            orders = [generator(seed, self.stream, epoch).permutation(len(self.y))[:used] for seed in self.seeds]
            order = torch.from_numpy(np.stack(orders)).to(self.y.device)
            rows = order.view(-1, self.per_epoch, self.batch_size).transpose(0, 1).contiguous()
            self.labels = self.y[rows].unbind()
            self.batches = rows.flatten(1).unbind()
            self.epoch = epoch
        return self.batches[position]
