"""P multilayer perceptrons of one shape as one stacked network, with every derivative in closed form.

No autograd graph is built: an ordinary step is a handful of batched matrix products. The notation is that of
:mod:`trainers.networks.perceptron.trace`.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from trainers.config import ModelConfig
from trainers.hyperparameters import Layout, Parameter
from trainers.networks.base import Descent, Draws
from trainers.networks.perceptron import second_order
from trainers.networks.perceptron.directions import Direction, Factors, Formed, dots, gradient_direction
from trainers.networks.perceptron.trace import Layers, Trace, affine, linearise, log_softmax, logits_of
from trainers.seeding import Stream, generator

EVALUATION_ROWS = 8192  # examples times members in one chunk of an evaluation: bounds its memory


def parameters_of(input_size: int, hidden: tuple[int, ...], classes: int) -> tuple[Parameter, ...]:
    """The parameter tensors of an MLP in the order of θ."""
    table: list[Parameter] = []
    widths = (input_size, *hidden, classes)
    start = 0
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
        for name, shape in ((f"{layer}.weight", (fan_out, fan_in)), (f"{layer}.bias", (fan_out,))):
            table.append(Parameter(name=name, shape=shape, layer=layer, start=start))
            start = table[-1].stop
    return tuple(table)


class StackedMLP:
    """P perceptrons side by side. See :class:`trainers.networks.base.Network`."""

    def __init__(self, model: ModelConfig, input_size: int, classes: int, layout: Layout) -> None:
        self.layout, self.activation = layout, model.activation
        self.parameters = parameters_of(input_size, model.hidden, classes)
        self.size = self.parameters[-1].stop
        widths = zip((input_size, *model.hidden), layout.noise, strict=True)
        self.viewed: tuple[Tensor, Layers] | None = None  # the latest of :meth:`views`: most ask for θ's again
        self.set: tuple[Tensor, list[Tensor | None], Tensor | None] | None = None  # the latest of :meth:`_settings`
        self.noise_shapes: list[tuple[int, ...] | None] = [(w,) if column is not None else None for w, column in widths]

    @property
    def example_size(self) -> int:
        """Those of x and a_0, and of a, z, φ' and δ of every layer."""
        return 2 * self.parameters[0].shape[1] + 4 * sum(bias.shape[0] for bias in self.parameters[1::2])

    def initial(self, seed: int) -> Tensor:
        """Uniform in ±1/√fan_in, as ``torch.nn.Linear`` does by default."""
        draw = generator(seed, Stream.WEIGHTS)
        parts = []
        for weight, bias in zip(self.parameters[::2], self.parameters[1::2], strict=True):
            bound = 1 / math.sqrt(weight.shape[1])
            parts += [draw.uniform(-bound, bound, weight.shape).ravel(), draw.uniform(-bound, bound, bias.shape)]
        return torch.cat([torch.from_numpy(part) for part in parts])

    def views(self, flat: Tensor) -> Layers:
        """(W_l, b_l) of every layer as views of ``flat`` [M, N]: shapes [M, out, in] and [M, out]."""
        viewed = self.viewed  # of its own, because another thread may train with this network, too
        if viewed is None or viewed[0] is not flat:
            parts = torch.split(flat, list(self.layout.sizes), dim=1)
            weights = (part.view(len(flat), *p.shape) for part, p in zip(parts[::2], self.parameters[::2], strict=True))
            self.viewed = viewed = flat, list(zip(weights, parts[1::2], strict=True))
        return viewed[1]

    def linearise(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        h: Tensor | None = None,
        noise: Draws = (),
        *,
        mirrored: bool = False,
        overwrite: bool = False,
    ) -> Trace:
        noise = noise or [None] * len(self.layout.noise)
        stds, smoothing = self._settings(h)
        return linearise(
            self.views(theta),
            self.activation,
            x=x,
            labels=y,
            noise=noise,
            stds=stds,
            smoothing=smoothing,
            mirrored=mirrored,
            overwrite=overwrite,
        )

    def _settings(self, h: Tensor | None) -> tuple[list[Tensor | None], Tensor | None]:
        """n_l of each layer and s as :func:`trainers.networks.perceptron.trace.linearise` wants them."""
        columns, label = self.layout.noise, self.layout.label_smoothing
        if h is None:
            return [None] * len(columns), None
        latest = self.set
        if latest is None or latest[0] is not h:
            stds = [None if c is None else h[:, c, None, None] for c in columns]
            self.set = latest = h, stds, None if label is None else h[:, label, None, None]
        return latest[1:]

    def loss(self, trace: Trace) -> Tensor:
        return -log_softmax(trace.logits).gather(2, trace.labels.unsqueeze(2)).mean((1, 2))

    def gradient(self, trace: Trace) -> Tensor:
        out = trace.logits.new_empty(len(trace.labels), self.size)
        for (weight, bias), a, delta in zip(self.views(out), trace.inputs, trace.deltas, strict=True):
            torch.bmm(delta.transpose(1, 2), a, out=weight)
            torch.sum(delta, 1, out=bias)
        return out

    def sgd_step(self, theta: Tensor, trace: Trace, strength: Tensor, rate: float, out: Tensor) -> None:
        """(1 - η s) θ - η δᵀ a; ∇θ C is not formed."""
        torch.mul(theta, torch.rsub(strength, 1, alpha=rate), out=out)
        layers = trace.layers if out is theta else self.views(out)
        for (weight, bias), a, delta in zip(layers, trace.inputs, trace.deltas, strict=True):
            weight.baddbmm_(delta.transpose(1, 2), a, alpha=-rate)
            bias.sub_(delta.sum(1), alpha=rate)

    def scaled_gradient(self, trace: Trace, scale: Tensor | float) -> Direction:
        if isinstance(scale, Tensor):
            return self.direction(scale * self.gradient(trace))
        # δ is 0 where φ'(z) = 0, so that of a rectified z φ(z) serves as well; tanh leaves nothing of z.
        z = [*(trace.activations if self.activation == "relu" else [None] * len(trace.activations)), trace.logits]
        return [
            gradient_direction(Factors(a=a, delta=scale * delta), z_l, bias)
            for a, delta, z_l, (_, bias) in zip(trace.inputs, trace.deltas, z, trace.layers, strict=True)
        ]

    def direction(self, w: Tensor) -> Direction:
        return [Formed(weight=weight, bias=bias) for weight, bias in self.views(w)]

    def dots(self, theta: Tensor, w: Direction, since: Descent | None = None) -> Tensor:
        """To know the step from θ to where w was taken spares products."""
        return dots(w, self.views(theta), since)

    def mixed_vjp(self, trace: Trace, w: Direction) -> Tensor:
        return second_order.mixed_vjp(trace, w, self.layout)

    def tangent(
        self,
        trace: Trace,
        z: Tensor,
        examples: int,
        *,
        columns: tuple[int, ...] = (),
        direct: Tensor | None = None,
        out: Tensor,
        beta: float = 0.0,
        alpha: float = 1.0,
        fade: float = 1.0,
    ) -> None:
        layers, into = self.views(z.view(-1, self.size)), self.views(out.view(-1, self.size))
        parts = second_order.tangents(trace, layers, examples, self.layout, columns=columns, direct=direct, fade=fade)
        for part in parts:
            part.add_to(*into[part.layer], beta=beta, alpha=alpha)

    def evaluate(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, wrong = theta.new_zeros(2, len(theta))
        rows = max(1, EVALUATION_ROWS // len(theta))
        for xs, ys in zip(torch.split(x, rows), torch.split(y, rows), strict=True):
            a = xs.expand(len(theta), *xs.shape)
            *hidden, last = self.views(theta)
            for weight, bias in hidden:
                a = affine(a, weight, bias)
                a = a.relu_() if self.activation == "relu" else a.tanh_()
            log_p, labels = log_softmax(logits_of(a, *last)), ys.expand(len(theta), -1)
            loss -= log_p.gather(2, labels.unsqueeze(2)).sum((1, 2))
            wrong += (log_p.argmax(2) != labels).sum(1)
        return loss / len(y), wrong / len(y)
