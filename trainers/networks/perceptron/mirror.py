"""Examples taken twice, with their input noise ε and with -ε, without a product taken twice.

The inputs of the first layer are [x + n ε; x - n ε] = M [x; ε], M of 2 x 2 blocks: a product with their weights is M
times that of [x; ε], a gradient is that of Mᵀ δ with [x; ε], and ε W serves for the derivative by n as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Mirror(NamedTuple):
    """How a batch of m examples was mirrored; below, t is [P·H, 2 m, out], H tensors for each member."""

    std: Tensor  # n [P, 1, 1]
    moved: Tensor  # the derivative by n of what the first layer makes of it, ε Wᵀ and then -ε Wᵀ [P, 2 m, out]

    def mixed(self, t: Tensor) -> Tensor:
        """M t."""
        upper, lower = self._halves(t)
        lower = self.std.unsqueeze(1) * lower
        return torch.cat([upper + lower, upper - lower], 2).flatten(0, 1)

    def mixed_back(self, t: Tensor) -> Tensor:
        """Mᵀ t."""
        upper, lower = self._halves(t)
        return torch.cat([upper + lower, self.std.unsqueeze(1) * (upper - lower)], 2).flatten(0, 1)

    def _halves(self, t: Tensor) -> tuple[Tensor, Tensor]:
        upper, lower = t.view(len(self.std), -1, *t.shape[1:]).chunk(2, 2)
        return upper, lower


def mirrored_affine(pair: Tensor, std: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Mirror]:
    """What a layer of weight [P, out, in] and bias [P, out] makes of M ``pair``, ``pair`` [x; ε] [P, 2 m, in]."""
    products = torch.bmm(pair, weight.transpose(1, 2))
    moved = products.chunk(2, 1)[1]
    mirror = Mirror(std, torch.cat([moved, -moved], 1))
    return mirror.mixed(products).add_(bias.unsqueeze(1)), mirror
