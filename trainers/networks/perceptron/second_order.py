"""Second derivatives of stacked perceptrons, by sweeps of the R-operator (Pearlmutter, 1994).

The notation is that of :mod:`trainers.networks.perceptron.trace`. A dot is the derivative along a direction of θ, of
the hyperparameters, or of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.hyperparameters import Layout
from trainers.networks.perceptron.directions import Direction
from trainers.networks.perceptron.trace import Layers, Trace, label_slope
from trainers.noise import folded, whole


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
        column, epsilon = layout.noise[layer], trace.noise[layer]
        if layer == 0:
            if column is not None and epsilon is not None:  # <δ̇ W + δ w, ε> without forming the 784-wide product
                half = epsilon.shape[1]
                along = torch.bmm(epsilon, weight.transpose(1, 2)).mul_(folded(delta_dot, half))
                out[:, column] += along.addcmul_(w[0].times(epsilon), folded(delta, half)).sum((1, 2))
            break
        a_bar_dot = w[layer].back(delta).baddbmm_(delta_dot, weight)  # derivative along w of ∂C/∂a_l
        if column is not None and epsilon is not None:
            out[:, column] += (folded(a_bar_dot, epsilon.shape[1]) * epsilon).sum((1, 2))
        delta_dot = a_bar_dot.mul_(trace.slopes[layer - 1])
        if trace.activation == "tanh":  # φ'' = -2 φ φ'
            delta_dot.addcmul_(trace.deltas[layer - 1], trace.activations[layer - 1] * z_dots[layer - 1], value=-2)
    return out


@dataclass(frozen=True, kw_only=True)
class LayerTangent:
    """The tangents of ∂C/∂W and ∂C/∂b of one layer, for H directions of each member: Σ lᵀ r, and a vector."""

    layer: int
    factors: list[tuple[Tensor, Tensor]]  # l [P·H, m, out]; r [P·H, m, in], or [P, m, in] where the directions share it
    bias: Tensor  # [P·H, out]
    own: tuple[int, Tensor, Tensor] | None = None  # one direction's further lᵀ r: which, l [P, m, out], r [P, m, in]

    def add_to(self, weight: Tensor, bias: Tensor, *, beta: float, alpha: float) -> None:
        """``beta`` times what is there plus ``alpha`` times the tangents, in place on [P·H, out, in] and [P·H, out]."""
        keep = beta
        for left, right in self.factors:
            for target, part in zip(_split(weight, len(right)), _split(left, len(right)), strict=True):
                target.baddbmm_(part.transpose(1, 2), right, beta=keep, alpha=alpha)
            keep = 1
        if self.own is not None:
            direction, left, right = self.own
            _split(weight, len(right))[direction].baddbmm_(left.transpose(1, 2), right, alpha=alpha)
        if beta == 0:  # what is there may be no number
            torch.mul(self.bias, alpha, out=bias)
        else:
            bias.mul_(beta).add_(self.bias, alpha=alpha)


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """What the forward and the backward sweep share: H directions of each of P members, and m examples of a batch."""

    trace: Trace
    z: Layers  # the directions, [P·H, out, in] and [P·H, out]
    layout: Layout
    columns: tuple[int, ...]  # of the hyperparameters that the directions belong to
    direct: Tensor | None  # [P, H]
    fade: float
    members: int  # P
    m: int

    def part(self, t: Tensor) -> Tensor:
        """The first m examples."""
        return t[:, : self.m]

    def each(self, t: Tensor) -> Tensor:
        """The first m examples for each direction, [P, B, d] → [P·H, m, d]."""
        directions = len(self.z[0][0]) // self.members
        return self.part(t).unsqueeze(1).expand(-1, directions, -1, -1).flatten(0, 1)

    def fold(self, t: Tensor) -> Tensor:
        """[P·H, m, d] → [P, H·m, d]: one product with the member's own weights."""
        return t.view(self.members, -1, t.shape[2])

    def weights(self, direction: int) -> Tensor:
        """How much the direct part of a direction counts, [P, 1, 1]."""
        assert self.direct is not None
        return self.direct[:, direction, None, None]

    def direction(self, column: int | None) -> int | None:
        """The direction whose direct part is that of a hyperparameter; None where none is wanted."""
        return None if self.direct is None or column not in self.columns else self.columns.index(column)

    def noise(self, layer: int) -> tuple[int, Tensor] | None:
        """The direction of the noise that acts on a_l, and its ε as the trace has it; None for no direct part."""
        direction, epsilon = self.direction(self.layout.noise[layer]), self.trace.noise[layer]
        if direction is None or epsilon is None:
            return None
        return direction, epsilon


def tangents(
    trace: Trace,
    z: Layers,
    examples: int,
    layout: Layout,
    *,
    columns: tuple[int, ...] = (),
    direct: Tensor | None,
    fade: float = 1.0,
) -> Iterator[LayerTangent]:
    """``fade`` ∇²θ C z_h + ``direct``_h ∂_h ∇θ C on the first ``examples`` of the batch, from the last layer down.

    ``z`` holds H directions of each member layer by layer, [P·H, out, in] and [P·H, out]. Direction h belongs to the
    hyperparameter in column ``columns``[h]. ``direct`` [P, H] weighs the second term; None leaves it out. The λs get no
    direct part here. Of a mirrored trace, ``examples`` are all.
    """
    members = len(trace.labels)
    sweep = _Sweep(
        trace=trace, z=z, layout=layout, columns=columns, direct=direct, fade=fade, members=members, m=examples
    )
    # The first inputs, as a rule the widest, are the same for all directions and are not copied for each.
    inputs = [sweep.part(trace.inputs[0]), *map(sweep.each, trace.inputs[1:])]
    z_dots, a_dots = _forward(sweep, inputs)
    delta_dot = _last_delta_dot(sweep, z_dots[-1])
    scale = trace.labels.shape[1] / examples
    for layer in range(len(trace.layers) - 1, 0, -1):
        here, deltas = delta_dot, sweep.each(trace.deltas[layer]).mul(scale)
        delta_dot = torch.bmm(sweep.fold(delta_dot), trace.layers[layer][0]).view(len(here), examples, -1)
        delta_dot.baddbmm_(deltas, z[layer][0], alpha=fade).mul_(sweep.each(trace.slopes[layer - 1]))
        if trace.activation == "tanh":  # φ'' = -2 φ φ'
            bend = sweep.each(trace.activations[layer - 1]) * z_dots[layer - 1]
            delta_dot.addcmul_(sweep.each(trace.deltas[layer - 1]), bend, value=-2 * scale)
        factors = [(here, inputs[layer]), (deltas, a_dots[layer - 1])]
        yield LayerTangent(layer=layer, factors=factors, bias=here.sum(1))
    yield _first_tangent(sweep, delta_dot, inputs[0], scale)


def _forward(sweep: _Sweep, inputs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """ż_l of every layer and ȧ_l of every layer but the first, [P·H, m, d]."""
    z_dots, a_dots = [_first_z_dot(sweep, inputs[0])], []
    for layer in range(1, len(inputs)):
        a_dot = z_dots[-1] * sweep.each(sweep.trace.slopes[layer - 1])
        if (noise := sweep.noise(layer)) is not None:
            direction, epsilon = noise
            _split(a_dot, sweep.members)[direction].addcmul_(whole(epsilon, sweep.m), sweep.weights(direction))
        a_dots.append(a_dot)
        z_weight, z_bias = sweep.z[layer][0].transpose(1, 2), sweep.z[layer][1].unsqueeze(1)
        z_dot = torch.baddbmm(z_bias, inputs[layer], z_weight, beta=sweep.fade, alpha=sweep.fade)
        sweep.fold(z_dot).baddbmm_(sweep.fold(a_dot), sweep.trace.layers[layer][0].transpose(1, 2))
        z_dots.append(z_dot)
    return z_dots, a_dots


def _first_z_dot(sweep: _Sweep, inputs: Tensor) -> Tensor:
    """ż_0 from the inputs [P, m, d], [P·H, m, out]."""
    trace, (z_weight, z_bias) = sweep.trace, sweep.z[0]
    mirror = trace.mirror
    products = [torch.bmm(inputs, w) for w in _split(z_weight.transpose(1, 2), sweep.members)]
    along = products[0] if len(products) == 1 else torch.stack(products, 1).flatten(0, 1)
    along = along if mirror is None else mirror.mixed(along)
    z_dot = along.add_(z_bias.unsqueeze(1)).mul_(sweep.fade)
    if (noise := sweep.noise(0)) is not None:
        direction, epsilon = noise
        weight = trace.layers[0][0].transpose(1, 2)
        moved = torch.bmm(whole(epsilon, sweep.m), weight) if mirror is None else mirror.moved
        _split(z_dot, sweep.members)[direction].addcmul_(moved, sweep.weights(direction))
    return z_dot


def _last_delta_dot(sweep: _Sweep, z_dot: Tensor) -> Tensor:
    """δ̇ of the last layer from its ż, [P·H, m, classes]."""
    trace = sweep.trace
    delta_dot = _softmax_dot(sweep.each(trace.probabilities), z_dot).contiguous()
    if (direction := sweep.direction(sweep.layout.label_smoothing)) is not None:
        slope = sweep.part(label_slope(trace.labels, trace.logits))
        _split(delta_dot, sweep.members)[direction].addcmul_(slope, sweep.weights(direction))
    return delta_dot.div_(sweep.m)


def _first_tangent(sweep: _Sweep, delta_dot: Tensor, inputs: Tensor, scale: float) -> LayerTangent:
    """The tangent of the first layer from its δ̇ [P·H, m, out] and inputs [P, m, d]; ``scale`` is B / m."""
    mirror, deltas = sweep.trace.mirror, sweep.trace.deltas[0]
    bias, own = delta_dot.sum(1), None
    if mirror is not None:
        delta_dot = mirror.mixed_back(delta_dot)
    if (noise := sweep.noise(0)) is not None:
        direction, epsilon = noise
        if mirror is None:
            own = direction, sweep.part(deltas) * (scale * sweep.weights(direction)), whole(epsilon, sweep.m)
        else:
            plus, minus = deltas.chunk(2, 1)
            on_epsilon = _split(delta_dot, sweep.members)[direction].chunk(2, 1)[1]
            on_epsilon.addcmul_(plus - minus, sweep.weights(direction))
    return LayerTangent(layer=0, factors=[(delta_dot, inputs)], bias=bias, own=own)


def _split(t: Tensor, members: int) -> list[Tensor]:
    """[P·H, ...] as H views [P, ...]."""
    return list(t.view(members, -1, *t.shape[1:]).unbind(1))


def _softmax_dot(p: Tensor, z_dot: Tensor) -> Tensor:
    """The derivative of softmax(z) along ż: p ∘ (ż - <p, ż>)."""
    return p * (z_dot - (p * z_dot).sum(2, keepdim=True))
