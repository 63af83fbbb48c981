"""Directions w in the θ-space of stacked perceptrons, layer by layer, and their products with other tensors.

A gradient of B examples is a sum of B outer products, w_W = δᵀ a. A product with w can be taken in two ways: by the
[B, B] Gram products of these factors, or with the weight-shaped matrix w_W, which has to be formed first. The first is
cheaper where B is small beside the layer, the second where B is large. Each layer of a direction is held in the cheaper
form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainers.networks.base import Descent


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The two factors of a layer's gradient, ∂C/∂W = δᵀ a."""

    a: Tensor  # [P, B, in]
    delta: Tensor  # [P, B, out]


@dataclass(frozen=True, kw_only=True)
class Formed:
    """One layer of w entry by entry."""

    weight: Tensor  # [P, out, in]
    bias: Tensor  # [P, out]

    def times(self, a: Tensor) -> Tensor:
        """a wᵀ."""
        return torch.bmm(a, self.weight.transpose(1, 2))

    def back(self, delta: Tensor) -> Tensor:
        """δ w."""
        return torch.bmm(delta, self.weight)

    def dots(self, layer: int, weight: Tensor, bias: Tensor, since: Descent | None) -> list[Tensor]:
        """<w, θ> over W and over b of this layer, [P] each."""
        return [(self.weight * weight).sum((1, 2)), (self.bias * bias).sum(1)]


@dataclass(frozen=True, kw_only=True)
class Factored:
    """One layer of w as δᵀ a, never formed."""

    factors: Factors
    bias: Tensor  # [P, out], δ summed over the batch
    z: Tensor | None  # a W'ᵀ + b' with the W' and b' that w was taken at, right wherever δ is not 0, [P, B, out]
    bias_there: Tensor  # b' [P, out]
    grams: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # see :meth:`_gram`

    def times(self, a: Tensor) -> Tensor:
        """a wᵀ."""
        return torch.bmm(self._gram("a", a, self.factors.a), self.factors.delta)

    def back(self, delta: Tensor) -> Tensor:
        """δ w."""
        return torch.bmm(self._gram("delta", delta, self.factors.delta), self.factors.a)

    def dots(self, layer: int, weight: Tensor, bias: Tensor, since: Descent | None) -> list[Tensor]:
        """<w, θ> over W and over b of this layer, [P] each.

        In general this takes a product with W. It takes none where the step from θ to the θ' of w is known, because
        θ = (θ' + η ∂C/∂θ) / (1 - η 10^λ). There <w, W'> = Σ δ ∘ a W'ᵀ = Σ δ ∘ (z - b'), and <w, ∂C/∂W> =
        Σ (a₁ aᵀ) ∘ (δ₁ δᵀ) follows from Gram products that the sweeps along w need too.
        """
        delta = self.factors.delta
        if since is None or self.z is None:
            on_weight = torch.bmm(self.factors.a, weight.transpose(1, 2)).mul_(delta).sum((1, 2))
            return [on_weight, (self.bias * bias).sum(1)]
        on_bias = (self.bias * self.bias_there).sum(1)
        on_weight = (delta * self.z).sum((1, 2)) - on_bias
        if since.trace is not None:
            a, step_delta = since.trace.inputs[layer], since.trace.deltas[layer]
            keep = 1 - since.rate * since.strengths[:, 2 * layer : 2 * layer + 2]  # of W and of b
            grams = self._gram("a", a, self.factors.a) * self._gram("delta", step_delta, delta)
            on_weight = (on_weight + since.rate * grams.sum((1, 2))) / keep[:, 0]
            on_bias = (on_bias + since.rate * (self.bias * step_delta.sum(1)).sum(1)) / keep[:, 1]
        return [on_weight, on_bias]

    def _gram(self, kind: str, left: Tensor, right: Tensor) -> Tensor:
        """left rightᵀ [P, B, B]. The latest of its kind is kept, because the dots and the sweeps ask for the same."""
        if kind not in self.grams or self.grams[kind][0] is not left:
            self.grams[kind] = left, torch.bmm(left, right.transpose(1, 2))
        return self.grams[kind][1]


LayerDirection = Formed | Factored
Direction = list[LayerDirection]


def gradient_direction(factors: Factors, z: Tensor | None, bias_there: Tensor) -> LayerDirection:
    """∂C/∂W and ∂C/∂b of one layer in the cheaper form, by the multiplications of :meth:`times` and :meth:`back`."""
    rows, (out, fan_in) = factors.a.shape[1], (factors.delta.shape[2], factors.a.shape[2])
    bias = factors.delta.sum(1)
    if 2 * rows * (fan_in + out) < 3 * fan_in * out:
        return Factored(factors=factors, bias=bias, z=z, bias_there=bias_there)
    return Formed(weight=torch.bmm(factors.delta.transpose(1, 2), factors.a), bias=bias)


def dots(w: Direction, layers: list[tuple[Tensor, Tensor]], since: Descent | None) -> Tensor:
    """Σ w_j θ_j over W and b of each layer of θ, [P, 2 · layers]; ``since`` led from θ to where w was taken."""
    parts = enumerate(zip(w, layers, strict=True))
    return torch.stack([dot for layer, (part, theta) in parts for dot in part.dots(layer, *theta, since)], dim=1)
