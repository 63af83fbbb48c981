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
class Undo:
    """How a layer's θ follows from the θ' at which w was taken: (θ' + η ∂C/∂θ) / keep, or θ' itself without factors."""

    factors: Factors | None = None  # of ∂C/∂W
    keep_weight: Tensor | float = 1.0  # 1 - η 10^λ, [P]
    keep_bias: Tensor | float = 1.0
    rate: float = 0.0  # η


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

    def dots(self, weight: Tensor, bias: Tensor, undo: Undo | None) -> list[Tensor]:
        """<w, θ> over W and over b, [P] each."""
        return [(self.weight * weight).sum((1, 2)), (self.bias * bias).sum(1)]


@dataclass(frozen=True, kw_only=True)
class Factored:
    """One layer of w as δᵀ a, never formed."""

    factors: Factors
    bias: Tensor  # [P, out], δ summed over the batch
    z: Tensor | None  # a W'ᵀ + b' with the W' and b' that w was taken at, right wherever δ is not 0, [P, B, out]
    bias_there: Tensor  # b' [P, out]
    kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def times(self, a: Tensor) -> Tensor:
        """a wᵀ."""
        return torch.bmm(self._gram("a", a, self.factors.a), self.factors.delta)

    def back(self, delta: Tensor) -> Tensor:
        """δ w."""
        return torch.bmm(self._gram("delta", delta, self.factors.delta), self.factors.a)

    def dots(self, weight: Tensor, bias: Tensor, undo: Undo | None) -> list[Tensor]:
        """<w, θ> over W and over b, [P] each.

        In general this takes a product with W. With ``undo`` it takes none: <w, W'> = Σ δ ∘ a W'ᵀ = Σ δ ∘ (z - b'), and
        <w, ∂C/∂W> = Σ (a₁ aᵀ) ∘ (δ₁ δᵀ) follows from Gram products that the sweeps along w need too.
        """
        delta = self.factors.delta
        if undo is None or self.z is None:
            return [
                torch.bmm(self.factors.a, weight.transpose(1, 2)).mul_(delta).sum((1, 2)),
                (self.bias * bias).sum(1),
            ]
        on_bias = (self.bias * self.bias_there).sum(1)
        on_weight = (delta * self.z).sum((1, 2)) - on_bias
        if (step := undo.factors) is not None:
            grams = self._gram("a", step.a, self.factors.a) * self._gram("delta", step.delta, delta)
            on_weight = (on_weight + undo.rate * grams.sum((1, 2))) / undo.keep_weight
            on_bias = (on_bias + undo.rate * (self.bias * step.delta.sum(1)).sum(1)) / undo.keep_bias
        return [on_weight, on_bias]

    def _gram(self, kind: str, left: Tensor, right: Tensor) -> Tensor:
        """left rightᵀ [P, B, B]. The latest of its kind is kept, because the dots and the sweeps ask for the same."""
        if kind not in self.kept or self.kept[kind][0] is not left:
            self.kept[kind] = left, torch.bmm(left, right.transpose(1, 2))
        return self.kept[kind][1]


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
    out: list[Tensor] = []
    for layer, (part, (weight, bias)) in enumerate(zip(w, layers, strict=True)):
        undo = None if since is None else Undo()
        if since is not None and since.trace is not None:
            undo = Undo(
                factors=since.trace.factors(layer),
                keep_weight=since.keep[:, 2 * layer],
                keep_bias=since.keep[:, 2 * layer + 1],
                rate=since.rate,
            )
        out += part.dots(weight, bias, undo)
    return torch.stack(out, dim=1)
