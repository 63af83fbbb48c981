"""Which examples and which noise each member sees at each step: functions of its seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainers.seeding import Stream, generator, step_seed, stream_key


class Order:
    """Mini-batches of each member's own shuffled epochs over shared data; an incomplete last batch is left out."""

    def __init__(self, x: Tensor, y: Tensor, seeds: Sequence[int], stream: Stream, batch_size: int) -> None:
        self.x, self.y = x, y
        self.seeds, self.stream = seeds, stream
        self.batch_size = batch_size or len(y)
        self.per_epoch = len(y) // self.batch_size
        self.epoch = -1
        self.order = torch.empty(0)

    def at(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch ``number`` (from 0) of every member: x [P, B, ...], y [P, B]."""
        if self.batch_size == len(self.y):  # the whole set: its order makes no difference
            return self.x.expand(len(self.seeds), *self.x.shape), self.y.expand(len(self.seeds), -1)
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self.epoch:
            orders = [generator(seed, self.stream, epoch).permutation(len(self.y)) for seed in self.seeds]
            self.order = torch.stack([torch.from_numpy(order) for order in orders]).to(self.y.device)
            self.epoch = epoch
        rows = self.order[:, position * self.batch_size : (position + 1) * self.batch_size].reshape(-1)
        lead = (len(self.seeds), self.batch_size)
        return self.x.index_select(0, rows).view(*lead, *self.x.shape[1:]), self.y.index_select(0, rows).view(lead)


def noise_steps(device: torch.device) -> int:
    """For how many steps noise is drawn at once: on a GPU a launch costs more than the draw."""
    return 16 if device.type == "cuda" else 1


class Noise:
    """Standard normal draws for every noise site of every member."""

    def __init__(
        self, seeds: Sequence[int], shapes: Sequence[tuple[int, ...] | None], batch_size: int, like: Tensor
    ) -> None:
        self.keys = [[stream_key(seed, Stream.NOISE, site) for site in range(len(shapes))] for seed in seeds]
        self.shapes, self.batch_size, self.like = shapes, batch_size, like
        self.block = noise_steps(like.device)
        self.generator = torch.Generator(like.device)
        self.drawn = -1
        self.values: list[Tensor | None] = []

    def at(self, step: int) -> list[Tensor | None]:
        """ε of inner step ``step`` for each site: [P, B, *shape], or None where there is no noise."""
        block, offset = divmod(step, self.block)
        if block != self.drawn:
            self.values = [
                None if shape is None else self._draw(site, shape, block) for site, shape in enumerate(self.shapes)
            ]
            self.drawn = block
        return [None if value is None else value[:, offset] for value in self.values]

    def _draw(self, site: int, shape: tuple[int, ...], block: int) -> Tensor:
        out = self.like.new_empty(len(self.keys), self.block, self.batch_size, *shape)
        for member, keys in enumerate(self.keys):
            out[member].normal_(generator=self.generator.manual_seed(step_seed(keys[site], block)))
        return out
