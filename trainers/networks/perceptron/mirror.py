"""Examples taken twice, with their input noise ε and with -ε, without a product taken twice.

The inputs of the first layer are [x + n ε; x - n ε] = M [x; ε], where M consists of 2 x 2 blocks. So a product with the
weights is M times that of [x; ε], and a gradient is the product of Mᵀ δ with [x; ε]. Half of the first product, ε Wᵀ,
serves for the derivative by n as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Mirror:
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
    mirror = Mirror(std=std, moved=torch.cat([moved, -moved], 1))
    return mirror.mixed(products).add_(bias.unsqueeze(1)), mirror
