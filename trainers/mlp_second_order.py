"""Second derivatives of stacked perceptrons, by sweeps of the R-operator (Pearlmutter, 1994).

Notation as in :mod:`trainers.mlp`; a dot is the derivative along a direction of θ, of the hyperparameters, or both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from trainers.directions import Direction
from trainers.hyperparameters import Layout

if TYPE_CHECKING:
    from trainers.mlp import Trace


def contract(trace: Trace, w: Direction, layout: Layout) -> Tensor:
    """<w, ∂_h ∇θ C> for every noise and smoothing column, [P, H]; 0 in the λ columns.

    Differentiates D_w C, the derivative of C along w, with respect to what each hyperparameter moves: one forward and
    one backward sweep, whatever the number of hyperparameters.
    """
    out = trace.logits.new_zeros(len(trace.labels), len(layout.names))
    last = len(trace.layers) - 1
    z_dots: list[Tensor] = []
    a_dot: Tensor | None = None
    for layer, (weight, _) in enumerate(trace.layers):
        z_dot = w[layer].times(trace.inputs[layer]).add_(w[layer].bias.unsqueeze(1))
        if a_dot is not None:
            z_dot = z_dot.baddbmm_(a_dot, weight.transpose(1, 2))
        z_dots.append(z_dot)
        if layer < last:
            a_dot = z_dot * trace.slopes[layer]
    batch = trace.labels.shape[1]
    if (column := layout.label_smoothing) is not None:
        out[:, column] = (label_slope(trace.labels, trace.logits) * z_dots[-1]).sum((1, 2)) / batch
    delta_dot = _softmax_dot(trace.probabilities, z_dots[-1]).div_(batch)
    for layer in range(last, -1, -1):
        weight, delta = trace.layers[layer][0], trace.deltas[layer]
        column, epsilon = _noise_column(layout, layer), trace.noise[layer]
        if layer == 0:
            if column is not None and epsilon is not None:  # <δ̇ W + δ w, ε> without forming the 784-wide product
                along = torch.bmm(epsilon, weight.transpose(1, 2)).mul_(delta_dot)
                out[:, column] += along.addcmul_(w[0].times(epsilon), delta).sum((1, 2))
            break
        a_bar_dot = w[layer].back(delta).baddbmm_(delta_dot, weight)  # derivative along w of ∂C/∂a_l
        if column is not None and epsilon is not None:
            out[:, column] += (a_bar_dot * epsilon).sum((1, 2))
        delta_dot = a_bar_dot.mul_(trace.slopes[layer - 1])
        if trace.activation == "tanh":  # φ'' = -2 φ φ'
            delta_dot.addcmul_(trace.deltas[layer - 1], trace.activations[layer - 1] * z_dots[layer - 1], value=-2)
    return out


class LayerTangent(NamedTuple):
    """The tangents of ∂C/∂W and ∂C/∂b of one layer, for H directions of each member, as sums of products."""

    layer: int
    inputs: Tensor  # a [P·H, m, in]
    delta_dot: Tensor  # δ̇ [P·H, m, out]
    deltas: Tensor  # δ [P·H, m, out]
    a_dot: Tensor | None  # ȧ [P·H, m, in]; None in the first layer, whose inputs only noise moves:
    noise: tuple[int, Tensor, Tensor] | None  # its column; δ times the column's weight [P, m, out]; ε [P, m, in]

    def add_to(self, weight: Tensor, bias: Tensor, beta: float, alpha: float) -> None:
        """``beta`` times what is there plus ``alpha`` times the tangents, in place on [P·H, out, in] and [P·H, out]."""
        weight.baddbmm_(self.delta_dot.transpose(1, 2), self.inputs, beta=beta, alpha=alpha)
        if self.a_dot is not None:
            weight.baddbmm_(self.deltas.transpose(1, 2), self.a_dot, alpha=alpha)
        elif self.noise is not None:
            column, delta, epsilon = self.noise
            own = weight.view(len(delta), -1, *weight.shape[1:])[:, column]
            own.baddbmm_(delta.transpose(1, 2), epsilon, alpha=alpha)
        if beta == 0:
            torch.sum(self.delta_dot, 1, out=bias).mul_(alpha)
        else:
            bias.mul_(beta).add_(self.delta_dot.sum(1), alpha=alpha)


def tangents(
    trace: Trace,
    z: list[tuple[Tensor, Tensor]],
    examples: int,
    layout: Layout,
    direct: Tensor | None,
    fade: float = 1.0,
) -> Iterator[LayerTangent]:
    """``fade`` ∇²θ C z_h + ``direct``_h ∂_h ∇θ C on the first ``examples`` of the batch, from the last layer down.

    ``z`` holds H directions of each member layer by layer, [P·H, out, in] and [P·H, out]; once the tangent of a layer
    is given, it is not looked at there any more. ``direct`` [P, H] weighs the second term; None leaves it out. The λ
    columns get no direct part here.
    """
    members, m = len(trace.labels), examples
    directions = len(z[0][0]) // members
    scale = trace.labels.shape[1] / examples
    last = len(trace.layers) - 1

    def part(t: Tensor) -> Tensor:
        return t[:, :m]

    def each(t: Tensor) -> Tensor:  # [P, m, d] → [P·H, m, d]
        return t[:, None, :m].expand(members, directions, m, t.shape[2]).reshape(members * directions, m, -1)

    def fold(t: Tensor) -> Tensor:  # [P·H, m, d] → [P, H·m, d]: one product with the member's own weights
        return t.view(members, directions * m, -1)

    def weights(column: int) -> Tensor:
        assert direct is not None
        return direct[:, column, None, None]

    def moved_by(layer: int) -> tuple[int, Tensor] | None:  # the column whose noise acts on a_l, and its ε
        column, epsilon = _noise_column(layout, layer), trace.noise[layer]
        return (column, part(epsilon)) if direct is not None and column is not None and epsilon is not None else None

    z_dots: list[Tensor] = []
    a_dots: list[Tensor | None] = []
    a_dot: Tensor | None = None
    inputs = [each(a) for a in trace.inputs]
    for layer, (weight, _) in enumerate(trace.layers):
        z_weight, z_bias = z[layer]
        z_dot = torch.baddbmm(z_bias.unsqueeze(1), inputs[layer], z_weight.transpose(1, 2), beta=fade, alpha=fade)
        noise = moved_by(layer)
        if a_dot is not None:
            if noise is not None:
                by, epsilon = noise
                a_dot.view(members, directions, m, -1)[:, by].addcmul_(epsilon, weights(by))
            fold(z_dot).baddbmm_(fold(a_dot), weight.transpose(1, 2))
        elif noise is not None:
            by, epsilon = noise
            moved = torch.bmm(epsilon, weight.transpose(1, 2))
            z_dot.view(members, directions, m, -1)[:, by].addcmul_(moved, weights(by))
        a_dots.append(a_dot)
        z_dots.append(z_dot)
        if layer < last:
            a_dot = z_dot * each(trace.slopes[layer])
    delta_dot = _softmax_dot(each(trace.probabilities), z_dots[-1]).contiguous()
    if direct is not None and (column := layout.label_smoothing) is not None:
        slope = label_slope(part(trace.labels), trace.logits)
        delta_dot.view(members, directions, m, -1)[:, column].addcmul_(slope, weights(column))
    delta_dot.div_(m)
    for layer in range(last, -1, -1):
        own, deltas, noise = delta_dot, each(trace.deltas[layer]).mul(scale), moved_by(0) if layer == 0 else None
        if layer:
            delta_dot = torch.bmm(fold(delta_dot), trace.layers[layer][0]).view(members * directions, m, -1)
            delta_dot.baddbmm_(deltas, z[layer][0], alpha=fade).mul_(each(trace.slopes[layer - 1]))
            if trace.activation == "tanh":
                bend = each(trace.activations[layer - 1]) * z_dots[layer - 1]
                delta_dot.addcmul_(each(trace.deltas[layer - 1]), bend, value=-2 * scale)
        drawn = None
        if noise is not None:
            by, epsilon = noise
            drawn = by, part(trace.deltas[0]) * (scale * weights(by)), epsilon
        yield LayerTangent(layer, inputs[layer], own, deltas, a_dots[layer], drawn)


def label_slope(labels: Tensor, logits: Tensor) -> Tensor:
    """-∂q/∂s = onehot - 1/classes, [P, B, classes]."""
    classes = logits.shape[2]
    share = 1 / classes
    return logits.new_full((*labels.shape, classes), -share).scatter_(2, labels.unsqueeze(2), 1 - share)


def _noise_column(layout: Layout, layer: int) -> int | None:
    """The column of the noise on a_l."""
    return layout.hidden_noise[layer - 1] if layer else layout.input_noise


def _softmax_dot(p: Tensor, z_dot: Tensor) -> Tensor:
    """The derivative of softmax(z) along ż: p ∘ (ż - <p, ż>)."""
    return p * (z_dot - (p * z_dot).sum(2, keepdim=True))
