"""Second derivatives of stacked perceptrons, by sweeps of the R-operator (Pearlmutter, 1994).

Notation as in ``network``; a dot is the derivative along a direction of θ, of the hyperparameters, or both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from trainers.hyperparameters import Layout
from trainers.networks.perceptron.directions import Direction

if TYPE_CHECKING:
    from trainers.networks.perceptron.network import Trace


def mixed_vjp(trace: Trace, w: Direction, layout: Layout) -> Tensor:
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
    """The tangents of ∂C/∂W and ∂C/∂b of one layer, for H directions of each member: Σ lᵀ r, and a vector."""

    layer: int
    factors: list[tuple[Tensor, Tensor]]  # l [P·H, m, out]; r [P·H, m, in], or [P, m, in] where the directions share it
    own: tuple[int, Tensor, Tensor] | None  # one direction has lᵀ r besides: which, l [P, m, out], r [P, m, in]
    bias: Tensor  # [P·H, out]

    def add_to(self, weight: Tensor, bias: Tensor, beta: float, alpha: float) -> None:
        """``beta`` times what is there plus ``alpha`` times the tangents, in place on [P·H, out, in] and [P·H, out]."""
        keep = beta
        for left, right in self.factors:
            for target, part in zip(_split(weight, len(right)), _split(left, len(right)), strict=True):
                target.baddbmm_(part.transpose(1, 2), right, beta=keep, alpha=alpha)
            keep = 1
        if self.own is not None:
            direction, left, right = self.own
            _split(weight, len(right))[direction].baddbmm_(left.transpose(1, 2), right, alpha=alpha)
        if beta == 0:
            torch.mul(self.bias, alpha, out=bias)
        else:
            bias.mul_(beta).add_(self.bias, alpha=alpha)


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
    columns get no direct part here. Of a mirrored trace, ``examples`` are all.
    """
    members, m, mirror = len(trace.labels), examples, trace.mirror
    directions = len(z[0][0]) // members
    scale = trace.labels.shape[1] / examples
    last = len(trace.layers) - 1

    def part(t: Tensor) -> Tensor:
        return t[:, :m]

    def each(t: Tensor) -> Tensor:  # [P, m, d] → [P·H, m, d]
        return t[:, None, :m].expand(members, directions, *part(t).shape[1:]).flatten(0, 1)

    def fold(t: Tensor) -> Tensor:  # [P·H, m, d] → [P, H·m, d]: one product with the member's own weights
        return t.view(members, directions * m, -1)

    def weights(column: int) -> Tensor:
        assert direct is not None
        return direct[:, column, None, None]

    def moved_by(layer: int) -> tuple[int, Tensor] | None:  # the column whose noise acts on a_l, and its ε
        column, epsilon = _noise_column(layout, layer), trace.noise[layer]
        return (column, part(epsilon)) if direct is not None and column is not None and epsilon is not None else None

    z_dots: list[Tensor] = []
    a_dots: list[Tensor] = []
    inputs = [part(trace.inputs[0]), *map(each, trace.inputs[1:])]  # the first, the widest as a rule, without copies
    for layer, (weight, _) in enumerate(trace.layers):
        z_weight, z_bias = z[layer][0].transpose(1, 2), z[layer][1].unsqueeze(1)
        noise = moved_by(layer)
        if layer == 0:
            along = torch.stack([torch.bmm(inputs[0], w) for w in _split(z_weight, members)], 1).flatten(0, 1)
            along = along if mirror is None else mirror.mixed(along)
            z_dot = along.add_(z_bias).mul_(fade)
            if noise is not None:
                by, epsilon = noise
                moved = torch.bmm(epsilon, weight.transpose(1, 2)) if mirror is None else mirror.moved
                _split(z_dot, members)[by].addcmul_(moved, weights(by))
        else:
            a_dot = z_dots[-1] * each(trace.slopes[layer - 1])
            if noise is not None:
                by, epsilon = noise
                _split(a_dot, members)[by].addcmul_(epsilon, weights(by))
            a_dots.append(a_dot)
            z_dot = torch.baddbmm(z_bias, inputs[layer], z_weight, beta=fade, alpha=fade)
            fold(z_dot).baddbmm_(fold(a_dot), weight.transpose(1, 2))
        z_dots.append(z_dot)
    delta_dot = _softmax_dot(each(trace.probabilities), z_dots[-1]).contiguous()
    if direct is not None and (column := layout.label_smoothing) is not None:
        _split(delta_dot, members)[column].addcmul_(part(label_slope(trace.labels, trace.logits)), weights(column))
    delta_dot.div_(m)
    for layer in range(last, 0, -1):
        here, deltas = delta_dot, each(trace.deltas[layer]).mul(scale)
        delta_dot = torch.bmm(fold(delta_dot), trace.layers[layer][0]).view(members * directions, m, -1)
        delta_dot.baddbmm_(deltas, z[layer][0], alpha=fade).mul_(each(trace.slopes[layer - 1]))
        if trace.activation == "tanh":
            bend = each(trace.activations[layer - 1]) * z_dots[layer - 1]
            delta_dot.addcmul_(each(trace.deltas[layer - 1]), bend, value=-2 * scale)
        yield LayerTangent(layer, [(here, inputs[layer]), (deltas, a_dots[layer - 1])], None, here.sum(1))
    bias, drawn = delta_dot.sum(1), None
    if mirror is not None:
        delta_dot = mirror.mixed_back(delta_dot)
    if (noise := moved_by(0)) is not None:
        by, epsilon = noise
        if mirror is None:
            drawn = by, part(trace.deltas[0]) * (scale * weights(by)), epsilon
        else:
            plus, minus = trace.deltas[0].chunk(2, 1)
            _split(delta_dot, members)[by].chunk(2, 1)[1].addcmul_(plus - minus, weights(by))
    yield LayerTangent(0, [(delta_dot, inputs[0])], drawn, bias)


def _split(t: Tensor, members: int) -> list[Tensor]:
    """[P·H, ...] as H views [P, ...]."""
    return list(t.view(members, -1, *t.shape[1:]).unbind(1))


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
