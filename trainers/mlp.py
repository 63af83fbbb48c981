"""P multilayer perceptrons of one shape as one stacked network, with every derivative in closed form.

No autograd graph is built: an ordinary step is a handful of batched matrix products. Notation, for each member: layer
l (from 0) computes z_l = a_l W_lᵀ + b_l; a_0 = x + n_0 ε_0 and a_{l+1} = φ(z_l) + n_{l+1} ε_{l+1}; δ_l = ∂C/∂z_l. C is
the mean cross-entropy of the softmax of the last z with targets q = (1 - s)·onehot + s/classes. The derivative of any
of these in a direction is written with a dot (the R-operator of Pearlmutter, 1994).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import ModelConfig
from trainers.directions import Batch, Direction, Formed, dots, gradient_direction
from trainers.hyperparameters import Layout, Parameter
from trainers.network import Descent
from trainers.seeding import Stream, generator

EVALUATION_ROWS = 8192  # examples times members in one chunk of an evaluation: bounds its memory


@dataclass
class Trace:
    """What one forward and backward pass leaves behind, at θ; enough for every further derivative of that batch."""

    inputs: list[Tensor]  # a_l [P, B, d_l]
    slopes: list[Tensor]  # φ'(z_l) of each hidden layer [P, B, d_{l+1}]
    activations: list[Tensor]  # φ(z_l), before noise
    deltas: list[Tensor]  # δ_l [P, B, d_{l+1}]
    logits: Tensor  # the last z [P, B, classes]
    probabilities: Tensor  # their softmax
    labels: Tensor  # [P, B]
    noise: list[Tensor | None]  # ε_l [P, B, d_l]
    layers: list[tuple[Tensor, Tensor]]  # views of the θ that it was taken at

    def batch(self, layer: int) -> Batch:
        """The factors of ∂C/∂W_l."""
        return Batch(self.inputs[layer], self.deltas[layer])


def parameters_of(input_size: int, hidden: tuple[int, ...], classes: int) -> tuple[Parameter, ...]:
    """The parameter tensors of an MLP in the order of θ."""
    table: list[Parameter] = []
    widths = (input_size, *hidden, classes)
    start = 0
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
        for name, shape in ((f"{layer}.weight", (fan_out, fan_in)), (f"{layer}.bias", (fan_out,))):
            table.append(Parameter(name, shape, layer, start))
            start = table[-1].stop
    return tuple(table)


class StackedMLP:
    """P perceptrons side by side; every method takes θ as one tensor [P, N]."""

    def __init__(self, model: ModelConfig, input_size: int, classes: int, layout: Layout) -> None:
        self.layout = layout
        self.classes = classes
        self.activation = model.activation
        self.parameters = parameters_of(input_size, model.hidden, classes)
        self.size = self.parameters[-1].stop
        self.layers = len(model.hidden) + 1
        self.noise_shapes: Sequence[tuple[int, ...] | None] = [
            (width,) if column is not None else None
            for width, column in zip(
                (input_size, *model.hidden), (layout.input_noise, *layout.hidden_noise), strict=True
            )
        ]

    @property
    def example_size(self) -> int:
        """About how many numbers a traced example takes: x and a_0, and a, z, φ' and δ of every layer."""
        inputs, *widths = [p.shape[1] for p in self.parameters[::2]] + [self.classes]
        return 2 * inputs + 4 * sum(widths)

    def initial(self, seed: int) -> Tensor:
        """θ of one member, [N] in float64: uniform in ±1/√fan_in, as ``torch.nn.Linear`` does by default."""
        draw = generator(seed, Stream.WEIGHTS)
        parts = []
        for weight, bias in zip(self.parameters[::2], self.parameters[1::2], strict=True):
            bound = 1 / math.sqrt(weight.shape[1])
            parts += [draw.uniform(-bound, bound, weight.shape).ravel(), draw.uniform(-bound, bound, bias.shape)]
        return torch.cat([torch.from_numpy(part) for part in parts])

    def views(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(W_l, b_l) of every layer as views of ``flat`` [M, N]: shapes [M, out, in] and [M, out]."""
        parts = torch.split(flat, list(self.layout.sizes), dim=1)
        weights = (part.view(len(flat), *p.shape) for part, p in zip(parts[::2], self.parameters[::2], strict=True))
        return list(zip(weights, parts[1::2], strict=True))

    def linearise(
        self, theta: Tensor, x: Tensor, y: Tensor, h: Tensor | None = None, noise: list[Tensor | None] | None = None
    ) -> Trace:
        """One forward and backward pass over batches x [P, B, d], y [P, B]; without ``h`` and ``noise`` it is clean."""
        noise = noise or [None] * self.layers
        columns = (self.layout.input_noise, *self.layout.hidden_noise)
        a = x
        inputs, slopes, activations = [], [], []
        views = self.views(theta)
        for layer, (weight, bias) in enumerate(views):
            if (epsilon := noise[layer]) is not None and h is not None:
                a = torch.addcmul(a, epsilon, h[:, columns[layer], None, None])
            inputs.append(a)
            if layer == self.layers - 1:
                logits = _logits(a, weight, bias)
            elif self.activation == "relu":
                a = torch.baddbmm(bias.unsqueeze(1), a, weight.transpose(1, 2)).relu_()
                slopes.append(a.sign())
                activations.append(a)
            else:
                a = torch.baddbmm(bias.unsqueeze(1), a, weight.transpose(1, 2)).tanh_()
                slopes.append(1 - a * a)
                activations.append(a)
        p = _softmax(logits)
        delta = p.scatter_add(2, y.unsqueeze(2), logits.new_tensor(-1.0).expand(*y.shape, 1))
        if h is not None and (column := self.layout.label_smoothing) is not None:
            delta.addcmul_(self._label_slope(y, p), h[:, column, None, None])
        delta.div_(x.shape[1])
        deltas = [delta]
        for layer in range(self.layers - 1, 0, -1):
            delta = torch.bmm(delta, views[layer][0]).mul_(slopes[layer - 1])
            deltas.append(delta)
        return Trace(inputs, slopes, activations, deltas[::-1], logits, p, y, noise, views)

    def loss(self, trace: Trace) -> Tensor:
        """Mean cross-entropy of the traced batch against the labels, [P]."""
        return -_log_softmax(trace.logits).gather(2, trace.labels.unsqueeze(2)).mean((1, 2))

    def gradient(self, trace: Trace) -> Tensor:
        """∇θ C of the traced batch, [P, N]."""
        out = trace.logits.new_empty(len(trace.labels), self.size)
        for (weight, bias), a, delta in zip(self.views(out), trace.inputs, trace.deltas, strict=True):
            torch.bmm(delta.transpose(1, 2), a, out=weight)
            torch.sum(delta, 1, out=bias)
        return out

    def descend(self, theta: Tensor, trace: Trace, strength: Tensor, rate: float) -> None:
        """θ ← θ - η (∇θ C + s θ) = (1 - η s) θ - η δᵀ a in place, s the strength of the penalty; ∇θ C is not formed."""
        theta.mul_(1 - rate * strength)
        for (weight, bias), a, delta in zip(trace.layers, trace.inputs, trace.deltas, strict=True):
            weight.baddbmm_(delta.transpose(1, 2), a, alpha=-rate)
            bias.sub_(delta.sum(1), alpha=rate)

    def scaled_gradient(self, trace: Trace, scale: Tensor | float) -> Direction:
        """scale ∘ ∇θ C of the traced batch as a direction."""
        if isinstance(scale, Tensor):
            return self.direction(scale * self.gradient(trace))
        # δ is 0 where φ'(z) = 0, so that of a rectified z φ(z) serves as well; tanh leaves nothing of z.
        z = [*(trace.activations if self.activation == "relu" else [None] * len(trace.activations)), trace.logits]
        return [
            gradient_direction(Batch(a, scale * delta), z_l, bias)
            for a, delta, z_l, (_, bias) in zip(trace.inputs, trace.deltas, z, trace.layers, strict=True)
        ]

    def direction(self, w: Tensor) -> Direction:
        """The direction w [P, N]."""
        return [Formed(weight, bias) for weight, bias in self.views(w)]

    def dots(self, theta: Tensor, w: Direction, since: Descent | None = None) -> Tensor:
        """Σ w_j θ_j over each of the K parameter tensors, [P, K]; to know the step from θ to w spares products."""
        return dots(w, self.views(theta), since)

    def contract(self, theta: Tensor, trace: Trace, w: Direction) -> Tensor:
        """<w, ∂_h ∇θ C> for every noise and smoothing column, [P, H]; 0 in the λ columns.

        Differentiates D_w C, the derivative of C along w, with respect to what each hyperparameter moves: one forward
        and one backward sweep of the R-operator, whatever the number of hyperparameters.
        """
        out = theta.new_zeros(len(theta), len(self.layout.names))
        views = self.views(theta)
        z_dots: list[Tensor] = []
        a_dot: Tensor | None = None
        for layer, (weight, _) in enumerate(views):
            z_dot = w[layer].times(trace.inputs[layer]).add_(w[layer].bias.unsqueeze(1))
            if a_dot is not None:
                z_dot = z_dot.baddbmm_(a_dot, weight.transpose(1, 2))
            z_dots.append(z_dot)
            if layer < self.layers - 1:
                a_dot = z_dot * trace.slopes[layer]
        batch = trace.labels.shape[1]
        if (column := self.layout.label_smoothing) is not None:
            slope = self._label_slope(trace.labels, trace.logits)
            out[:, column] = (slope * z_dots[-1]).sum((1, 2)) / batch
        delta_dot = _softmax_dot(trace.probabilities, z_dots[-1]).div_(batch)
        for layer in range(self.layers - 1, -1, -1):
            weight, delta = views[layer][0], trace.deltas[layer]
            column = self.layout.hidden_noise[layer - 1] if layer else self.layout.input_noise
            epsilon = trace.noise[layer]
            if layer == 0:
                if column is not None and epsilon is not None:  # <δ̇ W + δ w, ε> without forming the 784-wide product
                    out[:, column] += torch.bmm(epsilon, weight.transpose(1, 2)).mul_(delta_dot).sum((1, 2))
                    out[:, column] += w[0].times(epsilon).mul_(delta).sum((1, 2))
                break
            a_bar_dot = w[layer].back(delta).baddbmm_(delta_dot, weight)  # derivative along w of ∂C/∂a_l
            if column is not None and epsilon is not None:
                out[:, column] += (a_bar_dot * epsilon).sum((1, 2))
            delta_dot = a_bar_dot.mul_(trace.slopes[layer - 1])
            if self.activation == "tanh":  # φ'' = -2 φ φ'
                delta_dot.addcmul_(trace.deltas[layer - 1], trace.activations[layer - 1] * z_dots[layer - 1], value=-2)
        return out

    def tangent(self, theta: Tensor, trace: Trace, z: Tensor, examples: int, with_direct: bool = True) -> Tensor:
        """∇²θ C · z_h + ∂_h ∇θ C for each of H directions z [P, H, N], on the first ``examples`` of the batch.

        The mean over a part of the batch is an unbiased estimate of the mean over all of it. ``with_direct=False``
        leaves ∂_h ∇θ C out (plain Hessian-vector products; H is then free). The λ columns get no direct part here.
        """
        members, directions, _ = z.shape
        m, scale = examples, trace.labels.shape[1] / examples
        views = self.views(theta)
        z_views = self.views(z.view(members * directions, self.size))
        out = torch.empty_like(z)
        out_views = self.views(out.view(members * directions, self.size))

        def part(t: Tensor) -> Tensor:
            return t[:, :m]

        def each(t: Tensor) -> Tensor:  # [P, m, d] → [P·H, m, d]
            return t[:, None, :m].expand(members, directions, m, t.shape[2]).reshape(members * directions, m, -1)

        def fold(t: Tensor) -> Tensor:  # [P·H, m, d] → [P, H·m, d]: one product with the member's own weights
            return t.view(members, directions * m, -1)

        columns = (self.layout.input_noise, *self.layout.hidden_noise) if with_direct else (None,) * self.layers
        z_dots: list[Tensor] = []
        a_dots: list[Tensor | None] = []
        a_dot: Tensor | None = None
        for layer, (weight, _) in enumerate(views):
            z_weight, z_bias = z_views[layer]
            z_dot = torch.baddbmm(z_bias.unsqueeze(1), each(trace.inputs[layer]), z_weight.transpose(1, 2))
            column, epsilon = columns[layer], trace.noise[layer]
            if a_dot is not None:
                if column is not None and epsilon is not None:
                    a_dot.view(members, directions, m, -1)[:, column].add_(part(epsilon))
                fold(z_dot).baddbmm_(fold(a_dot), weight.transpose(1, 2))
            elif column is not None and epsilon is not None:
                z_dot.view(members, directions, m, -1)[:, column].baddbmm_(part(epsilon), weight.transpose(1, 2))
            a_dots.append(a_dot)
            z_dots.append(z_dot)
            if layer < self.layers - 1:
                a_dot = z_dot * each(trace.slopes[layer])
        delta_dot = _softmax_dot(each(trace.probabilities), z_dots[-1]).contiguous()
        if with_direct and (column := self.layout.label_smoothing) is not None:
            delta_dot.view(members, directions, m, -1)[:, column].add_(self._label_slope(part(trace.labels), theta))
        delta_dot.div_(m)
        for layer in range(self.layers - 1, -1, -1):
            weight, (z_weight, _), (out_weight, out_bias) = views[layer][0], z_views[layer], out_views[layer]
            torch.bmm(delta_dot.transpose(1, 2), each(trace.inputs[layer]), out=out_weight)
            torch.sum(delta_dot, 1, out=out_bias)
            if (a_dot := a_dots[layer]) is not None:
                out_weight.baddbmm_(each(trace.deltas[layer]).transpose(1, 2), a_dot, alpha=scale)
            elif (column := columns[layer]) is not None and (epsilon := trace.noise[layer]) is not None:
                first = out_weight.view(members, directions, *weight.shape[1:])[:, column]
                first.baddbmm_(part(trace.deltas[layer]).transpose(1, 2), part(epsilon), alpha=scale)
            if layer == 0:
                break
            delta_dot = torch.bmm(fold(delta_dot), weight).view(members * directions, m, -1)
            delta_dot.baddbmm_(each(trace.deltas[layer]), z_weight, alpha=scale).mul_(each(trace.slopes[layer - 1]))
            if self.activation == "tanh":
                bend = each(trace.activations[layer - 1]) * z_dots[layer - 1]
                delta_dot.addcmul_(each(trace.deltas[layer - 1]), bend, value=-2 * scale)
        return out

    def _label_slope(self, labels: Tensor, like: Tensor) -> Tensor:
        """-∂q/∂s = onehot - 1/classes, [P, B, classes]."""
        share = 1 / self.classes
        return like.new_full((*labels.shape, self.classes), -share).scatter_(2, labels.unsqueeze(2), 1 - share)

    def evaluate(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Clean mean cross-entropy and error of every member on shared data x [M, d], y [M]: two tensors [P]."""
        loss = theta.new_zeros(len(theta))
        wrong = theta.new_zeros(len(theta))
        rows = max(1, EVALUATION_ROWS // len(theta))
        for xs, ys in zip(torch.split(x, rows), torch.split(y, rows), strict=True):
            a = xs.expand(len(theta), *xs.shape)
            *hidden, last = self.views(theta)
            for weight, bias in hidden:
                a = torch.baddbmm(bias.unsqueeze(1), a, weight.transpose(1, 2))
                a = a.relu_() if self.activation == "relu" else a.tanh_()
            log_p, labels = _log_softmax(_logits(a, *last)), ys.expand(len(theta), -1)
            loss -= log_p.gather(2, labels.unsqueeze(2)).sum((1, 2))
            wrong += (log_p.argmax(2) != labels).sum(1)
        return loss / len(y), wrong / len(y)


def _logits(a: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """a Wᵀ + b, [P, B, classes], laid out with the examples last."""
    return torch.baddbmm(bias.unsqueeze(2), weight, a.transpose(1, 2)).transpose(1, 2)


def _softmax(z: Tensor) -> Tensor:
    """Over the classes; torch's is several times quicker across a long inner dimension than along a short last one."""
    return torch.softmax(z.transpose(1, 2), 1).transpose(1, 2)


def _log_softmax(z: Tensor) -> Tensor:
    """The same."""
    return torch.log_softmax(z.transpose(1, 2), 1).transpose(1, 2)


def _softmax_dot(p: Tensor, z_dot: Tensor) -> Tensor:
    """The derivative of softmax(z) along ż: p ∘ (ż - <p, ż>)."""
    return p * (z_dot - (p * z_dot).sum(2, keepdim=True))
